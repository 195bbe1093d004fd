"""Several observers: how far they agree with each other, and where a model stands among them.

A model is compared with each observer, as each observer is with the others. The consensus of the observers
is the truth of all other tables; an observer's own score against it is too good, as the contour is part of
it.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from nnunet_igtv.evaluation.boxes import box_of
from nnunet_igtv.evaluation.by_position import dice
from nnunet_igtv.evaluation.comparison import Summary, compare, mean_by_patient, summarise
from nnunet_igtv.evaluation.statistics import Interval
from nnunet_igtv.evaluation.surfaces import surface_metrics

PairScores = dict[str, dict[str, float]]  # case -> metric -> value
PAIRED = ("dice", "surface_dice_2mm", "hd95_mm")  # all of them alike in both directions


def agreement_of(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """The metrics of `PAIRED` of two masks, bool (S, H, W), spacing in mm."""
    box = box_of(a | b, (1, 1, 1))
    values = {"dice": dice(a[box], b[box]), **surface_metrics(a[box], b[box], spacing)}
    return {metric: values[metric] for metric in PAIRED}


class Rater(NamedTuple):
    """An observer against the other observers, or a model against all of them: the mean of each case's pairs.

    `minus_observers` is the rater's value minus that of the pairs of observers in the same patients. Where
    its interval holds 0, the model is not told apart from the observers; that is no proof that it agrees
    with them as well as they do with each other.
    """

    name: str
    is_model: bool
    summaries: dict[str, Summary]
    minus_observers: dict[str, tuple[float, Interval | None]]


def raters(
    scores: Mapping[tuple[str, str], PairScores], observers: list[str], patients: Mapping[str, int]
) -> list[Rater]:
    """First the pairs of observers as a whole, named "observers", then each observer, then each model.

    Args:
        scores: (a, b) -> case -> metric -> value, with an observer b.
        observers: their names.
        patients: case -> patient.
    """
    human = list(combinations(observers, 2))
    models = list(dict.fromkeys(a for a, _ in scores if a not in observers))
    pairs: dict[str | None, list[tuple[str, str]]] = {
        None: human,
        **{o: [pair for pair in human if o in pair] for o in observers},
        **{model: [(model, o) for o in observers] for model in models},
    }
    found, among = [], {metric: _in_pairs(scores, human, metric) for metric in PAIRED}
    for name, own in pairs.items():
        summaries = {metric: summarise(by_patient(scores, own, metric, patients)) for metric in PAIRED}
        minus = {
            metric: compare(among[metric], _in_pairs(scores, own, metric), patients, "") for metric in PAIRED
        }
        found.append(
            Rater(
                name or "observers among themselves",
                name in models,
                summaries,
                {metric: (row.mean, row.interval) for metric, row in minus.items()},
            )
        )
    return found


def _in_pairs(
    scores: Mapping[tuple[str, str], PairScores], pairs: list[tuple[str, str]], metric: str
) -> dict[str, list[float]]:
    """Case -> the metric in each of the pairs."""
    cases = dict.fromkeys(case for pair in pairs for case in scores[pair])
    return {case: [scores[p][case][metric] for p in pairs if case in scores[p]] for case in cases}


def by_patient(
    scores: Mapping[tuple[str, str], PairScores],
    pairs: list[tuple[str, str]],
    metric: str,
    patients: Mapping[str, int],
) -> dict[int, float]:
    """Mean over all pairs and cases of a patient, of those that are defined."""
    values = ((case, own[metric]) for pair in pairs for case, own in scores[pair].items())
    return mean_by_patient(values, patients)
