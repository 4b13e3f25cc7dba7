"""Notations of numbers in text: decimal commas, thousands, currencies, percent, codes.

A notation is a short text: ``#,#`` is a decimal comma, ``$#,###.#`` a price with thousands, ``#.#
%`` a percentage, ``00000.#`` a code of five digits, and ``(#.#)`` means that negative numbers are
in parentheses. Numbers are written back in the notation in which they were read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Notation"]

CODES = ("EUR", "USD", "GBP", "CHF", "JPY", "US$", "Fr.", "kr")
"""Names of currencies that are written before a number, in addition to all currency symbols."""

MARKS = ((",", "."), (".", ","), ("'", "."), (" ", ","), ("\xa0", ","), ("\u202f", ","))
"""Pairs of marks of thousands and of decimals. The first one that fits is used."""

_WORD = re.compile(
    r"(?P<sign>[-+\u2212]?)(?P<before>[^\d\s+\-\u2212.,']{0,3}\.? ?)(?P<inner>[-\u2212]?)"
    r"(?P<digits>\d(?:[\d.,' \xa0\u202f]*\d)?)(?P<after>[^\d.,]{0,6})"
)
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
        digits: of codes, their number of digits, filled up with zeros in front; 0 of numbers.
        brackets: whether negative numbers are in parentheses.

    >>> euros = Notation.of(["1.234,50 €", "-0,99 €"])
    >>> euros.thousands, euros.decimal, euros.after
    ('.', ',', ' €')
    >>> euros.numbers(["1.234,50 €", "-0,99 €"]).tolist(), euros.write(-1e6, 2), str(euros)
    ([1234.5, -0.99], '-1.000.000,00 €', '#.###,# €')
    """

    before: str = ""
    thousands: str = ""
    decimal: str = "."
    after: str = ""
    digits: int = 0
    brackets: bool = False

    @staticmethod
    def of(words: Iterable[str]) -> Notation | None:
        """Return how numbers are written, None if a text is not a number, or they differ."""
        words = [word.strip() for word in words]
        brackets = any(word.startswith("(") for word in words)
        candidates = [_WORD.fullmatch(_without_brackets(word)) for word in words]
        if not words or not all(candidates):
            return None
        matches = [match for match in candidates if match]
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

    def numbers(self, words: Iterable[object]) -> NDArray:
        """Return the numbers of texts, ``(N,)``; NaN for other notations and for missing values."""
        return np.array([self._number(word) for word in words], dtype=np.float64)

    def readings(self, words: Iterable[object], whole: bool = False) -> list[NDArray]:
        """Return all different numbers, each ``(N,)``, that texts in some notation may mean.

        In this notation, there is one meaning. Otherwise, all texts have the same notation: marks
        of thousands and of decimals may be others, and a currency or a unit may be left out or
        added. If percents are added, a number may be the percent or the share.

        Args:
            words: texts; other objects are numbers or missing values.
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
        meanings: dict[bytes, NDArray] = {}
        for notation, unit in self._notations([word for word in words if isinstance(word, str)]):
            numbers = notation.numbers(words)
            if np.isnan(numbers[text]).any():
                continue
            if notation == self:
                return [numbers]
            if not whole or (numbers[text] % 1 == 0).all():
                for meant in (numbers, *([numbers / 100] if unit == "%" else [])):
                    meanings.setdefault(meant.tobytes(), meant)
        return list(meanings.values())

    def _notations(self, words: list[str]) -> Iterator[tuple[Notation, str]]:
        """Yield this notation, and others that texts may have, with the unit that they add."""
        yield self, ""
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
        size = abs(number)
        digits = 12 if decimals is None else decimals
        whole, _, rest = f"{size:,.{digits}f}".partition(".")
        rest = rest.rstrip("0") if decimals is None else rest
        text = whole.replace(",", self.thousands) + (self.decimal + rest if rest else "")
        text = f"{self.before}{text.zfill(self.digits)}{self.after}"
        if number < 0 and any(c in "123456789" for c in text):
            return f"({text})" if self.brackets else f"-{text}"
        return text

    def __str__(self) -> str:
        group = f"{self.thousands}###" if self.thousands else ""
        whole = "0" * self.digits or "#"
        text = f"{self.before}{whole}{group}{self.decimal}#{self.after}"
        return f"({text})" if self.brackets else text

    @staticmethod
    def from_text(text: str) -> Notation:
        """Return the inverse of ``str``.

        Raises:
            ValueError: if the text is not a notation.
        """
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


def _without_brackets(word: str) -> str:
    """Return a number in accounting notation, ``(1,200)``, with a sign."""
    return f"-{word[1:-1]}" if word.startswith("(") and word.endswith(")") else word


def _is_currency(text: str) -> bool:
    return text in ("", *CODES) or all(unicodedata.category(c) == "Sc" for c in text)
