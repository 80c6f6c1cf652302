"""Prompts, as text files in this folder: the system part, a line of three dashes, the user part with {{fields}}.

The system part is the same in all calls of a prompt and comes first, so that a provider's prompt cache can serve it.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

# Double braces, since single ones occur in JSON and in code.
FIELD = re.compile(r"\{\{(\w+)\}\}")

# A language without prompt files of its own uses the English ones, which name the language to write in.
LANGUAGE_NAMES = {
    "en": "English",
    "ko": "한국어",
    "ja": "Japanese",
    "zh": "Chinese",
    "de": "German",
    "fr": "French",
}


@dataclass(frozen=True)
class Template:
    """A prompt file.

    Attributes:
        system: the part that is the same in all calls.
        user: the part with fields.
        digest: file name and hash of the text, stored in the lineage of each row that was made with it.
    """

    name: str
    system: str
    user: str
    digest: str

    def render(self, **fields: object) -> str:
        """Return the user part with its fields filled in. Braces in a value stay as they are.

        Raises:
            ValueError: a field is missing, or the prompt has no such field.
        """
        placeholders = set(FIELD.findall(self.user))
        # Both directions count: an unused field is a typing error in the prompt or in the code.
        if placeholders != set(fields):
            raise ValueError(f"the prompt {self.name} takes the fields {sorted(placeholders)}, not {sorted(fields)}")
        return FIELD.sub(lambda match: str(fields[match.group(1)]), self.user)


# Read once for each process: every call of a run renders one of them.
@cache
def template(name: str, language: str) -> Template:
    """Load a prompt in a language, or in English where it has no file in this language.

    Args:
        name: the name of the file, without language and suffix.
        language: a BCP-47 tag.

    Raises:
        FileNotFoundError: there is no such prompt.
    """
    folder = resources.files(__name__)
    primary = language.split("-")[0].lower()
    path = folder / f"{name}.{primary}.txt"
    if not path.is_file():
        path = folder / f"{name}.en.txt"
    text = path.read_text("utf-8")
    system, user = text.split("\n---\n")
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    return Template(path.name, system.strip(), user.strip(), f"{path.name}@{digest}")


def fields_of(name: str) -> frozenset[str]:
    """Return the fields that the user part of the prompt `name` fills in, in every language.

    Raises:
        FileNotFoundError: there is no such prompt.
    """
    return frozenset(FIELD.findall(template(name, "en").user))


def with_texts(built_in: Template, name: str, system: str | None, user: str | None) -> Template:
    """Return the prompt with texts of the caller's own in the place of one or both of its parts."""
    system, user = built_in.system if system is None else system, built_in.user if user is None else user
    digest = hashlib.sha256(f"{system}\n---\n{user}".encode()).hexdigest()[:16]
    return Template(name, system, user, f"custom:{name}@{digest}")


def language_name(tag: str) -> str:
    """Return the name of a language in a prompt, by its BCP-47 tag; the tag itself where no name is listed."""
    return LANGUAGE_NAMES.get(tag.split("-")[0].lower(), f"the language with the tag {tag}")
