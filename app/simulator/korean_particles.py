"""Korean particles whose form depends on whether the word before ends in a consonant."""

PAIRS = ("을/를", "이/가", "은/는", "아/야", "과/와", "으로/로", "이라/라", "이나/나", "이에요/예요", "이란/란")

# Digits are read as Sino-Korean words and letters by their English names: 3 (삼) and N (엔) end in a consonant.
_DIGITS_WITH_FINAL = "013678"
_LATIN_WITH_FINAL = "lmnrLMNR"
_RIEUL = 8


def choose_particle(pair: str, preceding_text: str) -> str:
    """Return the form of `pair` after `preceding_text`; closing quotes and brackets are not pronounced."""
    with_final, without = pair.split("/")
    consonant = _final_consonant(preceding_text)
    # "로" alone also follows a final ㄹ: 서울로, but 부산으로.
    if pair == "으로/로" and consonant == _RIEUL:
        return without
    return with_final if consonant else without


def _final_consonant(text: str) -> int:
    """Return the number of the final consonant of the last syllable as it is pronounced, 0 for none."""
    last_letter = text.rstrip("\"'’”)」』 ")[-1:]
    # Unicode orders Hangul syllables by consonant, vowel and one of 28 final consonants (0: none).
    if "가" <= last_letter <= "힣":
        return (ord(last_letter) - ord("가")) % 28
    if last_letter in ("1", "7", "8", "l", "L", "r", "R"):
        return _RIEUL
    return 1 if last_letter and last_letter in _DIGITS_WITH_FINAL + _LATIN_WITH_FINAL else 0
