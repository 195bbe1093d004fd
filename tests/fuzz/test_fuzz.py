"""Every reader of foreign files, given damaged ones: an `IGTVError` or a result, never anything else.

A run here takes seconds; `make fuzz` tries more damaged files, as many as FUZZ_EXAMPLES says.
What it found once is a file in `tests/data/fuzz/TARGET/`, and is tried first.
"""

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_study import make_patient

from nnunet_igtv.dataset_conversion.sources import SOURCES
from nnunet_igtv.dicom.series import find_series, read_voxels
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import read_image
from nnunet_igtv.plans import rewrite_plans
from nnunet_igtv.structures.structure_sets import read_structure_set
from nnunet_igtv.studies.inventory import inspect
from nnunet_igtv.suv import suv_factors
from nnunet_igtv.weights.mapping import rename
from nnunet_igtv.weights.pickled import check_pickle
from nnunet_igtv.weights.reading import load_checkpoint, state_dict_of

CORPUS = Path(__file__).parents[1] / "data" / "fuzz"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "250"))


@dataclass(frozen=True)
class Target:
    """A reader of files with some ending, and a sound file to start from."""

    ending: str
    seed: Callable[[Path], bytes]
    read: Callable[[Path], object]


def dicom(kind: str) -> Callable[[Path], bytes]:
    def seed(_: Path) -> bytes:
        file = BytesIO()
        getattr(make_patient(), kind)[0].save_as(file, enforce_file_format=True)
        return file.getvalue()

    return seed


def nifti(folder: Path) -> bytes:
    path = folder / "seed.nii"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(path))
    return path.read_bytes()


def checkpoint(_: Path) -> bytes:
    file = BytesIO()
    weights = {"encoder.patch_embed.conv.weight": torch.ones(2, 1, 4, 4)}
    torch.serialization.set_crc32_options(False)  # damage gets past the sums, to the reader of pickles
    try:
        torch.save({"network_weights": weights, "epoch": 3}, file)
    finally:
        torch.serialization.set_crc32_options(True)
    return file.getvalue()


def read_series(path: Path) -> None:
    for series in find_series(path.parent):
        read_voxels(series)
        if series.modality == "PT":
            suv_factors(series.headers)


def read_plans(path: Path) -> None:
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # nnU-Net reads the file; what reaches us is JSON
        return
    rewrite_plans(plans, "2d", "nano", "none")


def read_table(path: Path) -> None:
    list(SOURCES["nifti"].collect(path, SOURCES["nifti"].options(), 1))


def read_weights(path: Path) -> None:
    rename(state_dict_of(load_checkpoint(path), path), path)


TARGETS = {
    "ct": Target(".dcm", dicom("ct"), read_series),
    "pet": Target(".dcm", dicom("pet"), read_series),
    "rtstruct": Target(".dcm", dicom("rt"), read_structure_set),
    "inspect": Target(".dcm", dicom("rt"), lambda path: inspect(path.parent)),
    "nifti": Target(".nii", nifti, read_image),
    "csv": Target(".csv", lambda _: b"ct,pet,label,fold\na.nii,b.nii,c.nii,train\n", read_table),
    "checkpoint": Target(".pth", checkpoint, read_weights),
    "pickle": Target(
        ".pkl", lambda _: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.", check_pickle
    ),
}

edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from("sdir"), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=8,
)
tails = st.none() | st.floats(0, 1)  # where the file is cut off


def damaged(data: bytes, changes: list, tail: float | None) -> bytes:
    content = bytearray(data)
    for place, what, more in changes:
        at = int(place * max(len(content), 1))
        if what == "s":
            content[at : at + len(more)] = more
        elif what == "d":
            del content[at : at + len(more)]
        elif what == "i":
            content[at:at] = more
        else:
            content[at:at] = content[at : at + 40 * len(more)]
    return bytes(content if tail is None else content[: int(tail * len(content))])


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_end_in_a_result_or_in_one_clear_error(name, tmp_path):
    target, path = TARGETS[name], tmp_path / "files" / f"file{TARGETS[name].ending}"
    path.parent.mkdir()
    sound = target.seed(tmp_path)
    attempt(target, path, sound)
    for found in sorted((CORPUS / name).glob("*")):
        attempt(target, path, found.read_bytes())

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(edits, tails)
    def run(changes, tail):
        attempt(target, path, damaged(sound, changes, tail))

    run()


def attempt(target: Target, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.read(path)
        except IGTVError as error:
            message = str(error)
        else:
            return
    assert message.strip()


def test_damage_is_seen():
    """The damage reaches all parts of a file: the check above is not of sound files only."""
    data = bytes(range(200))
    assert damaged(data, [(0.5, "s", b"\xff\xff")], None)[100:102] == b"\xff\xff"
    assert len(damaged(data, [(0.0, "d", b"abc")], 0.5)) == 98
    assert damaged(data, [(0.0, "r", b"a")], None)[:80] == bytes(range(40)) * 2
