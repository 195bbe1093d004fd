"""Series as they are shown to the person who has to choose: in one line, or as a table.

Dates and the ends of UIDs are shown, since they are what tells series apart; the patient's name and id are
not.
"""

from collections.abc import Sequence

import numpy as np

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.series import NO_NUMBER, Series

NAMES = {"CT": "CT", "PT": "PET"}
COLUMNS = ("", "no.", "description", "taken", "phase", "slices", "spacing mm", "uid", "study")


def described(series: Series) -> str:
    """Number, description, time, size and spacing."""
    words = [f"series {series.number}" if has_number(series) else "series without a number"]
    if series.description:
        words.append(repr(traits.description(series)))
    if traits.taken(series):
        words.append(f"of {traits.day(series, with_time=True)}")
    return f"{' '.join(words)}, {'no regular stack' if series.fault else series.described()}"


def table(series: Sequence[Series]) -> str:
    """One line per series, indented; a last column tells the studies apart where there are several."""
    ends, studies = _ends([s.uid for s in series]), _ends([s.study_uid for s in series])
    rows = [list(COLUMNS)]
    for s in series:
        study = f"{traits.study_day(s)} {studies[s.study_uid]}".strip()
        rows.append([NAMES.get(s.modality, s.modality), *_cells(s), ends[s.uid], study])
    if len(studies) == 1:
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"    {line}".rstrip() for line in lines)


def _ends(uids: Sequence[str]) -> dict[str, str]:
    """The ends of UIDs, long enough to tell them apart."""
    length = 6
    while len({uid[-length:] for uid in uids}) < len(set(uids)):
        length += 2
    return {uid: f"…{uid[-length:]}" for uid in uids}


def _cells(series: Series) -> list[str]:
    moment = traits.moment(series)
    spacing = [] if series.fault else [f"{value:g}" for value in np.round(series.grid.spacing, 2)]
    return [
        str(series.number) if has_number(series) else "",
        traits.description(series),
        traits.day(series, with_time=True),
        "" if moment is None else str(moment).removesuffix(" %"),
        str(len(series.headers)),
        " x ".join(spacing) or "no regular stack",
    ]


def has_number(series: Series) -> bool:
    return series.number < NO_NUMBER
