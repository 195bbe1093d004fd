"""Score the predictions of one or several models and write metrics.json, metrics.csv and report.html."""

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.by_position import profile
from nnunet_igtv.evaluation.cases import find_cases, read_predictions, read_truth
from nnunet_igtv.evaluation.metrics import score
from nnunet_igtv.evaluation.output import FILES, digest_of, refuse_another, write_all
from nnunet_igtv.evaluation.report import report
from nnunet_igtv.evaluation.results import Results


def evaluate(
    truth: str | Path,
    predictions: Mapping[str, str | Path],
    images: str | Path | None,
    output: str | Path,
    *,
    title: str = "IGTV segmentation",
    overwrite: bool = False,
) -> Results:
    """Score models on the cases of a truth folder.

    Args:
        truth: one mask per case; nonzero is the structure, apart from the value that dataset.json, there or
            in the parent folder, names as nnU-Net's ignore label: such voxels are left out.
        predictions: model's name -> folder with a mask of the same name per case.
        images: CASE_0000 (CT) and CASE_0001 (PET) for the report's pictures; None for a report without.
        output: folder for metrics.json, metrics.csv and report.html.
        title: the report's heading.
        overwrite: replace an evaluation of other masks that the output folder holds.

    Raises:
        IGTVError: no cases, a prediction is missing, an image is no mask, a mask has another grid than the
            truth, or the output folder holds another evaluation. Nothing is written then.
        OSError: the output cannot be written. Files of an earlier evaluation stay as they were.

    Examples:
        >>> from nnunet_igtv import evaluate
        >>> results = evaluate("labels", {"transferred": "predictions"}, None, "report")
        >>> 0 < results.means["transferred"]["dice"] < 1
        True
        >>> results.cases
        ['LungIGTV_0001', 'LungIGTV_0002']
    """
    if not predictions:
        raise IGTVError("no predictions to score", remedy="name at least one folder of predictions")
    folders = {name: Path(folder) for name, folder in predictions.items()}
    cases = find_cases(Path(truth), folders, Path(images) if images is not None else None)
    output, inputs = Path(output), digest_of(cases)
    if not overwrite:
        refuse_another(output, inputs)
    names = list(folders)
    results = Results({n: {} for n in names}, {n: {} for n in names}, cases[0].ignore, inputs)
    for case in tqdm(cases, desc="evaluate", unit="case"):
        target = read_truth(case)
        spacing = target.grid.GetSpacing()[::-1]
        for model, found in read_predictions(case, target):
            results.scores[model][case.name] = score(target.structure, found, spacing)
            results.profiles[model][case.name] = profile(target.structure, found)
    texts = results.json_text(), results.csv_text(), report(results, cases, title)
    write_all(output, dict(zip(FILES, texts, strict=True)))
    return results
