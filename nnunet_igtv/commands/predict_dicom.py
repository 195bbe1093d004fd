"""`nnunet-igtv predict-dicom`: contour one DICOM study with a trained model; study in, RTSTRUCT out."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.options import add_options, options_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.candidates import described
from nnunet_igtv.studies.known import ReadingOptions

RTSTRUCT, SEG = "RTSTRUCT.dcm", "SEG.dcm"
PICTURE = "registration.png"  # of a registration that was computed
OUTPUTS = (RTSTRUCT, SEG, PICTURE)  # all that a run may write: none of two runs lie beside each other
UNWRITTEN = "unwritten-prediction"  # the mask, where it could not be written as DICOM


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv predict-dicom",
        description="Contour one DICOM study: CT and PET in, RTSTRUCT on the CT out. Research use only.",
        epilog="-d, -c, -tr, -p, -f, -chk and -device mean what they mean to nnUNetv2_predict.",
        example="nnunet-igtv predict-dicom /data/new_study -d 502 -tr IGTVTransferTrainer -o OUT",
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the CT and PET of one patient, at any depth"
    )
    parser.add_argument("-d", dest="dataset", required=True, help="id or name of the model's dataset")
    parser.add_argument("-c", dest="configuration", default="2d", help="default: 2d")
    parser.add_argument("-tr", dest="trainer", default="IGTVTransferTrainer", help="default: %(default)s")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="default: %(default)s")
    parser.add_argument("-f", dest="folds", nargs="+", default=["0"], metavar="FOLD", help="default: 0")
    parser.add_argument("-chk", dest="checkpoint", default="checkpoint_final.pth", metavar="FILE")
    parser.add_argument(
        "-device", "--device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda"
    )
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little worse")
    parser.add_argument(
        "--largest-part",
        action="store_true",
        help="keep the largest connected part only: for a patient with one tumour",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for RTSTRUCT.dcm (and SEG.dcm)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist there")
    parser.add_argument(
        "--trust-model",
        action="store_true",
        help="load a checkpoint that may run code: for your own older files only",
    )
    parser.add_argument("--name", help="name of the structure (default: the model's label)")
    parser.add_argument("--seg", action="store_true", help="write a DICOM-SEG as well (the extra `seg`)")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--extend", type=Path, metavar="FILE", help="carry over this structure set's structures"
    )
    either.add_argument(
        "--anonymous", metavar="ID", help="write this ID in place of the patient's identity, and fresh UIDs"
    )
    add_options(parser, ReadingOptions)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from nnunet_igtv.dicom.quiet import quiet
    from nnunet_igtv.export import anonymised, check_export, write_rtstruct, write_seg
    from nnunet_igtv.prediction import Model, choose_series, mask_file, predict_series
    from nnunet_igtv.workspace import clear, finish, workspace

    options = options_of(arguments, ReadingOptions)
    names, overwrite = [RTSTRUCT, SEG] if arguments.seg else [RTSTRUCT], arguments.overwrite
    clear(arguments.output)
    _refuse_earlier(arguments.output, overwrite)
    with quiet():
        ct, pet = choose_series(arguments.folder, options, arguments.extend)
    model = Model.find(
        arguments.dataset,
        arguments.trainer,
        arguments.plans,
        arguments.configuration,
        folds=arguments.folds,
        checkpoint=arguments.checkpoint,
        trust_model=arguments.trust_model,
    )
    structure = model.structure if arguments.name is None else arguments.name
    with quiet():
        series = ct.series
        drawn_on = series if arguments.anonymous is None else anonymised(series, arguments.anonymous)
        check_export(drawn_on, structure, seg=arguments.seg, extend=arguments.extend)
        for modality, chosen in (("CT", ct), ("PET", pet)):
            say(f"{modality}: {described(chosen.series)}; {chosen.why}" if chosen else f"{modality}: none")
        with workspace(arguments.output) as folder:
            found = predict_series(
                ct,
                pet,
                model,
                arguments.device,
                mirroring=not arguments.disable_tta,
                largest_part=arguments.largest_part,
                options=options,
                workspace=folder,
                tell=lambda note: say(f"note: {note}"),
            )
            with _kept_if_not_written(mask_file(folder, model), arguments.output):
                if found.picture is not None:
                    (folder / PICTURE).write_bytes(found.picture)
                    names.append(PICTURE)
                write_rtstruct(found.mask, drawn_on, folder / RTSTRUCT, structure, extend=arguments.extend)
                if arguments.seg:
                    write_seg(found.mask, drawn_on, folder / SEG, structure)
                finish(
                    [folder / name for name in names],
                    arguments.output,
                    overwrite,
                    [arguments.output / name for name in OUTPUTS],
                    sorted(arguments.output.glob(f"{UNWRITTEN}.*")),
                )
    for name in names:
        say(arguments.output / name)
    return 0


def _refuse_earlier(output: Path, overwrite: bool) -> None:
    """Refuses outputs of an earlier run; to overwrite, what has their names and is something else."""
    from nnunet_igtv.atomic import refuse_existing
    from nnunet_igtv.export.files import refuse_other

    for name in (RTSTRUCT, SEG):
        refuse_other(output / name, Path(name).stem, overwrite)
    refuse_existing(output / PICTURE, overwrite=overwrite and not (output / PICTURE).is_dir())


@contextmanager
def _kept_if_not_written(mask: Path, output: Path) -> Iterator[None]:
    """Keep the mask of a prediction that cannot be written."""
    kept = output / f"{UNWRITTEN}{''.join(mask.suffixes)}"
    try:
        yield
    except Exception as error:
        os.replace(mask, kept)
        cause = error.what if isinstance(error, IGTVError) else getattr(error, "strerror", None) or error
        raise IGTVError(
            f"the prediction was made, but could not be written ({cause}); its mask is kept",
            file=kept,
            remedy="remove the cause and export the mask, or run the same command again",
        ) from error
