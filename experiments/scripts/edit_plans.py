"""Copies of nnU-Net's plans under other names, with other values: `plans` of the configuration.

    python experiments/scripts/edit_plans.py nnUNet_preprocessed/DatasetXXX_Name \
        '{"Small": {"of": "nnUNetPlans", "set": {"2d": {"patch_size": [96, 96]}}}}'

The preprocessed data stay those of the plans that were copied.
"""

import argparse
import json
from pathlib import Path

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError


def edited(plans: dict, name: str, values: dict[str, dict]) -> dict:
    """The plans under another name, with other values in their configurations.

    Raises:
        IGTVError: the plans have no such key, so that the value would change nothing.
    """
    plans = json.loads(json.dumps(plans)) | {"plans_name": name}
    for configuration, changes in values.items():
        present = plans["configurations"].get(configuration)
        if present is None:  # a dataset of which this configuration is not planned
            continue
        if unknown := set(changes) - set(present) - {"igtv"}:
            raise IGTVError(
                f"plans {name}: {configuration} has no {', '.join(sorted(unknown))}",
                remedy=f"it has {', '.join(sorted(present))}",
            )
        present.update(changes)
    return plans


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("plans", type=json.loads)
    a = parser.parse_args()
    for name, entry in a.plans.items():
        file = a.folder / f"{entry['of']}.json"
        if not file.is_file():
            raise IGTVError(
                f"plans {name}: there are none to copy", file=file, remedy="say which `planner` makes them"
            )
        source = json.loads(file.read_text())
        write_text(a.folder / f"{name}.json", json.dumps(edited(source, name, entry["set"]), indent=4) + "\n")
