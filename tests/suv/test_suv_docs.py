"""The tables of docs/suv.md say what the code does."""

import re
from pathlib import Path

import numpy as np
import pytest

from nnunet_igtv.suv import activity, nuclides, reference, sources

TEXT = (Path(__file__).parents[2] / "docs" / "suv.md").read_text(encoding="utf-8")
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def test_nuclides():
    rows = re.findall(
        r"^\| (\S+-\d+) \| (\S+) (\w+) \| (\S+) to (\S+) \| (\S+) to (\S+) \|$", TEXT, re.MULTILINE
    )
    stated = {
        name: (float(half_life) * SECONDS[unit], float(a), float(b), float(c), float(d))
        for name, half_life, unit, a, b, c, d in rows
    }
    coded = {n.name: (n.half_life_s, *n.uptake_min, *n.mbq_per_kg) for n in nuclides.NUCLIDES}
    assert stated.keys() == coded.keys()
    for name, values in coded.items():
        assert stated[name] == pytest.approx(values, rel=1e-3)


def test_tolerances():
    for share, seconds, words in (
        (sources.AGREE, 95, "at most 1 % (`AGREE`; F-18: 95 s)"),
        (sources.CONTRADICT, 7.7 * 60, "over 5 % (`CONTRADICT`; F-18: 7.7 min, C-11: 86 s, Zr-89: 5.5 h)"),
    ):
        assert words in TEXT
        limit = np.log1p(share) * nuclides.NUCLIDES[0].half_life_s / np.log(2)
        assert seconds == pytest.approx(limit, rel=0.02)
    assert "2.5 % (`ROUNDING`)" in TEXT
    assert nuclides.ROUNDING == 0.025
    assert "0.1 times and 5 times the usual range (`IN_BQ`" in TEXT
    assert activity.IN_BQ == (0.1, 5.0)
    assert "0.25 to 1.5 times the usual range, `POSSIBLE`" in TEXT
    assert activity.POSSIBLE == (0.25, 1.5)


def test_every_rule_that_the_code_can_give_is_in_the_table():
    folder = Path(reference.__file__).parent
    code = "".join((folder / f"{name}.py").read_text() for name in ("factors", "reference", "sources"))
    rules = [
        reference.FRAME_TIME,
        reference.DECAY_FACTOR,
        "earliest acquisition time",
        "decay correction time (0018,9701)",
        "GE scan time (0009,100D)",
        "Siemens scan time (0071,1022)",
        "not decay corrected (NONE), acquisition time per slice",
        "decay corrected to injection (ADMIN)",
        "units GML (SUVbw)",
        "units CM2ML (SUVbsa)",
        "Philips SUV factor (7053,1000)",
        "Philips activity (7053,1009)",
    ]
    assert all(rule in code and rule in TEXT for rule in rules)
