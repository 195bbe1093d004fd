"""Whether moments that CT series tell are those of one breath.

Phases of a contrast medium or of the heart, doses, thicknesses and scans one after the other are numbered as
well. Unless the attribute is made for the breath, something else has to say that they are none of these:
other headers and words, or numbers that only a breath has.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.breath_words import tells_breath, tells_heart, tells_other_scans
from nnunet_igtv.dicom.phases import ALWAYS, BY_NUMBERS, MILLISECONDS, NUMBER, PERCENT, Moment, Teller
from nnunet_igtv.dicom.series import Series

Told = Sequence[tuple[Moment, Series]]

FEWEST = 2  # phases that make a 4D-CT: end-inhale and end-exhale
STEP_TOLERANCE = 1.0  # per cent: 6 phases are 0, 17, 33, 50, 67, 83
WHOLE = 5  # percentages in equal steps around the cycle: strengths and doses are not told so
MANY = 6  # numbers in equal steps, at least half of them there: a liver is scanned in up to five phases
PERIOD_MS = (1500, 15_000)  # of a breath; the heart's is shorter, a perfusion takes longer
ONE_SCAN = timedelta(seconds=20)  # between the phases at one place: some breaths
HELD = "BREATH_HOLD"
BREATHING = {  # attributes of the breath, and the values that say nothing of one
    "RespiratoryMotionCompensationTechnique": {"", "NONE"},
    "RespiratorySignalSource": {"", "NONE"},
    "RespiratoryTriggerType": {"", "NONE"},
    "RespiratoryCyclePosition": {"", "UNDETERMINED"},
}
SAME_IN_A_SCAN = ("KVP", "ConvolutionKernel", "SliceThickness", "ContrastBolusAgent")


def is_breath(told: Told, teller: Teller) -> bool:
    """Whether moments are those of one breath.

    Args:
        told: two or more moments, and the series of each.
        teller: what tells them.
    """
    if len(_moments(told)) < FEWEST:
        return False
    if teller.believed == ALWAYS:
        return True
    if not teller.is_percent and _are_scans(told):
        return False
    if len(_moments([each for each in told if _speaks_of_breathing(*each)])) >= FEWEST:
        return True
    return teller.believed == BY_NUMBERS and any(_tell_by_numbers(alike) for alike in _alike(told, teller))


def _moments(told: Told) -> set[Moment]:
    return {moment for moment, _ in told}


def _speaks_of_breathing(moment: Moment, series: Series) -> bool:
    """Whether a series says in words or in other attributes that it shows a moment of the breath."""
    header = series.headers[0]
    if moment.direction:
        return True
    told = {name: text(header, name).upper() for name in BREATHING}
    if HELD not in told.values() and any(told[name] not in nothing for name, nothing in BREATHING.items()):
        return True
    said = " ".join((*_texts(series), *traits.image_type(series)))
    return tells_breath(said) and not _shows_the_heart(series)


def _texts(series: Series) -> tuple[str, str]:
    header = series.headers[0]
    return text(header, "SeriesDescription"), text(header, "ImageComments")


def _shows_the_heart(series: Series) -> bool:
    header = series.headers[0]
    if text(header, "CardiacSynchronizationTechnique").upper() not in ("", "NONE"):
        return True
    said = (*_texts(series), text(header, "ProtocolName"), text(header, "BodyPartExamined"))
    return any(map(tells_heart, said))


def _are_scans(told: Told) -> bool:
    """Whether the moments are scans one after the other: before and after contrast, or a perfusion."""
    if len({text(s.headers[0], "ContrastBolusAgent") for _, s in told}) > 1:
        return True
    times = [time for _, s in told if (time := _acquired(s)) is not None]
    return bool(times) and max(times) - min(times) > ONE_SCAN


def _acquired(series: Series) -> datetime | None:
    digits = traits.acquired(series)
    return datetime.strptime(digits, "%Y%m%d%H%M%S") if len(digits) == 14 else None


def _alike(told: Told, teller: Teller) -> list[Told]:
    """Groups of series whose text differs in nothing but numbers, where that tells the moments."""
    groups: dict[str, list[tuple[Moment, Series]]] = {}
    for moment, s in told:
        words = text(s.headers[0], teller.name.replace(" ", "")) if teller.is_percent else ""
        groups.setdefault("".join(filter(str.isalpha, words.casefold())), []).append((moment, s))
    return list(groups.values())


def _tell_by_numbers(told: Told) -> bool:
    """Whether the moments are such as only a breath has."""
    moments = _moments(told)
    if len({moment.unit for moment in moments}) > 1 or any(_shows_the_heart(s) for _, s in told):
        return False
    if any(_differ(told, name) for name in SAME_IN_A_SCAN):
        return False
    unit = next(iter(moments)).unit
    values = np.array(sorted(moment.value for moment in moments))
    if unit == PERCENT and 100 in values:
        zero = [] if 0 in values else [0]  # the same moment as 100
        values = np.array([*zero, *values[values < 100]])
        if zero and (len(values) < WHOLE or len(values) < len(cycle(values))):
            return False
    around = unit == PERCENT and is_around_the_cycle(values)
    if around and len(values) >= WHOLE:
        return True
    if any(tells_other_scans(said) for _, s in told for said in _texts(s)):
        return False
    if unit == NUMBER and any(text(s.headers[0], "ContrastBolusAgent") for _, s in told):
        return False
    if unit == MILLISECONDS:
        period = np.ptp(values) * len(values) / max(len(values) - 1, 1)
        return len(values) > FEWEST and PERIOD_MS[0] <= period <= PERIOD_MS[1]
    if len(values) >= MANY and 2 * len(values) > np.ptp(values) / np.diff(values).min():
        return True
    if unit != PERCENT:
        return False
    return {0, 50} <= set(values) or (
        len(values) > FEWEST and (around or (values[0] == 0 and values[-1] >= 50))
    )


def is_around_the_cycle(values: np.ndarray) -> bool:
    """Whether percentages in rising order are at least half of those of a cycle in equal steps."""
    if len(values) < FEWEST:
        return False
    wanted = cycle(values)
    return bool(
        (np.abs(values[:, None] - wanted).min(1) <= STEP_TOLERANCE).all() and 2 * len(values) >= len(wanted)
    )


def cycle(values: np.ndarray) -> np.ndarray:
    """The percentages of a cycle in equal steps, as small as the smallest of those of rising values."""
    count = round(100 / float(np.diff(values).min()))
    return np.arange(count) * 100 / count


def _differ(told: Told, name: str) -> bool:
    """Whether each moment has its own value of an attribute."""
    shown: dict[Moment, set[str]] = {}
    for moment, s in told:
        shown.setdefault(moment, set()).add(text(s.headers[0], name))
    values = [value for own in shown.values() for value in own]
    return len(set(values)) == len(values) > 1
