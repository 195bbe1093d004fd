"""Which phase the name of a structure tells, where a pattern has a place for it.

A number is read as it is written: the whole of it that stands in the place ("GTV_{phase}" reads phase 10 in
GTV_10, never 1 or 0), a dot in it as a decimal point, "%" as per cent. The rest of the name is compared as
every name is. A number is cut only where the pattern itself goes on with digits or a dot ("GTV1{phase}" reads
phase 10 in GTV110), and never beside a wildcard: there nobody can say where the phase begins.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from nnunet_igtv.dicom.phases import NUMBER, PERCENT, Moment
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import expression, matches

PLACE = "{phase}"
_MARK = "\u0966"  # stands for the phase in name and pattern: a digit for expressions, which no name has

_WHOLE = re.compile(r"(?<![0-9])(?<![0-9]\.)[0-9]+(?:\.[0-9]+)?(?!\.?[0-9])")
_BETWEEN_DOTS = re.compile(r"(?<![0-9])[0-9]+(?![0-9])")
_SIGN = re.compile(r"[\s_.\-]*%")
_WAY = re.compile(r"[\s_.\-]*(in|ex)(?![a-z])", re.IGNORECASE)
# beside the place, what takes digits as well: any number of them, or one
_MANY = re.compile(r"[*+?}]\)*\{phase\}|\{phase\}\(*\.[*+?{]")
_ONE = re.compile(r"(?<!\\)\.\)*\{phase\}|\{phase\}\(*\.")
_TUMOURS = frozenset({1, 2, 3, 4, 6, 7, 8, 9})  # beside phases in per cent: these are in steps of 5 at least


@dataclass(frozen=True)
class Reading:
    """What stands in a name in the place of the phase.

    Attributes:
        number: its digits, with a decimal point where there is one.
        is_percent: "%" follows.
        direction: "In", "Ex" or "".
        is_part: it is cut out of a longer number, by chance.
    """

    number: str
    is_percent: bool
    direction: str = ""
    is_part: bool = False

    def has_number_of(self, moment: Moment) -> bool:
        """Whether the number is that of a moment. A moment that is counted has no decimals and no "%"."""
        value = moment.value
        if self.is_part or (self.is_percent and moment.unit != PERCENT):
            return False
        if moment.unit == NUMBER:
            return "." not in self.number and float(self.number) == value
        return float(self.number) == value or self.number in (f"{value:g}", f"{value:.1f}")

    def means(self, moment: Moment) -> bool:
        """Whether this is the name of a moment."""
        return self.direction == moment.direction and self.has_number_of(moment)

    @property
    def is_of_a_tumour(self) -> bool:
        """Whether, beside phases in per cent, this can only be the number of a tumour, a year or the like."""
        plain = not (self.is_part or self.is_percent or self.direction)
        return plain and (float(self.number) in _TUMOURS or float(self.number) > 100)


def numbers_in(name: str) -> list[Reading]:
    """The whole numbers in a name."""
    return [Reading(m[0], _is_percent(name, m.end())) for m in _WHOLE.finditer(name)]


def readings(pattern: str, name: str) -> list[Reading]:
    """What may stand in the place of the phase, for a pattern to mean this name; nothing where it cannot.

    Several where the pattern leaves that open. Raises IGTVError for a pattern that is no expression.
    """
    meant = pattern.replace(PLACE, _MARK)
    by_chance = _MANY.search(pattern) is not None
    whole = _marked(pattern, name, _spans(_WHOLE, name))
    # cut at their dots, which count as separators there: GTV_1.{phase} and GTV_1.10
    at_dots = _marked(pattern, name, _spans(_BETWEEN_DOTS, name), by_chance)
    parts = _marked(pattern, name, _parts(name), by_chance or _ONE.search(pattern) is not None)
    try:
        return (
            [reading for reading, marked in whole if matches(meant, marked)]
            or [reading for reading, marked in at_dots if matches(meant, marked)]
            or [reading for reading, marked in parts if _matches_as_written(meant, marked)]
        )
    except IGTVError as error:
        raise error.but(what=error.what.replace(_MARK, PLACE)) from error


def _marked(
    pattern: str, name: str, spans: Sequence[tuple[int, int]], is_part: bool = False
) -> Iterator[tuple[Reading, str]]:
    """What can be read from each of some numbers on, and the name with a mark in its place."""
    for start, end in spans:
        number, is_percent = name[start:end], _is_percent(name, end)
        ends = [(end, "")]
        if sign := _SIGN.match(name, end):
            ends.append((sign.end(), ""))
        if way := _WAY.match(name, ends[-1][0]):
            ends.append((way.end(), way[1].capitalize()))
        for stop, direction in ends:
            reading = Reading(number, is_percent, direction, is_part)
            yield reading, name[:start] + _MARK + name[stop:]
            if pattern.count(PLACE) > 1:
                yield reading, name.replace(name[start:stop], _MARK)


def _matches_as_written(pattern: str, name: str) -> bool:
    """As `matches`, but separators count: between digits they are what tells one number from another."""
    name = name.strip()
    return pattern.casefold() == name.casefold() or bool(expression(pattern).fullmatch(name))


def _spans(numbers: re.Pattern[str], name: str) -> list[tuple[int, int]]:
    return [m.span() for m in numbers.finditer(name)]


def _parts(name: str) -> list[tuple[int, int]]:
    runs = _spans(_BETWEEN_DOTS, name)
    return [span for start, end in runs for span in combinations(range(start, end + 1), 2)]


def _is_percent(name: str, end: int) -> bool:
    return _SIGN.match(name, end) is not None
