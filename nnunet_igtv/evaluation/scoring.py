"""Score the predictions of one or several models and write metrics.json, metrics.csv and report.html."""

from collections.abc import Mapping
from pathlib import Path

import SimpleITK as sitk
from tqdm import tqdm

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.by_position import profile
from nnunet_igtv.evaluation.cases import find_cases, read, read_on_grid
from nnunet_igtv.evaluation.metrics import score
from nnunet_igtv.evaluation.report import write_report
from nnunet_igtv.evaluation.results import Results


def evaluate(
    truth: str | Path,
    predictions: Mapping[str, str | Path],
    images: str | Path | None,
    output: str | Path,
    *,
    title: str = "IGTV segmentation",
) -> Results:
    """Score models on the cases of a truth folder.

    Args:
        truth: one mask per case; nonzero is the structure.
        predictions: model's name -> folder with a mask of the same name per case.
        images: CASE_0000 (CT) and CASE_0001 (PET) for the report's pictures; None for a report without.
        output: folder for metrics.json, metrics.csv and report.html; files of these names are replaced.
        title: the report's heading.

    Raises:
        IGTVError: no cases, a prediction is missing, or a mask does not lie on the truth's grid.

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
    results = Results({name: {} for name in folders}, {name: {} for name in folders})
    for case in tqdm(cases, desc="evaluate", unit="case"):
        grid = read(case.truth, case.name)
        target = sitk.GetArrayFromImage(grid) != 0
        for model, path in case.predictions.items():
            found = read_on_grid(path, grid, case.name) != 0
            results.scores[model][case.name] = score(target, found, grid.GetSpacing()[::-1])
            results.profiles[model][case.name] = profile(target, found)

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    results.write_json(output / "metrics.json")
    results.write_csv(output / "metrics.csv")
    write_report(results, cases, output / "report.html", title)
    return results
