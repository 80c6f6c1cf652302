"""Korean particles whose form depends on whether the word before ends in a consonant."""

PAIRS = ("을/를", "이/가", "은/는", "아/야", "과/와", "으로/로", "이라/라", "이나/나", "이에요/예요", "이란/란")

_DIGITS_WITH_FINAL = "013678"
_LATIN_WITH_FINAL = "lmnrLMNR"
_RIEUL = 8


def choose(pair: str, before: str) -> str:
    """The form of `pair` after the text `before`; closing quotes and brackets are not heard."""
    with_final, without = pair.split("/")
    final = _final(before)
    if pair == "으로/로" and final == _RIEUL:
        return without
    return with_final if final else without


def _final(text: str) -> int:
    """The number of the final consonant of the last sound, 0 for none."""
    last = text.rstrip("\"'’”)」』 ")[-1:]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28
    if last in ("1", "7", "8", "l", "L", "r", "R"):
        return _RIEUL
    return 1 if last and last in _DIGITS_WITH_FINAL + _LATIN_WITH_FINAL else 0
