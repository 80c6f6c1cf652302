"""What a prompt shows and asks for: its sections, its language, how many items."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from app.simulator.protocol import ChatRequest

_TAG = re.compile(r"<([a-zA-Z][\w-]*)>(.*?)</\1>", re.DOTALL)
_NUMBERED = re.compile(r"^\s*\d+[.)]\s+(.+)$", re.MULTILINE)
_ASKED = re.compile(r"\b[Ww]rite\D{0,24}(\d+)|(\d+)\s*(?:개|가지|편|건)|작성\D{0,12}(\d+)")
_HANGUL = re.compile(r"[가-힣]")
_LATIN = re.compile(r"[A-Za-z]")
_IN_KOREAN = re.compile(r"\bin Korean\b|한국어로")
_IN_ENGLISH = re.compile(r"\bin English\b|영어로")


@dataclass(frozen=True)
class Reading:
    """The last user message with its tagged sections, and all text before it."""

    user: str
    before: str

    @cached_property
    def sections(self) -> list[tuple[str, str]]:
        """(tag, content) in the order in which they open; one section may stand in another."""
        return list(_sections(self.user))

    @cached_property
    def outside(self) -> str:
        return _TAG.sub(" ", self.user)

    def section(self, *tags: str) -> str | None:
        """The last section under one of the tags."""
        return next((content for tag, content in reversed(self.sections) if tag in tags), None)

    @cached_property
    def instruction(self) -> str | None:
        return self.section("instruction", "task", "prompt", "question")

    @cached_property
    def input(self) -> str:
        """The input that belongs to the last instruction: one of an earlier demonstration doesn't."""
        last = max((n for n, (tag, _) in enumerate(self.sections) if tag == "instruction"), default=0)
        return next((content for tag, content in self.sections[last:] if tag == "input"), "")

    @cached_property
    def demonstrations(self) -> list[str]:
        shown = self.section("demonstrations", "examples", "tasks")
        return [line.strip() for line in _NUMBERED.findall(shown)] if shown else []

    @cached_property
    def asked_count(self) -> int | None:
        found = _ASKED.search(self.outside)
        return int(next(group for group in found.groups() if group)) if found else None

    @cached_property
    def language(self) -> str:
        words = f"{self.before}\n{self.outside}"
        if _IN_KOREAN.search(words) and not _IN_ENGLISH.search(words):
            return "ko"
        if _IN_ENGLISH.search(self.outside):
            return "en"
        return language_of(self.instruction or self.section("demonstrations") or self.user)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for tag, content in _TAG.findall(text):
        yield tag.lower(), content.strip()
        yield from _sections(content)


def read(request: ChatRequest) -> Reading:
    texts = [message.text for message in request.messages]
    place = max((n for n, message in enumerate(request.messages) if message.role == "user"), default=len(texts) - 1)
    return Reading(texts[place], "\n".join(texts[:place]))


def language_of(text: str) -> str:
    """Korean where Hangul dominates; a Korean syllable says about as much as two letters."""
    return "ko" if 2 * len(_HANGUL.findall(text)) > len(_LATIN.findall(text)) else "en"
