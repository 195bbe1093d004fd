"""Beside the checkpoints of a network: what it was trained on. What would go on with another is refused.

    python experiments/scripts/trained_on.py MODELS/DATASET/TRAINER__PLANS__2d/fold_0 PREPROCESSED \
        --budget 60x50 --sizes 12 2 --values '{"patch_size": [96, 96]}' --start MODELS/…/fold_all

nnU-Net's `--c` takes the checkpoint that is there, whatever the folds and the plans are by now; where the
training is finished, it does nothing, and says nothing. `trained_on.json` is written before a training
starts, and compared before it goes on and before it predicts.

A network without this file is of an older version of the workflow. The logs of its epochs say how many cases
it was trained on, and by which plans. (`plans.json`, and what a checkpoint says of them, are of the last
start, which may have trained nothing.)
"""

import argparse
import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from nnunet_igtv.atomic import locked, write_text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.folds import SPLITS, read_splits

RECORD = "trained_on.json"
OF_STACKS = ("patch_size", "batch_size", "batch_dice", "architecture", "next_stage")  # set by our trainers
AGAIN = "make them again: snakemake with `--forcerun {}`"


def cases_of(fold: str, preprocessed: Path) -> dict[str, list[str]]:
    """The cases of a fold; of fold "all", those of the dataset.

    Raises:
        IGTVError: there is no such fold: nnU-Net would take cases at random.
    """
    if fold == "all":
        labels = (preprocessed / "gt_segmentations").glob("*.nii.gz")
        return {"train": sorted(path.name.removesuffix(".nii.gz") for path in labels), "val": []}
    file = preprocessed / SPLITS
    folds = (read_splits(file) if file.is_file() else None) or []
    if int(fold) >= len(folds):
        raise IGTVError(f"there is no fold {fold}", file=file, remedy=AGAIN.format("split"))
    return {part: list(folds[int(fold)][part]) for part in ("train", "val")}


