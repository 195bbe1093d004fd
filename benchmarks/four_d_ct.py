"""How long a 4D-CT takes, and how much memory: `nnunet-igtv convert 4dct -j 1`, checks and all.

    python benchmarks/four_d_ct.py [--repeats 3]

The study: ten phases of 512x512x150, without an average series (so that it is computed), a PET of
256x256x120, and a structure set with a tumour for each phase.
"""

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import pydicom
from conversion import RESULTS, run, write_study


def write_4d(folder: Path) -> None:
    """A study of one CT with nine more phases of it, and the tumour of each phase lower than the last."""
    write_study(folder, 0)
    ct, rt = folder / "CT", pydicom.dcmread(folder / "RT" / "0.dcm")
    tumour, drawn = rt.StructureSetROISequence[0], rt.ROIContourSequence[0]
    rt.StructureSetROISequence, rt.ROIContourSequence = [], []
    for number in range(10):
        name = f"{10 * number:02d}"
        uid = pydicom.uid.generate_uid()
        (folder / name).mkdir()
        for file in sorted(ct.iterdir()):
            image = pydicom.dcmread(file)
            image.SeriesDescription, image.SeriesInstanceUID = f"Gated, {10 * number}.0%B", uid
            image.SOPInstanceUID = pydicom.uid.generate_uid()
            image.save_as(folder / name / file.name)
        roi, contours = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName = number + 1, f"GTV_{name}"
        roi.ReferencedFrameOfReferenceUID = tumour.ReferencedFrameOfReferenceUID
        contours.ReferencedROINumber, contours.ContourSequence = number + 1, []
        for contour in drawn.ContourSequence:
            moved = pydicom.Dataset()
            moved.ContourGeometricType = "CLOSED_PLANAR"
            moved.NumberOfContourPoints = contour.NumberOfContourPoints
            values = list(contour.ContourData)
            values[2::3] = [float(z) - 2.5 * abs(number - 5) for z in values[2::3]]
            moved.ContourData = values
            contours.ContourSequence.append(moved)
        rt.StructureSetROISequence.append(roi)
        rt.ROIContourSequence.append(contours)
    for file in ct.iterdir():
        file.unlink()
    series = rt.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
    series[0].SeriesInstanceUID = uid
    rt.save_as(folder / "RT" / "0.dcm")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_4d(root / "dicom" / "patient")
        for number in range(args.repeats):
            folders = {
                "nnUNet_raw": str(root / str(number)),
                "nnUNet_preprocessed": str(root / "preprocessed"),
            }
            (root / str(number)).mkdir()
            one = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "nnunet_igtv", "convert", "4dct", str(root / "dicom")]
            command += ["-d", "1", "--structure", "GTV_{phase}", "-j", "1"]
            rows.append(run(command, os.environ | one | folders)[:3])
    wall, cpu, memory = (median(values) for values in zip(*rows, strict=True))
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "four-d-ct.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["phases", "wall_s_per_patient", "cpu_s_per_patient", "peak_mib"])
        writer.writerow([10, round(wall, 1), round(cpu, 1), round(memory)])
    print((RESULTS / "four-d-ct.csv").read_text())


if __name__ == "__main__":
    main()
