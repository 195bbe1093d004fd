"""One model over patients, and two models on the same patients."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnunet_igtv.evaluation.lesions import f1
from nnunet_igtv.evaluation.statistics import (
    Interval,
    bootstrap,
    interval_of,
    mean_of_defined,
    resampled,
    wilcoxon,
)

NAN = float("nan")
SMALL = 0.05  # p
Values = Mapping[str, Sequence[float]]  # case -> a metric's value in each run


class Summary(NamedTuple):
    """A metric of one model; NaN where no patient has a value, intervals None of too few patients."""

    patients: int  # with a value
    mean: float
    mean_interval: Interval | None
    median: float
    median_interval: Interval | None


class Difference(NamedTuple):
    """The second model minus the first, patient by patient.

    Of metrics whose best value is 0 (the difference of volumes) it is the difference of the absolute values.
    """

    patients: int  # with a case of which both models have a value
    mean: float
    interval: Interval | None
    p: float | None
    p_holm: float | None = None

    @property
    def apart(self) -> bool:
        """Whether the two models are told apart, by the one criterion that there is: the interval does not
        hold 0. That it holds 0 is no proof that they are equally good."""
        return self.interval is not None and self.interval.low * self.interval.high > 0

    @property
    def disagrees(self) -> bool:
        """Whether the adjusted p, at `SMALL`, says otherwise than the interval."""
        return self.interval is not None and self.p_holm is not None and self.apart != (self.p_holm < SMALL)

    def reversed(self) -> "Difference":
        """The first minus the second."""
        turned = None if self.interval is None else Interval(-self.interval.high, -self.interval.low)
        return self._replace(mean=-self.mean, interval=turned)


class Detection(NamedTuple):
    """Lesion-wise detection over all cases; see lesions.py for what is found and what is false."""

    lesions: float
    found: float
    false: float
    sensitivity: float
    sensitivity_interval: Interval | None
    false_per_case: float
    false_per_case_interval: Interval | None
    f1: float
    f1_interval: Interval | None


def mean_by_patient(values: Iterable[tuple[str, float]], patients: Mapping[str, int]) -> dict[int, float]:
    """Patient -> mean of the values of the patient's cases, of those that are defined; without the patients
    that have none.

    Args:
        values: (case, value).
        patients: case -> patient.
    """
    found: dict[int, list[float]] = {}
    for case, value in values:
        found.setdefault(patients[case], []).append(value)
    means = {patient: mean_of_defined(own) for patient, own in found.items()}
    return {patient: mean for patient, mean in means.items() if math.isfinite(mean)}


def summarise(by_patient: Mapping[int, float]) -> Summary:
    """Mean and median of one value per patient."""
    values = np.array(list(by_patient.values()))
    if not len(values):
        return Summary(0, NAN, None, NAN, None)
    return Summary(
        len(values),
        float(values.mean()),
        bootstrap(values),
        float(np.median(values)),
        bootstrap(values, np.median),
    )


def compare(first: Values, second: Values, patients: Mapping[str, int], best: str) -> Difference:
    """The paired difference of a metric: case by case, then the mean over the cases of each patient.

    A case counts where the metric is defined in every value of both models. Over other cases of one than of
    the other, a model would gain by missing a tumour: it has no HD95 then.

    Args:
        first, second: case -> a value for each run (or pair of observers). Absolute values are taken of each.
        patients: case -> patient.
        best: "high", "low" or "zero", as in `Metric`; "" where none is better.
    """
    size = abs if best == "zero" else float
    common = [
        case for case in first if case in second and all(map(math.isfinite, (*first[case], *second[case])))
    ]
    minus = (
        (case, float(np.mean([*map(size, second[case])]) - np.mean([*map(size, first[case])])))
        for case in common
    )
    differences = np.array(list(mean_by_patient(minus, patients).values())).round(12)
    if not len(differences):
        return Difference(0, NAN, None, None)
    return Difference(
        len(differences), float(differences.mean()), bootstrap(differences), wilcoxon(differences)
    )


def detection(scores: Mapping[str, Mapping[str, float]], patients: Mapping[str, int]) -> Detection:
    """Counts over all cases; the intervals resample patients with all their cases."""
    rows = sorted(set(patients.values()))
    counts = np.zeros((len(rows), 4))  # lesions, missed, false, cases
    for case, patient in patients.items():
        values = scores[case]
        counts[rows.index(patient)] += (
            values["lesions"],
            values["missed_lesions"],
            values["false_lesions"],
            1,
        )
    lesions, missed, false, cases = counts.sum(0)
    drawn = counts[resampled(len(rows))].sum(1)  # (resamples, 4)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a lesion
        sensitivity = 1 - drawn[:, 1] / drawn[:, 0]
        found = drawn[:, 0] - drawn[:, 1]
        f1s = 2 * found / (2 * found + drawn[:, 1] + drawn[:, 2])
    return Detection(
        lesions,
        lesions - missed,
        false,
        1 - missed / lesions if lesions else NAN,
        interval_of(sensitivity, len(rows)),
        false / cases,
        interval_of(drawn[:, 2] / drawn[:, 3], len(rows)),
        f1(lesions - missed, false, missed),
        interval_of(f1s, len(rows)),
    )