def planned(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """One configuration, with what it inherits, and all that is said of the dataset."""
    own = dict(plans["configurations"][name])
    parent = own.pop("inherits_from", None)
    others = ("configurations", "continue_training")
    shared = {key: value for key, value in plans.items() if key not in others}
    return shared | (planned(plans, parent) if parent else {}) | own


def used(log: str) -> dict[str, Any] | None:
    """The plans that a training went by, as nnU-Net wrote them into its log; None where it did not."""
    found = re.findall(r"^(?:Configuration name|These are the global).*\n (\{.*\}) *$", log, re.MULTILINE)
    if len(found) != 2:
        return None
    both = ast.literal_eval(found[0]) | ast.literal_eval(found[1])
    return {key: value for key, value in both.items() if key != "continue_training"}


def as_planned(plans: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Plans of our networks without what our trainers write into them; the plane of the patch is compared."""
    if not plans["architecture"]["network_class_name"].startswith("nnunet_igtv."):
        return plans
    same_plane = plans["patch_size"][-2:] == now["patch_size"][-2:]
    ours = OF_STACKS if same_plane else OF_STACKS[1:]
    kept = {key: value for key, value in plans.items() if key not in ours}
    return kept | {key: now[key] for key in ours if key in now}


def logged(folder: Path, now: dict[str, Any], start: Path | None) -> list[dict[str, Any]]:
    """Records of a network that has none, one of each start that trained epochs and says what on.

    What the logs do not say (which cases, not only how many) is as it is now.
    """
    dataset, report = folder.parent / "dataset.json", folder / "transfer_report.json"
    found = []
    for text in (log.read_text(errors="replace") for log in sorted(folder.glob("training_log_*.txt"))):
        counts, plans = re.search(r"This split has (\d+) training and (\d+) val", text), used(text)
        if not re.search(r": Epoch \d", text) or not plans or not (counts or dataset.is_file()):
            continue
        if counts:
            sizes = [int(count) for count in counts.groups()]
        else:  # fold "all"
            sizes = [json.loads(dataset.read_text())["numTraining"], 0]
        then = now | {"plans": as_planned(plans, now["plans"])}
        if sizes != [len(cases) for cases in now["cases"].values()]:
            then["cases"] = {"train": [""] * sizes[0], "val": [""] * sizes[1]}
        if start:  # the work folder may have been moved since
            source = Path(json.loads(report.read_text())["source"]) if report.is_file() else Path()
            then["start"] = now["start"] if source.parts[-5:-1] == start.parts[-4:] else str(source)
        found.append(then)
    return found


def difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What was other than it is now, in words; "" where nothing was."""
    words = []
    if then["cases"] != now["cases"]:
        was, is_ = ([len(record["cases"][part]) for part in ("train", "val")] for record in (then, now))
        words.append("cases ({} to train on and {} to validate on, now {} and {})".format(*was, *is_))
    if then["plans"] != now["plans"]:
        keys = sorted(then["plans"].keys() | now["plans"].keys())
        other = [key for key in keys if then["plans"].get(key) != now["plans"].get(key)]
        words.append(f"plans ({', '.join(other)})")
    changed = [key for key in ("trainer", "budget") if then[key] != now[key]]
    words += [f"{key} ({then[key]}, now {now[key]})" for key in changed]
    words += ["starting weights"] if then["start"] != now["start"] else []
    return " and ".join(words)


def require_same(folder: Path, now: dict[str, Any], start: Path | None) -> None:
    """Write the record of a training that starts; compare that of one that has a checkpoint.

    Raises:
        IGTVError: the checkpoint is that of another training, or nothing says what it was trained on.
    """
    record = folder / RECORD
    if any(folder.glob("checkpoint_*.pth")):
        records = [json.loads(record.read_text())] if record.is_file() else logged(folder, now, start)
        words = [f"with other {other}" for then in records if (other := difference(then, now))]
        words += [] if records else [f"with nobody knows what: it has no {RECORD}, and no log tells"]
        if words:
            raise IGTVError(
                f"this network was trained {words[0]}",
                file=folder,
                remedy="put new sets behind those that are there, give changed plans or pre-trainings "
                "another name, or take another `work`; to train it anew, take this folder and its stamp in "
                "`done/` away",
            )
    write_text(record, json.dumps(now, indent=1) + "\n")


def check(
    folder: Path,
    preprocessed: Path,
    budget: str = "",
    sizes: list[int] | None = None,
    values: dict[str, Any] | None = None,
    start: Path | None = None,
) -> None:
    """Whether a training may start or go on in this folder.

    Args:
        folder: of its checkpoints.
        preprocessed: folder of its dataset.
        budget: epochs x steps.
        sizes: how many cases to train on and to validate on, by the configuration of the workflow.
        values: of its plans, by the configuration of the workflow.
        start: folder of the network whose weights it starts from.

    Raises:
        IGTVError: it may not.
    """
    trainer, name, configuration = folder.parent.name.split("__")
    fold = folder.name.removeprefix("fold_")
    cases = cases_of(fold, preprocessed)
    found = [len(part) for part in cases.values()]
    if sizes and sizes != found:
        raise IGTVError(
            f"fold {fold} has {found[0]} cases to train on and {found[1]} to validate on, and the "
            f"configuration says {sizes[0]} and {sizes[1]}",
            file=preprocessed / SPLITS,
            remedy=AGAIN.format("split"),
        )
    plans = planned(json.loads((preprocessed / f"{name}.json").read_text()), configuration)
    if other := [key for key, value in (values or {}).items() if plans.get(key) != value]:
        raise IGTVError(
            f"plans {name}: {configuration} has not the {', '.join(other)} of the configuration",
            file=preprocessed,
            remedy=AGAIN.format("edit_plans"),
        )
    weights = hashlib.sha256((start / RECORD).read_bytes()).hexdigest() if start else None
    now = {"trainer": trainer, "budget": budget, "cases": cases, "plans": plans, "start": weights}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        require_same(folder, now, start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("preprocessed", type=Path)
    parser.add_argument("--budget", default="")
    parser.add_argument("--sizes", type=int, nargs=2)
    parser.add_argument("--values", type=json.loads)
    parser.add_argument("--start", type=Path)
    check(**vars(parser.parse_args()))
