"""Notations of numbers: decimal commas, thousands, currencies, percent, codes, times, durations.

A notation is a short text: ``#,#`` is a decimal comma, ``$#,###.#`` a price with thousands, ``#.#
%`` a percentage, ``00000.#`` a code of five digits, ``(#.#)`` means that negative numbers are in
parentheses, ``hh:mm`` is a time of day, which is a number of minutes, and ``#h##m`` a duration, in
its smallest unit. With ``[<>]`` in front, some are only known to be below or above a limit, as
``<0.3``. Numbers are written back in the notation in which they were read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Notation"]

CODES = ("EUR", "USD", "GBP", "CHF", "JPY", "US$", "Fr.", "kr")
"""Names of currencies that are written before a number, in addition to all currency symbols."""

MARKS = ((",", "."), (".", ","), ("'", "."), (" ", ","), ("\xa0", ","), ("\u202f", ","))
"""Pairs of marks of thousands and of decimals. The first one that fits is used."""

MOST_LIMITS = 20
"""Largest number of different limits of a column."""

_WORD = re.compile(
    r"(?P<sign>[-+\u2212]?)(?P<before>[^\d\s+\-\u2212.,']{0,3}\.? ?)(?P<inner>[-\u2212]?)"
    r"(?P<digits>\d(?:[\d.,' \xa0\u202f]*\d)?)(?P<after>[^\d.,]{0,6})"
)
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?")
_DAYS = re.compile(r"(-?\d+) days \+?(\d\d):([0-5]\d):([0-5]\d(?:\.\d{1,9})?)")
_PARTS = re.compile(r"(?:\d+ ?[a-z]+ ?){2,4}")
_PART = re.compile(r"(\d+|#{1,2})( ?([a-z]+) ?)")
_SECONDS = {
    "d": 86_400, "day": 86_400, "days": 86_400, "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600,
    "hours": 3600, "m": 60, "min": 60, "mins": 60, "minutes": 60, "s": 1, "sec": 1, "secs": 1,
    "seconds": 1,
}  # fmt: skip
_SPEC = re.compile(
    r"(?P<brackets>\(?)(?P<before>[^#0()]{0,8})(?:#|(?P<zeros>0+))"
    r"(?:(?P<thousands>[.,' \xa0\u202f])###)?(?P<decimal>[.,])#(?P<after>[^#()]{0,8})\)?"
)


@dataclass(frozen=True)
class Notation:
    """How the numbers of a column are written.

    Args:
        before: what stands before each, such as a currency.
        thousands: mark between thousands, if there is one.
        decimal: mark before decimals.
        after: what stands after each, such as a percent sign, with its space.
        clock: of times of day, number of their parts, 2 or 3; 4 of durations as pandas writes them,
            with days in front; 0 of numbers.
        padded: whether hours have two digits.
        digits: of codes, their number of digits, filled up with zeros in front; 0 of numbers.
        brackets: whether negative numbers are in parentheses.
        parts: of durations in units, such as "#h##m", how all of them are written.
        limits: whether some are limits, such as ``<0.3``. A limit is represented by the float64
            next to it, on its side, so that it differs from the number itself.

    >>> euros = Notation.of(["1.234,50 €", "-0,99 €"])
    >>> euros.thousands, euros.decimal, euros.after
    ('.', ',', ' €')
    >>> euros.numbers(["1.234,50 €", "-0,99 €"]).tolist(), euros.write(-1e6, 2), str(euros)
    ([1234.5, -0.99], '-1.000.000,00 €', '#.###,# €')
    >>> Notation.from_text("hh:mm").numbers(["08:30"]), Notation.from_text("h:mm").write(510, 0)
    (array([510.]), '8:30')
    >>> runtime = Notation.of(["1h05m", "2h30m"])
    >>> str(runtime), runtime.numbers(["2h30m"]), runtime.write(65, 0)
    ('#h##m', array([150.]), '1h05m')
    """

    before: str = ""
    thousands: str = ""
    decimal: str = "."
    after: str = ""
    clock: int = 0
    padded: bool = True
    digits: int = 0
    brackets: bool = False
    parts: str = ""
    limits: bool = False

    @staticmethod
    def of(words: Iterable[str]) -> Notation | None:
        """Return how numbers are written, None if a text is not a number, or they differ."""
        words = [word.strip() for word in words]
        marked = {word for word in words if word.startswith(("<", ">"))}
        if marked:
            return Notation._of_limits(words, marked)
        clocks = [_CLOCK.fullmatch(word) for word in words]
        if words and all(clocks):
            parts = {2 + (found[3] is not None) for found in clocks if found}
            padded = all(len(found[1]) == 2 for found in clocks if found)
            return Notation(clock=parts.pop(), padded=padded) if len(parts) == 1 else None
        if words and all(map(_DAYS.fullmatch, words)):
            return Notation(clock=4)
        if words and all(map(_PARTS.fullmatch, words)):
            return Notation._of_durations(words)
        brackets = any(word.startswith("(") for word in words)
        found = [_WORD.fullmatch(_without_brackets(word)) for word in words]
        if not words or not all(found):
            return None
        matches = [match for match in found if match]
        before, after = matches[0]["before"], matches[0]["after"]
        if not _is_currency(before.strip()) or any(
            (m["before"].strip(), m["after"].strip()) != (before.strip(), after.strip())
            for m in matches
        ):
            return None
        digits = [match["digits"] for match in matches]
        size = len(digits[0])
        if any(re.match(r"0\d", text) for text in digits) and all(
            text.isdecimal() and len(text) == size for text in digits
        ):
            return Notation(before, "", ".", after, digits=size, brackets=brackets)
        plain: Notation | None = None
        for thousands, decimal in MARKS:
            pattern = _pattern(thousands, decimal)
            forms = [pattern.fullmatch(text) for text in digits]
            if not all(forms):
                continue
            grouped = any(form[2] for form in forms if form)
            notation = Notation(before, thousands * grouped, decimal, after, brackets=brackets)
            if grouped:  # three digits after every mark are thousands
                return notation
            plain = plain or notation
        return plain

    @staticmethod
    def _of_limits(words: list[str], marked: set[str]) -> Notation | None:
        """Return how numbers are written of which some are limits, None if they are not."""
        plain = Notation.of(word[1:] if word in marked else word for word in words)
        if plain is None or plain.clock or plain.parts or len(marked) > MOST_LIMITS:
            return None
        found = replace(plain, limits=True)
        return found if all(found.limit(found._number(w)) == w for w in marked) else None

    @staticmethod
    def _of_durations(words: list[str]) -> Notation | None:
        """Return how durations in units are written, None if they differ, or are not durations."""
        found = [_PART.findall(word) for word in words]
        padded = any(len(digits) == 2 and digits[0] == "0" for each in found for digits, *_ in each)
        first = found[0]
        parts = "".join(
            ("##" if padded and i else "#") + label for i, (_, label, _) in enumerate(first)
        )
        if not _is_duration(parts):
            return None
        notation = Notation(parts=parts)
        pairs = zip(notation.numbers(words), words, strict=True)
        alike = all(
            not np.isnan(number) and notation.write(number, 0) == word for number, word in pairs
        )
        return notation if alike else None

    def numbers(self, words: Iterable[object]) -> NDArray:
        """Return the numbers of texts, ``(N,)``; NaN for other notations and for gaps."""
        return np.array([self._number(word) for word in words], dtype=np.float64)

    def readings(self, words: Iterable[object], whole: bool = False) -> list[NDArray]:
        """Return all different numbers, each ``(N,)``, that texts in some notation may mean.

        In this notation, there is one meaning. Otherwise, all texts have the same notation: marks
        of thousands and of decimals may be others, and a currency or a unit may be left out or
        added. If percents are added, a number may be the percent or the share.

        Args:
            words: texts; other objects are numbers or gaps.
            whole: whether numbers can only be integers.

        >>> plain = Notation()
        >>> plain.readings(["1,234.5", "$7"]), plain.readings(["1.234,5", "2"])
        ([array([1234.5,    7. ])], [array([1234.5,    2. ])])
        >>> plain.readings(["1,234"]), plain.readings(["1,234"], whole=True)
        ([array([1234.]), array([1.234])], [array([1234.])])
        >>> plain.readings(["12%"]), plain.readings(["many"])
        ([array([12.]), array([0.12])], [])
        """
        words = list(words)
        text = np.array([isinstance(word, str) for word in words], dtype=bool)
        found: dict[bytes, NDArray] = {}
        for notation, unit in self._notations([word for word in words if isinstance(word, str)]):
            numbers = notation.numbers(words)
            if np.isnan(numbers[text]).any():
                continue
            if notation == self:
                return [numbers]
            if not whole or (numbers[text] % 1 == 0).all():
                for meant in (numbers, *([numbers / 100] if unit == "%" else [])):
                    found.setdefault(meant.tobytes(), meant)
        return list(found.values())

    def _notations(self, words: list[str]) -> Iterator[tuple[Notation, str]]:
        """Yield this notation, and others that texts may have, with the unit that they add."""
        yield self, ""
        if self.parts or self.clock:
            return
        matches = [match for word in words if (match := _WORD.fullmatch(_without_brackets(word)))]
        first = {
            name: next((text for match in matches if (text := match[name].strip())), "")
            for name in ("before", "after")
        }
        before, after = first["before"], first["after"]
        if (unit := self.before.strip() or self.after.strip()) and {before, after} - {"", unit}:
            return  # it is another one
        if _is_currency(before):
            for thousands, decimal in MARKS:
                other = replace(
                    self, before=before, thousands=thousands, decimal=decimal, after=after
                )
                yield other, "" if self.after.strip() else after

    def _number(self, word: object) -> float:
        if not isinstance(word, str):
            try:
                return float(word)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                return np.nan
        if self.limits and word[:1] in ("<", ">"):
            side = -np.inf if word[0] == "<" else np.inf
            return float(np.nextafter(self._number(word[1:]), side))
        if self.parts:
            own = _PART.findall(word.strip())
            if not _is_duration(word.strip(), 1):
                return np.nan
            total = sum(int(digits) * _SECONDS[unit] for digits, _, unit in own)
            return total / _SECONDS[self._units()[-1][2]]
        if self.clock == 4:
            long = _DAYS.fullmatch(word.strip())
            if not long:
                return np.nan
            return (
                86_400.0 * int(long[1]) + 3600 * int(long[2]) + 60 * int(long[3]) + float(long[4])
            )
        if self.clock:
            found = _CLOCK.fullmatch(word.strip())
            if not found or (self.clock == 3 and found[3] is None):  # perhaps minutes and seconds
                return np.nan
            hours, minutes, seconds = (int(part or 0) for part in found.groups())
            total = 3600 * hours + 60 * minutes + seconds
            return float(total) if self.clock == 3 else total / 60
        plain_word = _without_brackets(word.strip())
        match = _WORD.fullmatch(plain_word)
        if not match or match["before"].strip() not in ("", self.before.strip()):
            return np.nan
        if match["after"].strip() not in ("", self.after.strip()):
            return np.nan
        if not _pattern(self.thousands, self.decimal).fullmatch(match["digits"]):
            return np.nan
        plain = match["digits"].replace(self.thousands or "\0", "").replace(self.decimal, ".")
        size = float(plain)
        negative = match["sign"] in ("-", "\u2212") or match["inner"]
        return -size if negative else size

    def write(self, number: float, decimals: int | None) -> str:
        """Return a number as text, with ``decimals`` decimals; None is as many as needed."""
        if self.parts:
            units = self._units()
            left, text = max(0, round(number)) * _SECONDS[units[-1][2]], ""
            for form, label, unit in units:
                count, left = divmod(left, _SECONDS[unit])
                text += f"{count:0{len(form)}d}{label}"
            return text
        if self.clock == 4:
            days, nanoseconds = divmod(round(number * 1e9), 86_400 * 10**9)
            seconds, nanoseconds = divmod(nanoseconds, 10**9)
            time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            fraction = f".{nanoseconds:09d}".removesuffix("000") if nanoseconds else ""
            return f"{days} days {'+' if days < 0 else ''}{time}{fraction}"
        if self.clock:
            total = round(number)
            minutes, seconds = divmod(total, 60) if self.clock == 3 else (total, 0)
            hours = f"{minutes // 60:02d}" if self.padded else f"{minutes // 60}"
            text = f"{hours}:{minutes % 60:02d}"
            return f"{text}:{seconds:02d}" if self.clock == 3 else text
        size = abs(number)
        digits = 12 if decimals is None else decimals
        whole, _, rest = f"{size:,.{digits}f}".partition(".")
        rest = rest.rstrip("0") if decimals is None else rest
        text = whole.replace(",", self.thousands) + (self.decimal + rest if rest else "")
        text = f"{self.before}{text.zfill(self.digits)}{self.after}"
        if number < 0 and any(c in "123456789" for c in text):
            return f"({text})" if self.brackets else f"-{text}"
        return text

    def limit(self, number: float) -> str | None:
        """Return the text of a limit, None if the number does not represent one."""
        if not self.limits or not np.isfinite(number):
            return None
        near = float(f"{number:.12g}")
        for mark, side in (("<", -np.inf), (">", np.inf)):
            if number == np.nextafter(near, side):
                return mark + self.write(near, None)
        return None

    @property
    def largest(self) -> float | None:
        """The last time of a day, or the largest code; None for numbers."""
        if self.digits:
            return 10.0**self.digits - 1
        return {2: 1439.0, 3: 86_399.0}.get(self.clock)

    def _units(self) -> list[tuple[str, str, str]]:
        """Return the form of the number, the text behind it and the unit of each part."""
        return _PART.findall(self.parts)

    def __str__(self) -> str:
        if self.parts:
            return self.parts
        if self.clock == 4:
            return "# days hh:mm:ss"
        if self.clock:
            return ("hh" if self.padded else "h") + ":mm:ss"[: 3 * (self.clock - 1)]
        group = f"{self.thousands}###" if self.thousands else ""
        whole = "0" * self.digits or "#"
        text = f"{self.before}{whole}{group}{self.decimal}#{self.after}"
        text = f"({text})" if self.brackets else text
        return f"[<>]{text}" if self.limits else text

    @staticmethod
    def from_text(text: str) -> Notation:
        """Return the inverse of ``str``.

        Raises:
            ValueError: if the text is not a notation.
        """
        for clock in (2, 3, 4):
            for padded in (True, False):
                if str(found := Notation(clock=clock, padded=padded)) == text:
                    return found
        if text.startswith("[<>]"):
            return replace(Notation.from_text(text[4:]), limits=True)
        if _is_duration(text):
            return Notation(parts=text)
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:50]!r} is not a notation of numbers")
        return Notation(
            match["before"], match["thousands"] or "", match["decimal"], match["after"],
            digits=len(match["zeros"] or ""), brackets=bool(match["brackets"]),
        )  # fmt: skip


@cache
def _pattern(thousands: str, decimal: str) -> re.Pattern[str]:
    """Return the form of digits with marks of thousands, if there are any, and of decimals."""
    grouped = rf"|[1-9]\d{{0,2}}({re.escape(thousands)}\d{{3}})+" if thousands else ""
    return re.compile(rf"(\d+{grouped})({re.escape(decimal)}\d+)?")


def _is_duration(text: str, least: int = 2) -> bool:
    """Return whether a text is a duration, or a notation of some: in units, the largest first."""
    found = _PART.findall(text)
    sizes = [_SECONDS.get(unit, 0) for _, _, unit in found]
    descending = all(a > b for a, b in pairwise([*sizes, 0]))
    whole = "".join(form + label for form, label, _ in found) == text
    return len(found) >= least and descending and whole


def _without_brackets(word: str) -> str:
    """Return a number in accounting notation, ``(1,200)``, with a sign."""
    return f"-{word[1:-1]}" if word.startswith("(") and word.endswith(")") else word


def _is_currency(text: str) -> bool:
    return text in ("", *CODES) or all(unicodedata.category(c) == "Sc" for c in text)
