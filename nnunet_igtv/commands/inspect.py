"""`nnunet-igtv inspect PATH [--json]`: what a folder of DICOM holds, before anybody converts it."""

import argparse
import json
import warnings

from nnunet_igtv.commands.console import Parser, say


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv inspect",
        description="List what a folder of DICOM holds, before anything is converted.",
        example="nnunet-igtv inspect /data/studies\nnnunet-igtv inspect /data/studies --json > studies.json",
    )
    parser.add_argument("path", metavar="PATH", help="folder (searched to any depth) or file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 also where something cannot be used, as long as the folder can be read."""
    from nnunet_igtv.dicom.inventory import inspect

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks may quote the header
        found = inspect(arguments.path)
    say(json.dumps(found, indent=1) if arguments.json else _text(found))
    return 0


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
