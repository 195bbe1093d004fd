"""Decay Factor (0054,1321): by how much each slice was scaled, and so to which moment.

It settles what the times alone leave open, and what it contradicts is refused or warned of.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from pet_scan import C11, F18, GE, PHILIPS, Scan, clock

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.suv import suv_factors
from nnunet_igtv.suv.reference import DECAY_FACTOR

BEGAN = datetime(2024, 3, 5, 10, 0)
EIGHT = tuple(180.0 * bed for bed in range(8))
LATE = (3000.0,)


def at(minutes):
    return clock(BEGAN + timedelta(minutes=minutes))


def headers(scan, factors=None, digits=6, **changes):
    """Headers of a scan with decay factors, by its physics if none are given, and with attributes changed."""
    result = replace(scan, changes=changes).headers()
    for header, factor in zip(result, factors or scan.decay_factors, strict=True):
        header.DecayFactor = f"{factor:.{digits}g}"
    return result


SETTLED = {
    "GE whose series was opened 20 min before": (Scan(vendor=GE, beds_s=EIGHT), {"SeriesTime": at(-20)}),
    "the same with frame reference times of 0": (
        Scan(vendor=GE, beds_s=EIGHT),
        {"SeriesTime": at(-20), "FrameReferenceTime": 0},
    ),
    "Philips whose series was opened 20 min before, without frame reference times": (
        Scan(vendor=PHILIPS, beds_s=EIGHT),
        {"SeriesTime": at(-20), "FrameReferenceTime": None},
    ),
    "stored again without the first five beds, frame reference times of 0": (
        Scan(vendor=GE, beds_s=EIGHT[5:]),
        {"SeriesTime": at(120), "FrameReferenceTime": 0},
    ),
    "stored again without the first five beds and without frame reference times": (
        Scan(beds_s=EIGHT[5:]),
        {"SeriesTime": at(120), "FrameReferenceTime": None},
    ),
    "stored again without the first five beds, frame reference times that do not run": (
        Scan(beds_s=EIGHT[3:]),
        {"SeriesTime": at(120), "FrameReferenceTime": 89_000},
    ),
    "the last bed of a long scan, without frame reference time": (
        Scan(beds_s=LATE, frame_s=1200.0),
        {"FrameReferenceTime": None},
    ),
}


@pytest.mark.parametrize("digits", [4, 6])
@pytest.mark.parametrize("name", SETTLED)
def test_what_the_times_leave_open_is_settled(name, digits):
    scan, changes = SETTLED[name]
    result = suv_factors(headers(scan, digits=digits, **changes))
    assert result.factors == pytest.approx(scan.factors, rel=2e-3 if digits == 4 else 2e-4)


@pytest.mark.parametrize("name", SETTLED)
def test_it_is_the_factor_that_settles_it(name):
    """Without it the same headers are refused, or taken 5 % wrong and more."""
    scan, changes = SETTLED[name]
    without = replace(scan, changes=changes).headers()
    try:
        wrong = np.abs(suv_factors(without).factors / scan.factors - 1).min()
    except IGTVError:
        return
    assert wrong > 0.05


def test_the_rule_is_named_and_a_series_time_that_is_not_used_is_warned_of():
    scan = Scan(vendor=GE, beds_s=EIGHT)
    result = suv_factors(headers(scan, SeriesTime=at(-20), FrameReferenceTime=0))
    assert DECAY_FACTOR in result.rule
    (warning,) = result.warnings
    assert "series time contradicts acquisition time and decay factor" in warning
    assert "series time 09:40:00" in warning
    assert "decay factor counts from 10:00:00" in warning


def scaled(scan, minutes):
    """The factors of a scan that was corrected to another moment than its start."""
    return [factor * np.exp(scan.constant * 60 * minutes) for factor in scan.decay_factors]


CONTRADICTING = {
    "series and frames say one moment, acquisitions and factors another": (
        Scan(beds_s=LATE, frame_s=1200.0),
        scaled(Scan(beds_s=LATE, frame_s=1200.0), -50),
        {},
    ),
    "three moments": (Scan(), scaled(Scan(), 40), {"SeriesTime": at(-20), "FrameReferenceTime": 0}),
    "stored again: frames and factors": (Scan(), scaled(Scan(), 40), {"SeriesTime": at(120)}),
    "stored again, one bed: acquisition and factor": (
        Scan(beds_s=LATE),
        None,
        {"SeriesTime": at(120), "FrameReferenceTime": None},
    ),
}


@pytest.mark.parametrize("name", CONTRADICTING)
def test_what_it_contradicts_is_refused(name):
    scan, factors, changes = CONTRADICTING[name]
    with pytest.raises(IGTVError, match=r"contradict each other.*decay factor counts from"):
        suv_factors(headers(scan, factors, **changes))


def test_a_factor_against_two_that_agree_is_warned_of():
    scan = Scan()
    result = suv_factors(headers(scan, scaled(scan, 40)))
    assert result.factors == pytest.approx(scan.factors, rel=2e-4)
    assert any("decay factor contradicts the other times" in warning for warning in result.warnings)


@pytest.mark.parametrize(("beds", "is_warned"), [(EIGHT, True), (EIGHT[:3], False)])
def test_beds_that_may_each_be_corrected_to_a_moment_of_their_own(beds, is_warned):
    """Some write only the decay within the frame: nothing follows, but if it is true, SUVs are wrong."""
    scan = Scan(beds_s=beds)
    result = suv_factors(headers(scan, [scan.decay_factors[0]] * len(beds)))
    assert result.factors == pytest.approx(scan.factors, rel=2e-4)
    assert ["do not belong to one moment" in w for w in result.warnings] == [True] * is_warned


@pytest.mark.parametrize("frames", [None, 0])
def test_factors_that_count_to_the_start_of_the_frame(frames):
    """1 on the first bed cannot hold the decay within it, 5 % with C-11."""
    scan = Scan(half_life=C11, beds_s=EIGHT)
    factors = [np.exp(scan.constant * bed) for bed in EIGHT]
    result = suv_factors(headers(scan, factors, SeriesTime=at(120), FrameReferenceTime=frames))
    assert result.factors == pytest.approx(scan.factors, rel=2e-4)


@pytest.mark.parametrize("value", [None, "", "1", "1.0", "0", "0.5"])
def test_factors_that_say_nothing(value):
    """1 on every slice stands for none; a slice cannot be scaled down."""
    scan = Scan(beds_s=EIGHT, changes={"DecayFactor": value})
    result = suv_factors(scan.headers())
    assert result.factors == pytest.approx(scan.factors, rel=2e-4)
    assert not result.warnings


def test_one_acquisition_time_for_all_beds_says_nothing_with_their_factors():
    scan = Scan(vendor=GE, beds_s=EIGHT)
    result = suv_factors(headers(scan, AcquisitionTime=clock(BEGAN)))
    assert result.factors == pytest.approx(scan.factors, rel=2e-4)
    assert not result.warnings


def test_a_factor_that_is_no_number():
    with pytest.raises(IGTVError, match="DecayFactor is not a finite number"):
        suv_factors(Scan(half_life=F18, changes={"DecayFactor": "1e999"}).headers())
