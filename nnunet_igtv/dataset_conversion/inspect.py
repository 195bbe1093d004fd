"""`nnunet-igtv inspect PATH [--json]`: what a folder of DICOM holds, before anybody converts it.

The JSON is a stable interface, described in docs/data.md; `format` counts up when it changes.
"""

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_igtv.dataset_conversion.attributes import text
from nnunet_igtv.dataset_conversion.files import list_files, read_header
from nnunet_igtv.dataset_conversion.rtstruct import Roi, StructureSet, rasterise, structure_set
from nnunet_igtv.dataset_conversion.series import Series, group_series
from nnunet_igtv.dataset_conversion.suv import suv_factors
from nnunet_igtv.errors import IGTVError

FORMAT = 1


def main(argv: list[str]) -> int:
    """Run the command; exit status 0 also where something cannot be used, as long as the folder can be
    read.
    """
    parser = argparse.ArgumentParser(prog="nnunet-igtv inspect", description=__doc__)
    parser.add_argument("path", metavar="PATH", help="folder (searched to any depth) or file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks may quote the header
        found = inspect(args.path)
    print(json.dumps(found, indent=1) if args.json else _text(found))
    return 0


def inspect(path: str | Path) -> dict:
    """What a folder holds, as the JSON of `--json`. Raises IGTVError if the folder does not exist."""
    root = Path(path)
    headers, unreadable, others = [], [], 0
    for file in tqdm(list_files(root), desc="reading headers", unit="file"):
        try:
            header = read_header(file)
        except IGTVError as error:
            unreadable.append({"file": _name(file, root), "reason": error.what})
            continue
        if header is None:
            others += 1
        else:
            headers.append((file, header))
    series = group_series(headers)
    sets: list[StructureSet] = []
    for file, header in headers:
        if text(header, "Modality") == "RTSTRUCT":
            try:
                sets.append(structure_set(file, header))
            except IGTVError as error:
                unreadable.append({"file": _name(file, root), "reason": error.what})
    studies, frames = _Numbers(), _Numbers()
    ids = {id(s): number for number, s in enumerate(series, start=1)}
    return {
        "format": FORMAT,
        "series": [
            {"id": ids[id(s)], "study": studies[s.study_uid]} | _series(s, root, frames[s.frame_of_reference])
            for s in series
        ],
        "structure_sets": [
            {"study": studies[text(s.header, "StudyInstanceUID")]}
            | _structure_set(s, root, series, ids, frames)
            for s in sets
        ],
        "unreadable": unreadable,
        "other_files": others,
    }


class _Numbers(dict):
    """UIDs -> 1, 2, 3, … in order of appearance; an absent UID is None."""

    def __missing__(self, uid: str) -> int | None:
        self[uid] = len([v for v in self.values() if v]) + 1 if uid else None
        return self[uid]


def _series(series: Series, root: Path, frame: int | None) -> dict:
    found: dict = {
        "folder": _name(series.folder, root),
        "modality": series.modality,
        "description": series.description,
        "series_number": series.number if series.number < 2**31 else None,
        "slices": len(series.headers),
        "size": None,
        "spacing": None,
        "origin": None,
        "direction": None,
        "orientation": None,
        "frame_of_reference": frame,
        "problem": series.fault.what if series.fault else None,
        "notes": series.notes,
    }
    if not series.fault:
        grid = series.geometry
        found |= {
            "size": list(grid.size),
            "spacing": [round(v, 6) for v in grid.spacing],
            "origin": [round(v, 6) for v in grid.origin],
            "direction": [round(v, 8) for v in grid.direction],
            "orientation": orientation(grid.direction),
        }
    if series.modality == "PT":
        try:
            suv = suv_factors(series.headers)
            found |= {
                "suv_factor": suv.factor,
                "suv_factor_range": [float(suv.factors.min()), float(suv.factors.max())],
                "suv_rule": suv.rule,
                "suv_warnings": list(suv.warnings),
            }
        except IGTVError as error:
            found["suv_refused"] = error.what
    return found


def orientation(direction: Sequence[float]) -> str:
    """Where columns, rows and slices grow to, by the largest component: "LPS" for the usual axial series;
    with "oblique" if an axis is off by more than half a degree."""
    axes = np.array(direction).reshape(3, 3).T
    letters = "".join(
        ("LPS" if axis[k] > 0 else "RAI")[k] for axis in axes for k in [int(np.abs(axis).argmax())]
    )
    return letters if np.abs(axes).max(1).min() > np.cos(np.radians(0.5)) else f"{letters} oblique"


def _structure_set(
    structures: StructureSet, root: Path, series: Sequence[Series], ids: dict[int, int], frames: _Numbers
) -> dict:
    named = [s for s in series if s.uid in structures.series_uids]
    aligned = [s for s in series if s.frame_of_reference in structures.frames_of_reference]
    belongs = named or aligned
    grid = next((s for s in sorted(belongs, key=lambda s: s.modality != "CT") if not s.fault), None)
    return {
        "file": _name(structures.file, root),
        "label": text(structures.header, "StructureSetLabel"),
        "frames_of_reference": sorted(filter(None, (frames[uid] for uid in structures.frames_of_reference))),
        "series": [ids[id(s)] for s in belongs],
        "named_series_present": bool(named),
        "structures": [_structure(roi, grid) for roi in structures.rois],
    }


def _structure(roi: Roi, grid: Series | None) -> dict:
    """Name, number of contours, volume on the grid of the series it belongs to (None if it has none)."""
    found: dict = {"name": roi.name, "contours": len(roi.contours), "volume_ml": None, "problem": None}
    if not roi.contours:
        found["problem"] = "no closed contours"
    elif grid is None:
        found["problem"] = "the series it was drawn on is not in the folder"
    else:
        try:
            voxels = int(rasterise([roi], grid.geometry).mask.sum())
            found["volume_ml"] = round(voxels * float(np.prod(grid.geometry.spacing)) / 1000, 3)
        except IGTVError as error:
            found["problem"] = error.what
    return found


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file != root else file.name


def _text(found: dict) -> str:
    lines = []
    for s in found["series"]:
        size = "x".join(map(str, s["size"])) if s["size"] else f"{s['slices']} slices"
        spacing = " x ".join(f"{v:g}" for v in s["spacing"]) + " mm" if s["spacing"] else ""
        lines.append(f"series {s['id']}: {s['modality']} {size} {spacing} {s['orientation'] or ''}".rstrip())
        lines.append(f"    {s['description']!r} in {s['folder']}")
        lines.append(f"    study {s['study']}, frame of reference {s['frame_of_reference']}")
        if "suv_factor" in s:
            lines.append(f"    SUV factor {s['suv_factor']:.8g}: {s['suv_rule']}")
        lines += [f"    {note}" for note in s.get("suv_warnings", []) + s["notes"]]
        lines += [f"    refused: {why}" for why in (s["problem"], s.get("suv_refused")) if why]
    for s in found["structure_sets"]:
        drawn_on = ", ".join(map(str, s["series"])) or "none here"
        lines.append(f"structure set {s['file']}: study {s['study']}, series {drawn_on}")
        for roi in s["structures"]:
            volume = "" if roi["volume_ml"] is None else f"{roi['volume_ml']:.2f} ml"
            lines.append(
                f"    {roi['name']:<24} {roi['contours']:>4} contours  {volume}{roi['problem'] or ''}"
            )
    lines += [f"unreadable: {u['file']}: {u['reason']}" for u in found["unreadable"]]
    lines.append(
        f"{len(found['series'])} series, {len(found['structure_sets'])} structure sets, "
        f"{len(found['unreadable'])} unreadable files, {found['other_files']} other files"
    )
    return "\n".join(lines)
