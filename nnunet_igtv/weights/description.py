"""plans.json and dataset.json of a model folder: each field that is used later has the type it must have."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_igtv.errors import IGTVError, blamed

REMEDY = "export the model again"
_FILE_ENDING = re.compile(r"(\.[A-Za-z0-9]+)+")  # part of the names of files that are written
# words of JSON for what Python makes of it
_SAID = {
    dict: "a dictionary",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def read_description(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plans and dataset description of a model folder.

    Raises:
        IGTVError: a file cannot be read, or lacks a field, or a field is not of the type it must have.
    """
    plans, dataset = (read_json(folder / name) for name in ("plans.json", "dataset.json"))
    _check_plans(plans, folder / "plans.json")
    _check_dataset(dataset, folder / "dataset.json")
    return plans, dataset


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a model folder, which holds a dictionary. Raises IGTVError for any other."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IGTVError("no such file in the model folder", file=path) from error
    except (OSError, ValueError, RecursionError) as error:
        damaged = IGTVError("the file is damaged", file=path, remedy=REMEDY)
        raise blamed(error, damaged) from error
    if not isinstance(content, Mapping):
        raise IGTVError("the file is damaged", file=path, remedy=REMEDY)
    return dict(content)


def _check_plans(plans: dict[str, Any], path: Path) -> None:
    _check(plans, "dataset_name", (str,), path, optional=True)
    for name, configuration in _check(plans, "configurations", (dict,), path).items():
        at = f"configurations.{name}"
        _check({at: configuration}, at, (dict,), path)
        _check(configuration, "inherits_from", (str,), path, at, optional=True)
        if "architecture" not in configuration:
            continue  # of the configuration that it inherits from, or of older plans
        architecture = _check(configuration, "architecture", (dict,), path, at)
        at += ".architecture"
        _check(architecture, "network_class_name", (str,), path, at)
        _check(architecture, "arch_kwargs", (dict,), path, at, optional=True)
        imported = _check(architecture, "_kw_requires_import", (list,), path, at, optional=True)
        for number, key in enumerate(imported or ()):
            item = f"{at}._kw_requires_import[{number}]"
            _check({item: key}, item, (str,), path)


def _check_dataset(dataset: dict[str, Any], path: Path) -> None:
    # older files call them modalities
    channels = "modality" if "modality" in dataset and "channel_names" not in dataset else "channel_names"
    _check(dataset, channels, (dict, list), path)
    _check(dataset, "labels", (dict,), path)
    ending = _check(dataset, "file_ending", (str,), path)
    if not _FILE_ENDING.fullmatch(ending):
        raise IGTVError(f"the field file_ending is no ending of a file: {ending!a}", file=path, remedy=REMEDY)


def _check(
    fields: Mapping[str, Any],
    field: str,
    kinds: tuple[type, ...],
    path: Path,
    within: str = "",
    optional: bool = False,
) -> Any:
    """The field's value. Raises IGTVError for one of another type, or none where it is not optional."""
    value = fields.get(field)
    if type(value) in kinds or (optional and value is None):
        return value
    name = ascii(f"{within}.{field}" if within else field).strip("'\"")
    found = "missing" if field not in fields else "null" if value is None else _SAID[type(value)]
    wanted = " or ".join(_SAID[kind] for kind in kinds)
    raise IGTVError(f"the field {name} is {found} instead of {wanted}", file=path, remedy=REMEDY)
