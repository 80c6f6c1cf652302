"""Separates the thought of a reasoning model from its answer, in the text of one reply.

A reasoning model writes a thought before its answer. The thought may contain drafts of the answer, and a parser that
reads both would take a draft for the answer. So every reply passes through `separate_thought` before any parser
(`app.providers.teacher.complete`).

The markup of the models, from their chat templates and model cards:

- `<think>`: DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax, Phi-4-reasoning, OLMo-Think and many others; templates that open
  the thought in the prompt leave a closing tag alone in the reply.
- `[THINK]`: Magistral. `<seed:think>`: Seed-OSS. `◁think▷`: Kimi-VL. `<thought>`: EXAONE Deep, Marco-o1.
- `<|START_THINKING|>`: Command A Reasoning. `<|begin_of_thought|>`: OpenThinker, Sky-T1. `<|inner_prefix|>`: Apertus.
- channels: gpt-oss ("Harmony"), whole or with its special tokens removed; Gemma's `<|channel>thought`.
- "Here is my thought process:": Granite 3.2. `<details type="reasoning">`: proxies that write HTML.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from app.synth.types import Reply, Usage


@dataclass(frozen=True)
class SplitText:
    """A reply in two parts.

    Attributes:
        thought: The thought, without its markup; "" when there is none.
        answer: What remains for the parsers.
        is_cut: The thought was opened and not closed, so that there is no answer.
    """

    thought: str
    answer: str
    is_cut: bool = False


def separate_thought(reply: Reply, schema_keys: Collection[str] = (), opened_in_prompt: bool = False) -> Reply:
    """Return the reply with its thought in a field of its own. A second call changes nothing.

    The text as it came remains in `raw_text`. Where the server does not count the tokens of the thought, its share of
    the completion's tokens is estimated by the lengths of thought and answer.

    Args:
        reply: A reply whose thought may stand in its text, or in its field already.
        schema_keys: The keys of the reply's schema: a tag of such a name is a part of the answer.
        opened_in_prompt: The teacher's template opens the thought.
    """
    # A reply that ended at the token limit, without a closing marker, may be a thought only. A server that returns the
    # thought in a field of its own has removed it from the text, so the text is then no thought.
    is_cut_thought = opened_in_prompt and not reply.thought and reply.finish_reason == "length"
    split = split_thought(reply.text, schema_keys, is_cut_thought)
    if not split.thought and not reply.thought and split.answer == reply.text:
        return reply
    thought = "\n\n".join(part for part in (reply.thought, split.thought) if part)
    raw_text = reply.raw_text if split.answer == reply.text else reply.text
    usage = _with_thought_tokens(reply.usage, thought, split.answer)
    return replace(reply, text=split.answer, thought=thought, raw_text=raw_text, usage=usage)


def _with_thought_tokens(usage: Usage, thought: str, answer: str) -> Usage:
    if usage.thought or not thought:
        return usage
    share = len(thought) / (len(thought) + len(answer))
    return replace(usage, thought=round(usage.completion * share))


@dataclass(frozen=True)
class _Markup:
    """A pair of markers. `strict`: no ordinary answer begins a line with the opening marker.

    The opening marker of a strict markup is recognised at the start of every line, the other only at the start of the
    text. Only strict markups are recognised by a closing marker alone.
    """

    opening: str
    closing: str
    strict: bool = True

    @property
    def tag(self) -> str:
        """Return the name of an XML tag, by which a key of a schema is recognised; "" for other markers."""
        name = re.fullmatch(r"<(\w+)>", self.opening)
        return name.group(1).lower() if name else ""


_MARKUPS = (
    _Markup("<think>", "</think>"),
    _Markup("&lt;think&gt;", "&lt;/think&gt;"),
    _Markup("[THINK]", "[/THINK]"),
    _Markup("<seed:think>", "</seed:think>"),
    _Markup("◁think▷", "◁/think▷"),
    _Markup("<|begin_of_thought|>", "<|end_of_thought|>"),
    _Markup("<|START_THINKING|>", "<|END_THINKING|>"),
    _Markup("<|inner_prefix|>", "<|inner_suffix|>"),
    _Markup("<|channel>thought", "<channel|>"),
    _Markup("<thinking>", "</thinking>", strict=False),
    _Markup("<thought>", "</thought>", strict=False),
    _Markup("<reasoning>", "</reasoning>", strict=False),
    _Markup("<antThinking>", "</antThinking>", strict=False),
    _Markup('<details type="reasoning" done="true">', "</details>", strict=False),
    _Markup("Here is my thought process:", "Here is my response:", strict=False),
)
# What some models write around the answer itself, after their thought.
_ANSWER_MARKUPS = (
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),
    ("<output>", "</output>"),
    ("Here is my response:", ""),
)
_HARMONY = re.compile(
    r"(?:<\|start\|>)?(?:assistant)?<\|channel\|>(\w+)[^<]*<\|message\|>(.*?)(?=<\|(?:end|return|call|start)\|>|\Z)"
    r"(?:<\|(?:end|return|call)\|>)?",
    re.DOTALL,
)
# The same without special tokens, as servers show it that skip them.
_BARE_HARMONY = re.compile(r"\A\s*analysis(?P<thought>.*?)assistant\s*final(?P<answer>.*)\Z", re.DOTALL)
_FENCE = re.compile(r"^\s*(```|~~~)", re.MULTILINE)


def split_thought(text: str, schema_keys: Collection[str] = (), opened_in_prompt: bool = False) -> SplitText:
    """Separate the thought from the answer. Splitting the answer once more changes nothing.

    Args:
        text: The text of a reply, as it came.
        schema_keys: The keys of the reply's schema: a tag of such a name is a part of the answer.
        opened_in_prompt: The teacher's template opens the thought, so that a reply without a closing marker is a
            thought that was cut.

    Returns:
        The thought and the answer. Several thoughts are joined by an empty line.
    """
    if "<|channel|>" in text:
        return _split_channels(text)
    if bare := _BARE_HARMONY.match(text):
        return SplitText(bare["thought"].strip(), bare["answer"].strip())
    keys = {key.lower() for key in schema_keys}
    markups = [markup for markup in _MARKUPS if not markup.tag or markup.tag not in keys]
    thoughts, answer, is_cut = _take_thoughts(text, markups, opened_in_prompt)
    if not thoughts and not is_cut and answer == text:
        return SplitText("", text)
    answer = _unwrap_answer(answer.strip(), keys)
    return SplitText("\n\n".join(part for part in thoughts if part), answer, is_cut)


def _take_thoughts(text: str, markups: list[_Markup], opened_in_prompt: bool) -> tuple[list[str], str, bool]:
    """Return the thoughts, the answer, and whether the last thought was cut."""
    thoughts: list[str] = []
    # The place of a closing marker without an opening one before it.
    orphan = _find_orphan_closing(text, markups)
    if orphan is None and opened_in_prompt and not _find_opening(text, markups, is_thinker=True):
        return [text.strip()], "", True
    rest, before, is_cut = text, "", False
    while True:
        if orphan:
            # What stands before it belongs to the thought: it was opened in the prompt, or closed twice.
            start, markup = orphan
            thoughts.append(rest[:start].strip())
            rest = rest[start + len(markup.closing) :]
        elif opening := _find_opening(rest, markups, is_thinker=bool(thoughts)):
            start, markup = opening
            before, inner = rest[:start].strip(), rest[start + len(markup.opening) :]
            end = _find_closing(inner, markup)
            if before:
                thoughts.append(before)
            thoughts.append(inner[:end].strip() if end >= 0 else inner.strip())
            rest, is_cut = (inner[end + len(markup.closing) :], False) if end >= 0 else ("", True)
        else:
            break
        orphan = _find_orphan_closing(rest, markups)
    if not rest.strip() and before:
        # Nothing follows the last thought, so the text before it is the answer.
        thoughts.reverse()
        thoughts.remove(before)
        thoughts.reverse()
        return thoughts, before, False
    return thoughts, rest, is_cut


def _find_orphan_closing(text: str, markups: list[_Markup]) -> tuple[int, _Markup] | None:
    """Return the first closing marker before which nothing was opened, outside code; only strict markup has one."""
    lowered = text.lower()
    for markup in markups:
        end = lowered.find(markup.closing.lower()) if markup.strict else -1
        opening = lowered.find(markup.opening.lower())
        if end >= 0 and not 0 <= opening < end and not _is_code(text, end):
            return end, markup
    return None


def _find_opening(text: str, markups: list[_Markup], is_thinker: bool) -> tuple[int, _Markup] | None:
    """Return the first opening marker that begins the text, or a line of it where the markup is strict.

    A model that has thought before (`is_thinker`) may open a further thought in any markup.
    """
    candidates = []
    lowered = text.lower()
    for markup in markups:
        marker = markup.opening.lower()
        start = lowered.find(marker)
        while start >= 0:
            before = text[:start]
            begins_text, begins_line = not before.strip(), not before.rpartition("\n")[2].strip()
            # A line of code may begin with the marker, too: such an answer explains the markup.
            if begins_text or (begins_line and (markup.strict or is_thinker) and not _is_code(text, start)):
                candidates.append((start, markup))
                break
            start = lowered.find(marker, start + 1)
    return min(candidates, key=lambda candidate: candidate[0], default=None)


def _is_code(text: str, position: int) -> bool:
    """Return whether the position stands inside a fenced block or in backquotes."""
    is_fenced = len(_FENCE.findall(text[:position])) % 2 == 1
    return is_fenced or text[position - 1 : position] == "`"


def _find_closing(text: str, markup: _Markup) -> int:
    """Return the offset of the closing marker that balances an opening before the text; the last one if none does."""
    lowered, opening, closing = text.lower(), markup.opening.lower(), markup.closing.lower()
    depth, position, end = 1, 0, -1
    while depth:
        end = lowered.find(closing, position)
        if end < 0:
            return lowered.rfind(closing)
        depth += lowered.count(opening, position, end) - 1
        position = end + len(closing)
    return end


def _split_channels(text: str) -> SplitText:
    """Split Harmony's channels: `final` is the answer, all others are thought."""
    thoughts, answers = [], []
    prefix = text[: text.find("<|channel|>")].removesuffix("assistant").removesuffix("<|start|>").strip()
    for channel in _HARMONY.finditer(text):
        (answers if channel[1] == "final" else thoughts).append(channel[2].strip())
    if not answers and prefix:
        answers.append(prefix)
    return SplitText("\n\n".join(thoughts), "\n\n".join(answers), is_cut=not answers)


def _unwrap_answer(answer: str, keys: set[str]) -> str:
    """Remove the markers around a whole answer, unless they are a part of the reply's schema."""
    for opening, closing in _ANSWER_MARKUPS:
        name = re.fullmatch(r"<(\w+)>", opening)
        if name and name.group(1) in keys:
            continue
        if answer.startswith(opening):
            inner = answer[len(opening) :].strip()
            if not closing or inner.endswith(closing):
                return inner.removesuffix(closing).strip() if closing else inner
    return answer
