"""`nnunet-igtv convert SOURCE INPUT -d ID`: a cohort of PET/CT studies -> an nnU-Net raw dataset."""

import argparse
from dataclasses import asdict
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.options import add_options, example_of, options_of
from nnunet_igtv.dataset_conversion.source import Source
from nnunet_igtv.dataset_conversion.sources import SOURCES


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv convert",
        description="Convert a cohort of PET/CT studies to an nnU-Net raw dataset.",
        example="\n".join(map(_example, SOURCES.values())),
    )
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, source in SOURCES.items():
        sub = commands.add_parser(
            name, help=source.summary, description=source.description, example=_example(source)
        )
        sub.add_argument("input", type=Path, metavar="INPUT", help="what to convert")
        sub.add_argument(
            "-d", dest="dataset_id", type=int, required=True, metavar="ID", help="nnU-Net dataset id"
        )
        sub.add_argument("-n", "--name", default=source.dataset, help="dataset name (default: %(default)s)")
        sub.add_argument(
            "--label", default=source.label, help="name of the label in dataset.json (default: %(default)s)"
        )
        sub.add_argument(
            "--split", choices=("train", "test"), default="train", help="fill imagesTr or imagesTs"
        )
        sub.add_argument("--append", action="store_true", help="add to a dataset made from other input")
        sub.add_argument("-j", "--jobs", type=int, help="worker processes (default: one per core, at most 4)")
        sub.add_argument(
            "--dry-run",
            action="store_true",
            help="make and check every case and write nothing: what would be taken, and what refused",
        )
        add_options(sub, source.options)
    return parser


def _example(source: Source) -> str:
    return f"nnunet-igtv convert {source.name} {source.example} -d 501{example_of(source.options)}"


def run(arguments: argparse.Namespace) -> int:
    """Exit status 1 if any study failed, or if there was none."""
    from nnunet_igtv.dataset_conversion.convert import convert

    done = convert(
        arguments.source,
        arguments.input,
        arguments.dataset_id,
        name=arguments.name,
        label=arguments.label,
        split=arguments.split,
        append=arguments.append,
        jobs=arguments.jobs,
        dry_run=arguments.dry_run,
        **asdict(options_of(arguments, SOURCES[arguments.source].options)),
    )
    if arguments.dry_run:
        for case, (place, *lines) in done.summaries.items():
            say("\n    ".join([f"{case} [{place}]", *lines]))
    for warning in done.warnings:
        say(f"warning: {warning}", error=True)
    for failure in done.failures:
        say(failure.text(arguments.spelled), error=True)
    if done.to_do:
        say(done.to_do, error=True)
    verb = "would be converted" if arguments.dry_run else "converted"
    say(f"{len(done.converted)} {verb}, {done.kept} already there, {len(done.failures)} failed")
    if done.cases:
        cases, patients = (
            f"{count} {what}{'s' if count > 1 else ''}"
            for count, what in ((done.cases, "case"), (done.patients, "patient"))
        )
        say(f"{'training' if arguments.split == 'train' else 'test'}: {cases} of {patients}")
    if arguments.dry_run:
        say("dry run: nothing was written (a conversion's manifest says which study is which case)")
    else:
        if done.dataset.exists():
            say(f"dataset:  {done.dataset}")
        if done.manifest.exists():
            say(f"manifest: {done.manifest} (which study is which case; names patients: keep it to yourself)")
    return 1 if done.failures or not (done.converted or done.kept) else 0
