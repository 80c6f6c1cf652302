"""Division of texts into passages."""

# The minimum and maximum of characters, between which the splitter avoids to cut a sentence, or else a paragraph.
PASSAGE = (600, 1200)


def passages(text: str) -> list[tuple[int, str]]:
    """Divide a text into passages of 600 to 1,200 characters, between paragraphs or sentences.

    Sentences of any language end where Unicode (UAX #29) defines it.

    Returns:
        (start, passage) of each passage, `start` in characters of the text.
    """
    # Imported late: the API process has no such package, since workers and notebooks alone divide texts.
    from semantic_text_splitter import TextSplitter

    return TextSplitter(PASSAGE).chunk_indices(text)
