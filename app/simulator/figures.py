"""Answers that must be right: each solver reads the numbers of a composition and adds the results."""

import math
from collections.abc import Mapping
from fractions import Fraction

from app.simulator.grammar import Values

WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "ko": ("월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일"),
}
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")),
    *((40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


def discount(values: Values) -> Mapping[str, str]:
    price, percent = _int(values, "price"), _int(values, "percent")
    saved = Fraction(price * percent, 100)
    return {"saved": _show(saved), "result": _show(price - saved)}


def share_bill(values: Values) -> Mapping[str, str]:
    bill, percent, people = (_int(values, name) for name in ("bill", "percent", "people"))
    tip = Fraction(bill * percent, 100)
    return {"tip": _show(tip), "total": _show(bill + tip), "result": _show((bill + tip) / people)}


def average(values: Values) -> Mapping[str, str]:
    numbers = _all(values, "n")
    result = _show(Fraction(sum(numbers), len(numbers)))
    return {"sum": str(sum(numbers)), "count": str(len(numbers)), "result": result}


def order(values: Values) -> Mapping[str, str]:
    numbers = sorted(_all(values, "n"))
    return {
        "rising": ", ".join(map(str, numbers)),
        "falling": ", ".join(map(str, reversed(numbers))),
        "least": str(numbers[0]),
        "most": str(numbers[-1]),
        "span": str(numbers[-1] - numbers[0]),
    }


def journey(values: Values) -> Mapping[str, str]:
    speed, hours = _int(values, "speed"), _int(values, "hours")
    return {"result": str(speed * hours), "half": _show(Fraction(speed * hours, 2))}


def rectangle(values: Values) -> Mapping[str, str]:
    length, width = _int(values, "length_m"), _int(values, "width_m")
    return {"area": str(length * width), "around": str(2 * (length + width))}


def interest(values: Values) -> Mapping[str, str]:
    capital, rate, years = (_int(values, name) for name in ("capital", "rate", "years"))
    simple = Fraction(capital * rate * years, 100)
    compound = capital * (1 + Fraction(rate, 100)) ** years
    total, grown = _show(capital + simple), _show(compound)
    return {"yearly": _show(Fraction(capital * rate, 100)), "simple": _show(simple), "total": total, "compound": grown}


def convert(values: Values) -> Mapping[str, str]:
    """The pool's lines: `from to to | factor | offset`, so that Celsius fits too."""
    _, factor, offset, *_ = values["conversion"]
    return {"result": _show(_int(values, "amount") * Fraction(factor) + Fraction(offset))}


def sequence(values: Values) -> Mapping[str, str]:
    start, step = _int(values, "start"), _int(values, "step")
    terms = [start + n * step for n in range(7)]
    return {"shown": ", ".join(map(str, terms[:5])), "next": str(terms[5]), "after": str(terms[6])}


def change(values: Values) -> Mapping[str, str]:
    paid, price, pieces = _int(values, "paid"), _int(values, "price"), _int(values, "pieces")
    return {"cost": str(price * pieces), "result": str(paid - price * pieces)}


def mixture(values: Values) -> Mapping[str, str]:
    one, two, portion = _int(values, "part"), _int(values, "part#2"), _int(values, "portion")
    total = portion * (one + two)
    return {"total": str(total), "first": str(portion * one), "second": str(portion * two), "parts": str(one + two)}


def multiples(values: Values) -> Mapping[str, str]:
    a, b = _int(values, "m"), _int(values, "m#2")
    return {"gcd": str(math.gcd(a, b)), "lcm": str(math.lcm(a, b))}


def weekday(values: Values) -> Mapping[str, str]:
    today, days = values["weekday"][0], _int(values, "days")
    week = next(week for week in WEEKDAYS.values() if today in week)
    return {"weeks": str(days // 7), "left": str(days % 7), "result": week[(week.index(today) + days) % 7]}


def arrival(values: Values) -> Mapping[str, str]:
    minutes = _int(values, "hour") * 60 + _int(values, "minute") + _int(values, "minutes")
    return {"result": f"{minutes // 60 % 24}:{minutes % 60:02}"}


def roman(values: Values) -> Mapping[str, str]:
    left, letters = _int(values, "number"), ""
    for value, letter in _ROMAN:
        letters += letter * (left // value)
        left %= value
    return {"result": letters}


def binary(values: Values) -> Mapping[str, str]:
    number = _int(values, "number")
    return {"result": f"{number:b}", "hexadecimal": f"{number:X}", "bits": str(number.bit_length())}


def growth(values: Values) -> Mapping[str, str]:
    before, added = _int(values, "before"), _int(values, "added")
    return {"now": str(before + added), "result": _show(Fraction(100 * added, before))}


def letters(values: Values) -> Mapping[str, str]:
    word = values["word"][0]
    vowels = [letter for letter in word if letter in "aeiou"]
    return {
        "backwards": word[::-1],
        "length": str(len(word)),
        "vowels": str(len(vowels)),
        "consonants": str(len(word) - len(vowels)),
        "spelled": "-".join(word.upper()),
        "sorted": "".join(sorted(word)),
    }


SOLVERS = {
    solver.__name__: solver
    for solver in (
        *(discount, share_bill, average, order, journey, rectangle, interest, convert, sequence, change),
        *(mixture, multiples, weekday, arrival, roman, binary, growth, letters),
    )
}


def _int(values: Values, name: str) -> int:
    return int(values[name][0].replace(",", ""))


def _all(values: Values, name: str) -> list[int]:
    return [_int(values, key) for key in sorted(values) if key.partition("#")[0] == name]


def _show(number: Fraction) -> str:
    """At most two decimals, none where they are zero."""
    return f"{float(number):.2f}".rstrip("0").rstrip(".")
