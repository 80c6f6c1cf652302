"""Text and thought of a message, in each form in which servers of OpenAI's protocol give them.

- `content` is a text, or a list of parts: {"type": "text", "text": ...}, and for a thought {"type": "thinking",
  "thinking": ...} (Mistral, whose thinking is again a list of parts), {"type": "reasoning", "text" or "summary": ...}.
- The thought stands in a field of its own: `reasoning_content` (DeepSeek, vLLM, SGLang, llama.cpp, LM Studio),
  `reasoning` (Ollama, OpenRouter, Groq, newer vLLM), `reasoning_details` (OpenRouter), `thinking` (some proxies).

The client does not validate messages, so a field may have any type.
"""

import json

_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_THOUGHT_TYPES = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "summary_text")
# Texts inside a part, the plainest first.
_TEXT_KEYS = ("text", "thinking", "reasoning", "content", "summary", "output_text")


def text_and_thought(message: object) -> tuple[str, str]:
    """Return the text of the message and its thought, "" where it has none."""
    texts, thoughts = _sort_parts(field_of(message, "content"))
    for name in _THOUGHT_FIELDS:
        thought = _flatten(field_of(message, name))
        # A server that renames a field often sends both names, with the same text.
        if thought and thought not in thoughts:
            thoughts.append(thought)
            break
    return "".join(texts), "\n\n".join(thoughts)


def tool_call_arguments(message: object) -> str:
    """Return the arguments of the first tool call, "" without one: some servers put a structured reply there."""
    calls = field_of(message, "tool_calls")
    call = calls[0] if isinstance(calls, list) and calls else None
    for holder in (field_of(call, "function"), field_of(message, "function_call")):
        arguments = field_of(holder, "arguments")
        if arguments:
            return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ""


def field_of(holder: object, name: str) -> object:
    """Return a field of a dict or of an object of the client; None where it is missing."""
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def _sort_parts(content: object) -> tuple[list[str], list[str]]:
    if not isinstance(content, list):
        return [_flatten(content)], []
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        is_thought = field_of(part, "type") in _THOUGHT_TYPES
        (thoughts if is_thought else texts).append(_flatten(part))
    return texts, [thought for thought in thoughts if thought]


def _flatten(value: object, depth: int = 0) -> str:
    """Return the text of a part, however deep it is packed. Numbers, images and encrypted data have none."""
    if isinstance(value, str):
        return value
    if depth > 5 or value is None:
        return ""
    if isinstance(value, list):
        return "".join(_flatten(part, depth + 1) for part in value)
    for key in _TEXT_KEYS:
        if text := _flatten(field_of(value, key), depth + 1):
            return text
    return ""
