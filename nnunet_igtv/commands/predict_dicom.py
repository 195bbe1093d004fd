"""`nnunet-igtv predict-dicom`: contour one DICOM study with a trained model; study in, RTSTRUCT out."""

import argparse
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.options import add_options, options_of
from nnunet_igtv.studies.candidates import described
from nnunet_igtv.studies.choice import ReadingOptions


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
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little worse")
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
    from nnunet_igtv.export.files import refuse_existing
    from nnunet_igtv.prediction import Model, choose_series, predict_series

    options = options_of(arguments, ReadingOptions)
    outputs = {"rtstruct": arguments.output / "RTSTRUCT.dcm"}
    if arguments.seg:
        outputs["seg"] = arguments.output / "SEG.dcm"
    overwrite = arguments.overwrite
    for kind, output in outputs.items():
        refuse_existing(output, kind.upper(), overwrite)
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
    name = model.structure if arguments.name is None else arguments.name
    with quiet():
        series = ct.series
        drawn_on = series if arguments.anonymous is None else anonymised(series, arguments.anonymous)
        check_export(drawn_on, name, seg=arguments.seg, extend=arguments.extend)
        for modality, chosen in (("CT", ct), ("PET", pet)):
            say(f"{modality}: {described(chosen.series)}; {chosen.why}" if chosen else f"{modality}: none")
        found = predict_series(
            ct,
            pet,
            model,
            arguments.device,
            mirroring=not arguments.disable_tta,
            options=options,
            workspace=arguments.output,
            tell=lambda note: say(f"note: {note}"),
        )
        rtstruct = outputs["rtstruct"]
        write_rtstruct(found.mask, drawn_on, rtstruct, name, extend=arguments.extend, overwrite=overwrite)
        if arguments.seg:
            write_seg(found.mask, drawn_on, outputs["seg"], name, overwrite=overwrite)
    for output in outputs.values():
        say(output)
    return 0
