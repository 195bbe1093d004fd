"""`nnunet-igtv`: one table of commands; each command's module is imported only when it is called."""

import sys
from importlib import import_module

from nnunet_igtv import __version__
from nnunet_igtv.errors import IGTVError

# name -> (module with `main(argv) -> exit status`, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "env": ("nnunet_igtv.env", "print the export line that lets nnU-Net find the trainers"),
    "doctor": ("nnunet_igtv.doctor", "check this installation: versions, folders, trainers, scan backend"),
    "phantom": ("nnunet_igtv.phantom.command", "write a breathing PET/CT phantom cohort as DICOM"),
    "inspect": ("nnunet_igtv.dataset_conversion.inspect", "list what a folder of DICOM holds"),
    "convert": ("nnunet_igtv.dataset_conversion.command", "convert PET/CT studies to an nnU-Net raw dataset"),
    "train": ("nnunet_igtv.train", "train as nnUNetv2_train does, also under torchrun"),
    "import-weights": ("nnunet_igtv.weights.command", "make a checkpoint that -pretrained_weights accepts"),
    "export": ("nnunet_igtv.export.command", "write a prediction as RTSTRUCT or DICOM-SEG"),
    "predict-dicom": ("nnunet_igtv.predict_dicom", "contour one DICOM study: study in, RTSTRUCT out"),
    "evaluate": ("nnunet_igtv.evaluation.command", "score predictions per case and per slice position"),
    "demo": ("nnunet_igtv.demo", "run the whole pipeline at small size on phantoms"),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return f"nnunet-igtv {__version__}\n\nusage: nnunet-igtv COMMAND [-h] …\n\n{rows}\n"


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"nnunet-igtv: unknown command {argv[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[argv[0]]
    try:
        return int(import_module(module).main(argv[1:]))
    except IGTVError as error:
        print(f"nnunet-igtv {argv[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"nnunet-igtv {argv[0]}: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `nnunet-igtv … | head`
        sys.stderr.close()
        return 141


if __name__ == "__main__":
    sys.exit(main())
