"""Scores of one or several models on the same cases, and what they say over patients."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nnunet_igtv.evaluation.by_position import BINS
from nnunet_igtv.evaluation.calibration import Reliability
from nnunet_igtv.evaluation.comparison import (
    Detection,
    Difference,
    Summary,
    compare,
    detection,
    mean_by_patient,
    summarise,
)
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.observers import PairScores
from nnunet_igtv.evaluation.statistics import Agreement, agreement, holm, mean_of_defined

MOST_SHOWN = 45  # comparisons, those of ten models
CaseScores = dict[str, dict[str, float]]  # case -> metric -> value


@dataclass(frozen=True)
class Results:
    """What an evaluation found. A value that is not defined is NaN.

    Attributes:
        runs: `runs[model][run][case][metric]`; a run is a seed or a fold of the model.
        profiles: `profiles[model][case]`: Dice along the target, mean of the runs that define it.
        patients: case -> number of its patient.
        patients_from: where the patients are known from; "" if each case counts as a patient of its own.
        reference: the model that all others are compared with; None if each is compared with each.
        observers: `observers[(a, b)][case][metric]` of an observer or model a against an observer b.
        calibration: model -> reliability of its probabilities, where they were written.
        notes: what a reader must know and what was left out.
        ignore_label: value of the truth's voxels that did not count; None if all of them did.
        inputs: a SHA-256 over the names and contents of all masks.
    """

    runs: dict[str, list[CaseScores]]
    profiles: dict[str, dict[str, np.ndarray]]
    patients: dict[str, int]
    patients_from: str = ""
    reference: str | None = None
    observers: dict[tuple[str, str], PairScores] = field(default_factory=dict)
    calibration: dict[str, Reliability] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ignore_label: int | None = None
    inputs: str = ""

    @property
    def models(self) -> list[str]:
        return list(self.runs)

    @property
    def cases(self) -> list[str]:
        return list(self.patients)

    @cached_property
    def scores(self) -> dict[str, CaseScores]:
        """`scores[model][case][metric]`: mean of the runs that predicted the case and define the metric."""
        return {
            model: {
                case: {
                    metric: mean_of_defined(run[case][metric] for run in runs if case in run)
                    for metric in METRICS
                }
                for case in self.cases
            }
            for model, runs in self.runs.items()
        }

    def values(self, model: str, metric: str) -> np.ndarray:
        """One value per case for which the metric is defined."""
        values = np.array([case[metric] for case in self.scores[model].values()])
        return values[np.isfinite(values)]

    def in_runs(self, model: str, metric: str) -> dict[str, list[float]]:
        """Case -> the metric in each run that predicted it."""
        runs = self.runs[model]
        return {case: [run[case][metric] for run in runs if case in run] for case in self.cases}

    def by_patient(self, model: str, metric: str) -> dict[int, float]:
        """Patient -> mean of the patient's cases, of those for which the metric is defined."""
        values = ((case, self.scores[model][case][metric]) for case in self.cases)
        return mean_by_patient(values, self.patients)

    @cached_property
    def summaries(self) -> dict[str, dict[str, Summary]]:
        """Mean and median over patients with their intervals, per model and metric."""
        return {
            model: {metric: summarise(self.by_patient(model, metric)) for metric in METRICS}
            for model in self.models
        }

    def mean(self, model: str) -> dict[str, float]:
        """Mean over the patients for which a metric is defined; NaN where it is for none."""
        return {metric: summary.mean for metric, summary in self.summaries[model].items()}

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Mean per model and metric."""
        return {model: self.mean(model) for model in self.models}

    def masks(self, model: str, metric: str) -> tuple[int, int]:
        """How many masks of the model, over all runs and cases, define the metric, and how many there are."""
        values = [case[metric] for run in self.runs[model] for case in run.values()]
        return sum(map(math.isfinite, values)), len(values)

    def run_means(self, model: str) -> list[dict[str, float]]:
        """Mean over the patients of each run."""
        return [
            {metric: self._mean_over_patients(run, metric) for metric in METRICS} for run in self.runs[model]
        ]

    def seeds(self, model: str) -> list[CaseScores]:
        """The first run of each case, the second of each, and so on, in the order of the runs: of seeds the
        runs themselves, of folds all of them together, of seeds with folds each seed's folds."""
        runs = {case: [run[case] for run in self.runs[model] if case in run] for case in self.cases}
        return [dict(zip(runs, scores, strict=True)) for scores in zip(*runs.values(), strict=False)]

    def spread_of_runs(self, model: str, metric: str) -> float | None:
        """Standard deviation of the means of the seeds; None of one, NaN where fewer than two of them define
        the metric."""
        seeds = self.seeds(model)
        if len(seeds) < 2:
            return None
        means = [self._mean_over_patients(seed, metric) for seed in seeds]
        means = [mean for mean in means if math.isfinite(mean)]
        return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")

    def _mean_over_patients(self, run: CaseScores, metric: str) -> float:
        values = ((case, scores[metric]) for case, scores in run.items())
        return mean_of_defined(mean_by_patient(values, self.patients).values())

    def mean_profile(self, model: str) -> list[float]:
        """Mean Dice over patients along the target, from its first slice to its last."""
        profiles = self.profiles[model]
        return [
            mean_of_defined(
                mean_by_patient(((case, own[b]) for case, own in profiles.items()), self.patients).values()
            )
            for b in range(BINS if profiles else 0)
        ]

    @cached_property
    def _differences(self) -> dict[tuple[str, str], dict[str, Difference]]:
        """Every pair of models, in the order of the models, without adjusted p values."""
        pairs = [(a, b) for i, a in enumerate(self.models) for b in self.models[i + 1 :]]
        return {
            (a, b): {
                metric: compare(
                    self.in_runs(a, metric), self.in_runs(b, metric), self.patients, METRICS[metric].best
                )
                for metric in METRICS
                if METRICS[metric].best
            }
            for a, b in pairs
        }

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], dict[str, Difference]]:
        """(a, b) -> metric -> b minus a in the same patients; p adjusted over all pairs of a metric."""
        pairs = [pair for pair in self._differences if self.reference is None or self.reference in pair]
        found: dict[tuple[str, str], dict[str, Difference]] = {pair: {} for pair in pairs}
        for metric in [m for m in METRICS if METRICS[m].best]:
            rows = [
                self._differences[pair][metric].reversed()
                if pair[1] == self.reference
                else self._differences[pair][metric]
                for pair in pairs
            ]
            for pair, row, p in zip(pairs, rows, holm([row.p for row in rows]), strict=True):
                found[pair][metric] = row._replace(p_holm=p)
        return {(pair[::-1] if pair[1] == self.reference else pair): rows for pair, rows in found.items()}

    @property
    def shown_comparisons(self) -> dict[tuple[str, str], dict[str, Difference]]:
        """The comparisons that a person reads: all of up to `MOST_SHOWN`; of more, those with the model of
        the highest mean Dice. p values stay adjusted over all."""
        if len(self.comparisons) <= MOST_SHOWN:
            return self.comparisons
        dice = {model: summary["dice"].mean for model, summary in self.summaries.items()}
        best = max(dice, key=lambda model: dice[model] if math.isfinite(dice[model]) else -math.inf)
        return {pair: rows for pair, rows in self.comparisons.items() if best in pair}

    def best(self, metric: str) -> set[str]:
        """The model that is better than each other one by more than chance, if there is one: the interval of
        each difference lies on its side of 0. Empty for metrics of which no value is better.
        """
        better = {"high": 1, "low": -1, "zero": -1}.get(METRICS[metric].best)
        if better is None or len(self.models) < 2:
            return set()

        def wins(model: str, other: str) -> bool:
            pair, sign = ((other, model), 1) if (other, model) in self._differences else ((model, other), -1)
            interval = self._differences[pair][metric].interval
            return interval is not None and min(sign * better * bound for bound in interval) > 0

        return {m for m in self.models if all(wins(m, other) for other in self.models if other != m)}

    def agreement(self, model: str) -> Agreement:
        """Bland and Altman's agreement of the predicted volumes with the truth's, in ml: of a single mask."""
        differences: dict[int, list[float]] = {}
        for case, values in self.in_runs(model, "difference_ml").items():
            differences.setdefault(self.patients[case], []).extend(values)
        return agreement(list(differences.values()))

    def detection(self, model: str) -> Detection:
        """Lesion-wise detection over all cases."""
        return detection(self.scores[model], self.patients)

    def table(self) -> str:
        """Means per model and paired differences as text."""
        from nnunet_igtv.evaluation.texts import table

        return table(self)
