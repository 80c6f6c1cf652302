"""Solvers of tasks with one right answer: each reads the values of a composition and returns the results to fill in.

The names of the solvers and of their results appear in the families' files (parts/*.toml).
"""

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
    """Return the amount saved and the price after a discount in per cent."""
    price, percent = _get_int(values, "price"), _get_int(values, "percent")
    # Fractions are exact: 0.1 + 0.2 in floating point would give a wrong "right answer".
    saved = Fraction(price * percent, 100)
    return {"saved": _format_number(saved), "result": _format_number(price - saved)}


def share_bill(values: Values) -> Mapping[str, str]:
    """Return the tip, the total, and each person's share of a bill."""
    bill, percent, people = (_get_int(values, name) for name in ("bill", "percent", "people"))
    tip = Fraction(bill * percent, 100)
    return {
        "tip": _format_number(tip),
        "total": _format_number(bill + tip),
        "result": _format_number((bill + tip) / people),
    }


def average(values: Values) -> Mapping[str, str]:
    """Return the sum, the number and the mean of the numbers."""
    numbers = _get_ints(values, "n")
    result = _format_number(Fraction(sum(numbers), len(numbers)))
    return {"sum": str(sum(numbers)), "count": str(len(numbers)), "result": result}


def order(values: Values) -> Mapping[str, str]:
    """Return the numbers in both orders, with the smallest, the largest and their difference."""
    numbers = sorted(_get_ints(values, "n"))
    return {
        "rising": ", ".join(map(str, numbers)),
        "falling": ", ".join(map(str, reversed(numbers))),
        "smallest": str(numbers[0]),
        "largest": str(numbers[-1]),
        "span": str(numbers[-1] - numbers[0]),
    }


def journey(values: Values) -> Mapping[str, str]:
    """Return the distance for a speed and a time, and half of it."""
    speed, hours = _get_int(values, "speed"), _get_int(values, "hours")
    return {"result": str(speed * hours), "half": _format_number(Fraction(speed * hours, 2))}


def rectangle(values: Values) -> Mapping[str, str]:
    """Return the area and the perimeter."""
    length, width = _get_int(values, "length_m"), _get_int(values, "width_m")
    return {"area": str(length * width), "around": str(2 * (length + width))}


def interest(values: Values) -> Mapping[str, str]:
    """Return simple and compound interest on a capital for a number of years."""
    capital, rate, years = (_get_int(values, name) for name in ("capital", "rate", "years"))
    simple = Fraction(capital * rate * years, 100)
    compound = capital * (1 + Fraction(rate, 100)) ** years
    total, grown = _format_number(capital + simple), _format_number(compound)
    return {
        "yearly": _format_number(Fraction(capital * rate, 100)),
        "simple": _format_number(simple),
        "total": total,
        "compound": grown,
    }


def convert(values: Values) -> Mapping[str, str]:
    """Convert an amount. The pool's lines are `from to to | factor | offset`; temperatures need the offset."""
    _, factor, offset, *_ = values["conversion"]
    return {"result": _format_number(_get_int(values, "amount") * Fraction(factor) + Fraction(offset))}


def sequence(values: Values) -> Mapping[str, str]:
    """Return the first five terms of an arithmetic sequence, and the next two."""
    start, step = _get_int(values, "start"), _get_int(values, "step")
    terms = [start + n * step for n in range(7)]
    return {"shown": ", ".join(map(str, terms[:5])), "next": str(terms[5]), "after": str(terms[6])}


def change(values: Values) -> Mapping[str, str]:
    """Return the cost of some pieces and the change."""
    paid, price, pieces = _get_int(values, "paid"), _get_int(values, "price"), _get_int(values, "pieces")
    return {"cost": str(price * pieces), "result": str(paid - price * pieces)}


def mixture(values: Values) -> Mapping[str, str]:
    """Return the amounts of a mixture of two parts."""
    first_part, second_part, portion = _get_int(values, "part"), _get_int(values, "part#2"), _get_int(values, "portion")
    total = portion * (first_part + second_part)
    return {
        "total": str(total),
        "first": str(portion * first_part),
        "second": str(portion * second_part),
        "parts": str(first_part + second_part),
    }


def multiples(values: Values) -> Mapping[str, str]:
    """Return the greatest common divisor and the least common multiple."""
    first, second = _get_int(values, "m"), _get_int(values, "m#2")
    return {"gcd": str(math.gcd(first, second)), "lcm": str(math.lcm(first, second))}


def weekday(values: Values) -> Mapping[str, str]:
    """Return the day of the week after a number of days."""
    today, days = values["weekday"][0], _get_int(values, "days")
    # The language follows from the name of the day.
    week = next(week for week in WEEKDAYS.values() if today in week)
    return {"weeks": str(days // 7), "left": str(days % 7), "result": week[(week.index(today) + days) % 7]}


def arrival(values: Values) -> Mapping[str, str]:
    """Return the time of arrival on a 24-hour clock."""
    minutes = _get_int(values, "hour") * 60 + _get_int(values, "minute") + _get_int(values, "minutes")
    return {"result": f"{minutes // 60 % 24}:{minutes % 60:02}"}


def roman(values: Values) -> Mapping[str, str]:
    """Return a number in Roman numerals."""
    # The table holds 900, 400 and so on as digits of their own, so that a greedy pass is enough.
    remainder, numeral = _get_int(values, "number"), ""
    for value, letter in _ROMAN:
        numeral += letter * (remainder // value)
        remainder %= value
    return {"result": numeral}


def binary(values: Values) -> Mapping[str, str]:
    """Return a number in binary and hexadecimal, and its number of bits."""
    number = _get_int(values, "number")
    return {"result": f"{number:b}", "hexadecimal": f"{number:X}", "bits": str(number.bit_length())}


def growth(values: Values) -> Mapping[str, str]:
    """Return the new amount, and the growth in per cent."""
    before, added = _get_int(values, "before"), _get_int(values, "added")
    return {"now": str(before + added), "result": _format_number(Fraction(100 * added, before))}


def letters(values: Values) -> Mapping[str, str]:
    """Return facts on the letters of a word: its reverse, its length, its vowels and so on."""
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


def _get_int(values: Values, name: str) -> int:
    return int(values[name][0].replace(",", ""))


def _get_ints(values: Values, name: str) -> list[int]:
    return [_get_int(values, key) for key in sorted(values) if key.partition("#")[0] == name]


def _format_number(number: Fraction) -> str:
    """Return the number with at most two decimals and without trailing zeros."""
    return f"{float(number):.2f}".rstrip("0").rstrip(".")
