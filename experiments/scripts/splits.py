"""splits_final.json: training sets of several sizes as folds, or nnU-Net's folds before any training starts.

    python experiments/scripts/splits.py RAW PREPROCESSED --models WORK/models --train 12 48 --validate 4
    python experiments/scripts/splits.py RAW PREPROCESSED --models WORK/models --folds 5

Sizes: fold 0 trains on the first 12 cases, fold 1 on the first 48; both validate on the last 4. Folds: a file
that is there (by patient, of the conversion) is kept; else they are by patient where dataset.json says whose
the cases are. A fold by which a network was trained stays what it is.
"""

import argparse
import json
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.folds import groups_of, read_splits, splits_by_patient


def by_size(cases: list[str], sizes: list[int], validate: int) -> list[dict[str, list[str]]]:
    """A fold per size: the first cases to train on, the last ones to validate on.

    Raises:
        IGTVError: there are not so many cases.
    """
    if len(cases) < max(sizes) + validate:
        raise IGTVError(
            f"{max(sizes)} cases to train on and {validate} to validate on, and the dataset has {len(cases)}",
            remedy="make `sets` or `validation` of the configuration smaller, or the cohort larger",
        )
    return [{"train": cases[:size], "val": cases[-validate:]} for size in sizes]


def require_kept(file: Path, splits: list[dict[str, list[str]]], models: Path) -> None:
    """Raises IGTVError where a fold in the file would become another, and networks were trained by it.

    Args:
        file: splits_final.json, in the preprocessed dataset.
        splits: what it is to hold.
        models: folder of all networks.
    """
    present = (read_splits(file) if file.is_file() else None) or []
    for fold, (old, new) in enumerate(zip(present, splits, strict=False)):
        networks = sorted(models.glob(f"*/{file.parent.name}/*/fold_{fold}/checkpoint_*.pth"))
        if old != new and networks:
            raise IGTVError(
                f"networks were trained by fold {fold}, of {len(old['train'])} cases to train on and "
                f"{len(old['val'])} to validate on, which would become one of {len(new['train'])} and "
                f"{len(new['val'])}",
                file=networks[0].parent,
                remedy="put new sets behind those that are there, in their order, or take another `work`",
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("preprocessed", type=Path)
    parser.add_argument("--models", type=Path, required=True, help="folder of all networks")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--train", type=int, nargs="+", help="sizes of the training sets")
    what.add_argument("--folds", type=int)
    parser.add_argument("--validate", type=int, default=4)
    a = parser.parse_args()
    target = a.preprocessed / "splits_final.json"
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (a.raw / "labelsTr").glob("*.nii.gz"))
    if a.train:
        splits = by_size(cases, a.train, a.validate)
    else:
        if target.exists():
            splits = json.loads(target.read_text())
        elif known := groups_of(json.loads((a.raw / "dataset.json").read_text())):
            splits = splits_by_patient(cases, known)
        else:
            splits = generate_crossval_split(cases, n_splits=a.folds)
        if len(splits) != a.folds:
            raise IGTVError(
                f"{len(splits)} folds, and the configuration's `sets` says {a.folds}",
                file=target,
                remedy="set `sets` to the number of folds",
            )
    require_kept(target, splits, a.models)
    write_text(target, json.dumps(splits, indent=1, default=str) + "\n")
