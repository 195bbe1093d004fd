"""`nnunet-igtv inspect PATH [--json]`: what a folder of DICOM holds, before anybody converts it."""

import argparse
import json
from collections.abc import Callable

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.options import add_options, options_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.known import ReadingOptions


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv inspect",
        description="List what a folder of DICOM holds, before anything is converted.",
        example="nnunet-igtv inspect /data/studies\nnnunet-igtv inspect /data/studies --json > studies.json",
    )
    parser.add_argument("path", metavar="PATH", help="folder (searched to any depth) or file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser, ReadingOptions)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 also where something cannot be used, as long as the folder can be read."""
    from nnunet_igtv.dicom.quiet import quiet
    from nnunet_igtv.studies.inventory import inspect

    with quiet():
        found = inspect(arguments.path, options_of(arguments, ReadingOptions))
    say(json.dumps(found, indent=1) if arguments.json else _text(found, arguments.spelled))
    return 0


def _text(found: dict, spelled: Callable[[str], str | None]) -> str:
    lines = []
    for s in found["series"]:
        size = "x".join(map(str, s["size"])) if s["size"] else f"{s['slices']} slices"
        spacing = " x ".join(f"{v:g}" for v in s["spacing"]) + " mm" if s["spacing"] else ""
        lines.append(f"series {s['id']}: {s['modality']} {size} {spacing} {s['orientation'] or ''}".rstrip())
        number = "" if s["series_number"] is None else f"number {s['series_number']}, "
        lines.append(f"    {number}{s['description']!r} in {s['folder']}")
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
            lines += [f"        {note}" for note in roi["notes"]]
    for r in found["registrations"]:
        joined = " and ".join(map(str, r["frames_of_reference"])) or "none"
        lines.append(f"registration {r['file']}: joins the frames of reference {joined}")
        lines += [f"    {r['problem']}"] if r["problem"] else []
    for breath in found.get("breaths", []):
        lines += _breath(breath)
    for choice in found["choices"]:
        lines += _choice(choice, spelled)
    lines += [f"unreadable: {u['file']}: {u['reason']}" for u in found["unreadable"]]
    lines.append(
        f"{len(found['series'])} series, {len(found['structure_sets'])} structure sets, "
        f"{len(found['unreadable'])} unreadable files, {found['other_files']} other files"
    )
    return "\n".join(lines)


def _breath(breath: dict) -> list[str]:
    """The table of a 4D-CT's phases."""
    rows = [("phase", "series", "slices", "spacing mm", "structures")]
    for phase in breath["phases"]:
        spacing = " x ".join(f"{v:g}" for v in phase["spacing"] or ()) or f"refused: {phase['problem']}"
        names = ", ".join(phase["structures"]) or "none"
        rows.append((phase["phase"], str(phase["series"]), str(phase["slices"]), spacing, names))
    rows += [
        (moment, ", ".join(map(str, ids)), "", "refused: there twice", "")
        for moment, ids in breath["twice"].items()
    ]
    rows += [(moment, "", "", "missing", "") for moment in breath["missing"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"4D-CT in study {breath['study']}, phases told by {breath['told_by']}:"]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"    {'  '.join(cells)}".rstrip())
    for name, key in (("average", "averages"), ("maximum", "maxima")):
        if breath[key]:
            lines.append(f"    {name}: series {', '.join(map(str, breath[key]))}")
    return lines


def _choice(choice: dict, spelled: Callable[[str], str | None]) -> list[str]:
    """What would be taken: for a conversion with a structure of this set, or for a prediction without one."""
    drawn = choice["structure_set"]
    purpose = f"with a structure of {drawn}" if drawn else "without a structure"
    numbers = choice["studies"]
    studies = f"{'study' if len(numbers) == 1 else 'studies'} {', '.join(map(str, numbers))}"
    lines = [f"choice in {studies}, {purpose}:"]
    if choice["refused"]:
        lines.append(f"    refused: {IGTVError(**choice['refused']).text(spelled)}")
    else:
        for name in ("ct", "pet"):
            one = choice[name]
            shown = f"series {one['series']}; {one['why']}" if one else "none"
            lines.append(f"    {name.upper()}: {shown}")
    return lines + [f"    {warning}" for warning in choice["warnings"]]
