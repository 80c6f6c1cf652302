"""Texts cut into passages."""

# Characters of a passage: as much as fits between the two without cutting a sentence, or a paragraph, if it can be.
PASSAGE = (600, 1200)


def passages(text: str) -> list[tuple[int, str]]:
    """Return (start, passage) of stretches of a text that follow each other, cut between paragraphs or sentences.

    Any language: sentences end where Unicode (UAX #29) says they do.
    """
    # Not part of a service that only takes uploads: workers and notebooks have it.
    from semantic_text_splitter import TextSplitter

    return TextSplitter(PASSAGE).chunk_indices(text)
