"""Refuses a comparison that scores patients whose images a network was trained on.

    python experiments/scripts/shared_patients.py RAW/Dataset501_GTV --scored RAW/Dataset502_IGTV --split test

A cohort to pre-train on is trained on whole (fold "all"). Who is whose is read in the manifests beside the
datasets; only cases are named here. Patients are the same by their id, or by the UID of a study or a series.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.tables import read_table

UIDS = ("ct_series", "pet_series", "structure_set")


def identities(dataset: Path, split: str) -> dict[str, set[str]]:
    """Case -> what its patient is known by. Nothing of a dataset without a manifest, which is said.

    Args:
        dataset: its raw folder.
        split: "train" or "test".
    """
    manifest = dataset.with_name(f"{dataset.name}_manifest.csv")
    if not manifest.is_file():
        print(f"{manifest} is not there: nobody knows whether its patients are in another cohort too")
        return {}
    _, rows = read_table(manifest, "the manifest")
    rows = [row for row in rows if (row["status"], row["split"]) == ("converted", split)]
    # without an id, each study is of a patient of its own; one id for all is none
    ids = {row["case"]: row["patient"].strip() for row in rows if row["patient"] != row["key"]}
    one_for_all = len(rows) > 1 and len({*ids.values()}) == 1
    found: dict[str, set[str]] = {}
    for row in rows:
        studies = row["key"].split("|") if row["ct_series"] else []  # of files, the key is a name
        uids = {*studies, *(row[name] for name in UIDS)}
        found[row["case"]] = {*uids, "" if one_for_all else ids.get(row["case"], "")} - {""}
    return found


def shared(trained: dict[str, set[str]], scored: dict[str, set[str]]) -> dict[str, list[str]]:
    """Case that is trained on -> cases of the same patient that are scored."""
    cases_of = defaultdict(set)
    for case, names in scored.items():
        for name in names:
            cases_of[name].add(case)
    both = {
        case: sorted(set().union(*(cases_of.get(n, ()) for n in names))) for case, names in trained.items()
    }
    return {case: others for case, others in both.items() if others}


def require_apart(trained: Path, scored: Path, split: str) -> None:
    """Raises IGTVError where a dataset to train on has patients of the cases to score.

    Args:
        trained: raw folder of the dataset to train on.
        scored: of the dataset that is scored.
        split: which of its cases are: "test", or "train" in a cross-validation.
    """
    if found := shared(identities(trained, "train"), identities(scored, split)):
        raise IGTVError(
            f"patients of {len(found)} cases that networks are trained on are scored too: "
            + ", ".join(f"{case} ({', '.join(others)})" for case, others in found.items()),
            file=trained,
            remedy="take their studies out of this cohort, and convert it again in another `work`; where "
            "they are other patients of the same id, give them ids of their own",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path)
    parser.add_argument("--scored", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "test"), required=True)
    require_apart(**vars(parser.parse_args()))
