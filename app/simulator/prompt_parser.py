"""Reads a prompt: its tagged sections, its language, and the number of items that it requests."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from app.simulator.protocol import ChatRequest

# The backreference closes a section at its own tag, so that sections may be nested.
_TAG = re.compile(r"<([a-zA-Z][\w-]*)>(.*?)</\1>", re.DOTALL)
_NUMBERED = re.compile(r"^\s*\d+[.)]\s+(.+)$", re.MULTILINE)
_REQUESTED_COUNT = re.compile(r"\b[Ww]rite\D{0,24}(\d+)|(\d+)\s*(?:개|가지|편|건)|작성\D{0,12}(\d+)")
_HANGUL = re.compile(r"[가-힣]")
_LATIN = re.compile(r"[A-Za-z]")
_IN_KOREAN = re.compile(r"\bin Korean\b|한국어로")
_IN_ENGLISH = re.compile(r"\bin English\b|영어로")


@dataclass(frozen=True)
class PromptParser:
    """Reads the last user message and the text before it.

    The last message holds the task; system messages and earlier turns only set the language and the format.
    """

    user_message: str
    preceding_text: str

    @cached_property
    def sections(self) -> list[tuple[str, str]]:
        """Return (tag, content) of all sections in the order in which they open, nested sections included."""
        return list(_find_sections(self.user_message))

    @cached_property
    def untagged_text(self) -> str:
        """Return the last user message without its sections: what the prompt asks for."""
        return _TAG.sub(" ", self.user_message)

    def last_section(self, *tags: str) -> str | None:
        """Return the content of the last section with one of the tags, or None."""
        return next((content for tag, content in reversed(self.sections) if tag in tags), None)

    @cached_property
    def instruction(self) -> str | None:
        """Return the instruction that the prompt is about; demonstrations of instructions come before it."""
        return self.last_section("instruction", "task", "prompt", "question")

    @cached_property
    def input(self) -> str:
        """Return the input of the last instruction, or "". An input of an earlier demonstration does not count."""
        last = max((n for n, (tag, _) in enumerate(self.sections) if tag == "instruction"), default=0)
        return next((content for tag, content in self.sections[last:] if tag == "input"), "")

    @cached_property
    def demonstrations(self) -> list[str]:
        """Return the numbered tasks that the prompt gives as examples."""
        block = self.last_section("demonstrations", "examples", "tasks")
        return [line.strip() for line in _NUMBERED.findall(block)] if block else []

    @cached_property
    def requested_count(self) -> int | None:
        """Return how many items the prompt requests, or None. A number inside a section is data, not a request."""
        match = _REQUESTED_COUNT.search(self.untagged_text)
        return int(next(group for group in match.groups() if group)) if match else None

    @cached_property
    def language(self) -> str:
        """Return "ko" or "en": the language that the prompt requests, else the language it is written in."""
        text = f"{self.preceding_text}\n{self.untagged_text}"
        if _IN_KOREAN.search(text) and not _IN_ENGLISH.search(text):
            return "ko"
        # A system message alone does not request English: then the language of the instruction decides.
        if _IN_ENGLISH.search(self.untagged_text):
            return "en"
        return detect_language(self.instruction or self.last_section("demonstrations") or self.user_message)


def _find_sections(text: str) -> Iterator[tuple[str, str]]:
    for tag, content in _TAG.findall(text):
        yield tag.lower(), content.strip()
        yield from _find_sections(content)


def parse_prompt(request: ChatRequest) -> PromptParser:
    """Return a parser of the last user message of a chat request."""
    texts = [message.text for message in request.messages]
    # A prompt without a user message is unusual but valid; its last message takes that place.
    index = max((n for n, message in enumerate(request.messages) if message.role == "user"), default=len(texts) - 1)
    return PromptParser(texts[index], "\n".join(texts[:index]))


def detect_language(text: str) -> str:
    """Return "ko" where Hangul dominates, else "en"."""
    # A Korean syllable carries about as much as two Latin letters.
    return "ko" if 2 * len(_HANGUL.findall(text)) > len(_LATIN.findall(text)) else "en"
