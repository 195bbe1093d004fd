"""Time and memory of `nnunet-igtv convert` against the number of studies, and of files that belong to none.

    python benchmarks/load.py [--studies 10 100 1000] [--stray 100000]

Studies are copies of one phantom (CT of 32x32x12, PET, a structure set) with identifiers of their own.
Stray files of a few bytes are in folders of 1,000 beside the largest number of studies. The conversion has
one process: these are its wall time, CPU time and peak memory. The first row, of one study, is what a start
costs.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from conversion import run
from pydicom import dcmread
from record import write

from nnunet_igtv.export.uids import derived_uid
from nnunet_igtv.phantom.cohort import write_cohort

# the peak that wait4 knows counts the memory of the process that started this one
MEASURED = """
import re, sys
from nnunet_igtv.commands.main import main
status = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


def copy_study(template: Path, folder: Path, number: int) -> None:
    """A study of another patient, with other UIDs."""
    for path in template.rglob("*.dcm"):
        dataset = dcmread(path)
        dataset.file_meta.MediaStorageSOPInstanceUID = _renumbered(dataset.SOPInstanceUID, number)
        for element in dataset.iterall():
            if element.VR == "UI" and "Class" not in element.keyword:
                element.value = _renumbered(str(element.value), number)
        dataset.PatientID, dataset.PatientName = f"LOAD{number:06d}", f"Load{number:06d}"
        copy = folder / path.relative_to(template)
        copy.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(copy)


def _renumbered(uid: str, number: int) -> str:
    return derived_uid(uid, number)


def write_stray(folder: Path, files: int) -> None:
    for number in range(files):
        path = folder / f"{number // 1000:03d}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"stray {number}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--stray", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (template,) = write_cohort("igtv", 1, 6, 32, 12, root / "template")
        written, rows = 0, []
        for studies, stray in [(n, 0) for n in [1, *sorted(args.studies)]] + [
            (max(args.studies), args.stray)
        ]:
            for number in range(written, studies):
                copy_study(template, root / "in" / f"{number:05d}", number)
            written = studies
            write_stray(root / "in" / "stray", stray)
            folders = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed")}
            command = [sys.executable, "-c", MEASURED, "convert", "lucid", str(root / "in"), "-d", "1"]
            wall, cpu, _, printed = run([*command, "-j", "1"], os.environ | folders)
            converted = len(list((root / "raw" / "Dataset001_LUCID" / "labelsTr").iterdir()))
            assert converted == studies
            shutil.rmtree(root / "raw")
            rows.append(
                {
                    "studies": studies,
                    "stray_files": stray,
                    "wall_s": round(wall, 1),
                    "cpu_s": round(cpu, 1),
                    "peak_mib": round(int(printed.splitlines()[-1]) / 1024),
                }
            )
            write("load", rows, "cpu")  # after each: removing so many files takes minutes


if __name__ == "__main__":
    main()
