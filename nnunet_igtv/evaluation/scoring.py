"""Score the predictions of one or several models and write metrics.json, metrics.csv and report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.by_position import profile
from nnunet_igtv.evaluation.calibration import Reliability, counted, read_probability, same_mask
from nnunet_igtv.evaluation.cases import Case, Truth, find_cases, read_prediction, read_truth, without_truth
from nnunet_igtv.evaluation.metrics import score
from nnunet_igtv.evaluation.observers import agreement_of
from nnunet_igtv.evaluation.output import FILES, digest_of, refuse_another, write_all
from nnunet_igtv.evaluation.patients import manifest_of, read_patients
from nnunet_igtv.evaluation.report import report
from nnunet_igtv.evaluation.results import Results
from nnunet_igtv.evaluation.statistics import mean_of_defined
from nnunet_igtv.evaluation.texts import csv_text, json_text
from nnunet_igtv.grids import Grid, rearranged

Folder = str | Path


def evaluate(
    truth: Folder | Mapping[str, Folder],
    predictions: Mapping[str, Folder | Sequence[Folder]],
    images: Folder | None,
    output: Folder,
    *,
    patients: Folder | None = None,
    reference: str | None = None,
    title: str = "IGTV segmentation",
    overwrite: bool = False,
) -> Results:
    """Score models on the cases of a truth folder.

    Args:
        truth: one mask per case; nonzero is the structure, apart from the value that dataset.json, there or
            in the parent folder, names as nnU-Net's ignore label: such voxels are left out. For several
            observers, their names -> folders of the same cases; the truth is then their consensus (STAPLE).
        predictions: model's name -> folder with a mask of the same name per case; several folders are runs of
            one model: seeds that each predicted all cases, or folds that each predicted their own. Where
            nnU-Net wrote probabilities next to a mask, their calibration is computed.
        images: CASE_0000 (CT) and CASE_0001 (PET) for the report's pictures; None for a report without.
        output: folder for metrics.json, metrics.csv and report.html.
        patients: CSV file with columns "case" and "patient". None: the manifest that the conversion left next
            to the dataset of the truth, or else each case is a patient of its own.
        reference: the model that all others are compared with; None compares each with each.
        title: the report's heading.
        overwrite: replace an evaluation of other masks that the output folder holds.

    Raises:
        IGTVError: no cases, a contour or prediction is missing, an image is no mask, a mask or image has
            other voxels than the truth, the table of patients lacks a case, or the output folder holds
            another evaluation. Nothing is written then.
        OSError: the output cannot be written. Files of an earlier evaluation stay as they were.

    Examples:
        >>> from nnunet_igtv import evaluate
        >>> results = evaluate("labels", {"transferred": "predictions"}, None, "report")
        >>> 0 < results.means["transferred"]["dice"] < 1
        True
        >>> results.cases
        ['LungIGTV_0001', 'LungIGTV_0002']
    """
    truths = {n: Path(f) for n, f in truth.items()} if isinstance(truth, Mapping) else {"truth": Path(truth)}
    folders = {name: _folders(name, given) for name, given in predictions.items()}
    _check_names(truths, folders, reference)
    cases = find_cases(truths, folders, Path(images) if images is not None else None)
    numbers, known_from, notes = _patients(cases, patients, next(iter(truths.values())))
    for model, names in without_truth(cases, folders).items():
        notes.append(f"{len(names)} of the cases that {model} predicted have no truth: {names[0]}, …")
    output, inputs = Path(output), digest_of(cases)
    if not overwrite:
        refuse_another(output, inputs)
    results = Results(
        {name: [{} for _ in runs] for name, runs in folders.items()},
        {name: {} for name in folders},
        numbers,
        known_from,
        reference,
        notes=notes,
        ignore_label=cases[0].ignore,
        inputs=inputs,
    )
    for case in tqdm(cases, desc="evaluate", unit="case"):
        _score(case, results)
    for model, found in results.calibration.items():
        masks = sum(map(len, results.runs[model]))
        if found.masks < masks:
            results.notes.append(f"The calibration of {model} is over {found.masks} of {masks} masks.")
    texts = json_text(results), csv_text(results), report(results, cases, title)
    write_all(output, dict(zip(FILES, texts, strict=True)), inputs, overwrite)
    return results


def _folders(model: str, given: Folder | Sequence[Folder]) -> list[Path]:
    folders = [Path(given)] if isinstance(given, str | Path) else [Path(folder) for folder in given]
    if not folders:
        raise IGTVError(f"no folder of predictions by {model}", settings=["predictions"])
    if len({folder.absolute() for folder in folders}) < len(folders):
        raise IGTVError(f"two runs of {model} are the same folder", file=folders[0])
    return folders


def _check_names(
    truths: Mapping[str, Path], folders: Mapping[str, list[Path]], reference: str | None
) -> None:
    if not folders:
        raise IGTVError("no predictions to score", remedy="name at least one folder of predictions")
    if not truths:
        raise IGTVError("no truth to score against", remedy="name at least one folder of masks")
    if "truth" in folders or (len(truths) > 1 and "truth" in truths):
        raise IGTVError("'truth' is the name of the truth", remedy="give the model or observer another name")
    if len(truths) > 1 and (both := sorted(set(truths) & set(folders))):
        raise IGTVError(f"an observer and a model are both named {both[0]!r}", remedy="name them differently")
    if reference is not None and reference not in folders:
        raise IGTVError(
            f"no model is named {reference!r}",
            remedy=f"name one of {', '.join(folders)}",
            settings=["reference"],
        )


def _patients(cases: list[Case], given: Folder | None, truth: Path) -> tuple[dict[str, int], str, list[str]]:
    """Case -> number of its patient, where that is known from, and notes."""
    names = [case.name for case in cases]
    if given is not None:
        return read_patients(Path(given), names), "the given table", []
    own = {name: i for i, name in enumerate(names, 1)}
    manifest = manifest_of(truth)
    if manifest is None:
        return own, "", []
    try:
        return read_patients(manifest, names), "the manifest of the dataset", []
    except IGTVError as error:
        note = f"The manifest of the dataset was not used ({error.what})."
        return own, "", [note]


def _score(case: Case, results: Results) -> None:
    """Add the values of a case to the results."""
    truth = read_truth(case)
    among: dict[tuple[str, str], list[dict[str, float]]] = {}
    for a, mask in truth.observers.items():
        for b, other in truth.observers.items():
            if a != b:
                among[a, b] = [agreement_of(mask, other, truth.spacing)]
    for model, runs in case.predictions.items():
        profiles = []
        for run, path in runs:
            found, own = read_prediction(case, path, truth)
            results.runs[model][run][case.name] = score(truth.structure, found, truth.spacing)
            profiles.append(profile(truth.structure, found))
            for observer, mask in truth.observers.items():
                among.setdefault((model, observer), []).append(agreement_of(found, mask, truth.spacing))
            _calibrate(case, truth, model, path, found, own, results)
        results.profiles[model][case.name] = np.array(
            [mean_of_defined(part) for part in zip(*profiles, strict=True)]
        )
    for pair, values in among.items():
        mean = {metric: mean_of_defined(run[metric] for run in values) for metric in values[0]}
        results.observers.setdefault(pair, {})[case.name] = mean


def _calibrate(
    case: Case, truth: Truth, model: str, path: Path, found: np.ndarray, grid: Grid, results: Results
) -> None:
    """Count the probabilities next to a mask on some grid, if there are any."""
    read = read_probability(path, case.name, grid)
    if read is None:
        return
    probability, own = (rearranged(part, grid, Grid.of(truth.grid), "truth") for part in read)
    if not same_mask(own & truth.counts, found):
        results.notes.append(
            f"{case.name}: the probabilities of {model} belong to another mask; left out of the calibration."
        )
        return
    near = counted(truth.structure, found, truth.counts, truth.spacing)
    if near.any():
        results.calibration.setdefault(model, Reliability()).add(probability[near], truth.structure[near])
