"""Word lists of the rule scores, by language.

Every language is compared with the English list, too, and with its own where there is one.
"""

from functools import lru_cache

import regex

REFUSAL_OPENERS = {
    "en": (
        *(
            "i'm sorry, but",
            "i am sorry, but",
            "i'm sorry, i",
            "sorry, but i",
            "sorry, i can",
            "i can't help",
            "i can't assist",
        ),
        *("i cannot help", "i cannot assist", "i can't do that", "i won't help", "i won't assist", "i'm unable to"),
        *(
            "i am unable to",
            "i'm not able to",
            "i am not able to",
            "i must decline",
            "i can't provide",
            "i cannot provide",
        ),
        *("unfortunately, i cannot", "unfortunately, i can't", "i apologize, but", "i apologise, but"),
        *("i can't fulfil", "i cannot fulfil", "i cannot comply", "i can't comply", "as an ai, i can"),
    ),
}
# An apology alone is no refusal in Korean, where letters and dialogues open with one. The pattern therefore also asks
# for a form of "can not".
KOREAN_REFUSAL = (
    r"^(죄송|미안|유감|안타깝).{0,40}(수(가|는)? 없|못 |못해|어렵|어려워|곤란|불가능)|"
    r"^.{0,30}(도와드릴|도와 드릴|도울|답변드릴|답변할|들어드릴|처리할|제공할|제공해 드릴|알려드릴) 수(가|는)? 없"
)

# Phrases of assistants that say nothing about the task; a model that is tuned on them repeats them.
BOILERPLATE_OPENERS = {
    "en": (
        *("as an ai", "as a language model", "as a large language model", "sure! here", "sure, here", "sure thing"),
        *("certainly! here", "certainly, here", "of course! here", "of course, here", "absolutely!", "great question"),
        *("here is the answer", "here's the answer", "thank you for your question", "i'd be happy to"),
    ),
    "ko": (
        *(
            "ai 언어 모델",
            "인공지능 언어 모델",
            "저는 ai",
            "저는 인공지능",
            "언어 모델로서",
            "물론입니다!",
            "물론이죠!",
            "물론이죠,",
        ),
        *("네, 알겠습니다", "네! ", "좋은 질문입니다", "질문해 주셔서 감사합니다", "다음은 요청하신"),
    ),
}

BOILERPLATE_CLOSERS = {
    "en": (
        *("i hope this helps", "hope this helps", "let me know if you have any", "let me know if you need"),
        *("feel free to ask", "is there anything else", "happy to help further"),
    ),
    "ko": (
        *(
            "도움이 되었기를 바랍니다",
            "도움이 되셨기를 바랍니다",
            "도움이 되길 바랍니다",
            "궁금한 점이 있으면 언제든지",
        ),
        *("추가 질문이 있으시면", "더 필요한 것이 있으면 말씀해"),
    ),
}

# Phrases that announce harm, matched as whole words. A text can discuss every one of these subjects without them.
HARMFUL_PHRASES = {
    "en": (
        *(
            "kill yourself",
            "kill him",
            "kill her",
            "kill them all",
            "build a bomb",
            "make a bomb",
            "pipe bomb",
            "nerve agent",
        ),
        *("meth lab", "cook meth", "child porn", "rape", "behead", "lynch", "suicide method", "ethnic cleansing"),
        *("steal a car", "credit card dump", "ransomware kit", "hire a hitman", "poison someone"),
    ),
    "ko": (
        *(
            "죽여 버려",
            "죽여버려",
            "자살 방법",
            "자해 방법",
            "폭탄 제조",
            "폭탄을 만드는",
            "필로폰 제조",
            "마약 제조",
            "아동 포르노",
        ),
        *("강간", "참수", "인종 청소", "청부 살인", "독살", "불법 촬영물", "해킹 도구를 만드는"),
    ),
}

# ruff: noqa: SIM905 - lists of words are easier to read and edit as one text
# "yes" and "no" are left out: as a whole answer each of them is complete.
STOP_WORDS = {
    "en": frozenset(
        """a about above after again all also am an and any are as at be because been before being below
        between both but by can could did do does doing don't down during each few for from further had has
        have having he her here hers him his how i if in into is it its it's just me more
        most my nor not now of off on once only or other our out over own please same she
        should so some such than that the their them then there these they this those through to too under until
        up us very was we were what when where which while who whom why will with would you your""".split()
    ),
    "ko": frozenset(
        """가 같은 것 것은 것이 것을 그 그것 그것은 그는 그런 그리고 그러나 그래서 나 나는
        내 너 는 다 다른 더 도 등 또 또는 또한 때 때문에 를 를위해
        만 및 바 수 아 아니 아주 안 에 에서 여기 와 왜 우리
        위해 으로 은 을 음 이 이것 이것은 이런 있는 있다 있습니다 입니다 저 저는 제
        좀 중 즉 지금 처럼 하는 하고 하나 하지만 한 할 함께 합니다 해 했다""".split()
    ),
}


def primary_subtag(language: str) -> str:
    """Return the language of a BCP-47 tag in lower case: `ko` for `ko-KR`."""
    return language.split("-")[0].lower()


def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of the language and of English, since English words occur in every language's data."""
    return STOP_WORDS.get(primary_subtag(language), frozenset()) | STOP_WORDS["en"]


def entries_for(lists: dict[str, tuple[str, ...]], language: str) -> tuple[str, ...]:
    """Return the entries of the language's own list, if any, and of the English list."""
    return (*lists.get(primary_subtag(language), ()), *(lists["en"] if primary_subtag(language) != "en" else ()))


def contains_word(text: str, word: str) -> bool:
    """Return whether the text contains the word as a whole word, in any case.

    A word in Hangul may be followed by a particle, so only its beginning must be a word boundary.
    """
    return _whole_word_pattern(word).search(text) is not None


# Bounded: a caller may bring words, too.
@lru_cache(maxsize=16_384)
def _whole_word_pattern(word: str) -> regex.Pattern:
    end = "" if regex.search(r"\p{Hangul}", word) else r"(?!\w)"
    return regex.compile(rf"(?<!\w){regex.escape(word)}{end}", regex.IGNORECASE)
