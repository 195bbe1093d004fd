"""How fast DICOM studies are converted, side by side with what a user would otherwise pick.

    python benchmarks/conversion.py [--patients 3] [--repeats 3] [--peer-python /path/to/venv/bin/python]

A study is a CT of 512x512x150, a PET of 256x256x120, and a structure set of a tumour, a body outline and
two lungs. Ours is `nnunet-igtv convert dicom-rt -j 1`, checks and all. The peer is a script per study:
SimpleITK reads CT and PET, computes one SUV factor, resamples the PET, and writes all as .nii.gz; the
structure by dcmrtstruct2nii, if --peer-python has it (it needs pydicom < 3, so an environment of its own),
else by scikit-image's polygon2mask, which is what dcmrtstruct2nii does inside. Wall time, CPU time and peak
memory are those of the child processes, alternating.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

RESULTS = Path(__file__).parent / "results"

PEER = """
import sys
from pathlib import Path
import numpy as np, pydicom, SimpleITK as sitk
study, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True)

def read(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()

ct, pet = read(study / "CT"), sitk.Cast(read(study / "PET"), sitk.sitkFloat32)
h = pydicom.dcmread(next((study / "PET").iterdir()), stop_before_pixels=True)
i = h.RadiopharmaceuticalInformationSequence[0]
left = float(i.RadionuclideTotalDose) * 0.5 ** (3600 / float(i.RadionuclideHalfLife))
pet = sitk.Resample(pet * (float(h.PatientWeight) * 1000 / left), ct, sitk.Transform(), sitk.sitkLinear, 0.0)
sitk.WriteImage(pet, str(out / "pet.nii.gz"))
try:
    from dcmrtstruct2nii import dcmrtstruct2nii
except ImportError:
    from skimage.draw import polygon2mask
    rt = pydicom.dcmread(study / "RT" / "0.dcm")
    mask = np.zeros(sitk.GetArrayViewFromImage(ct).shape, np.uint8)
    for contour in rt.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        index = np.array([ct.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points])
        mask[round(index[0, 2])] ^= polygon2mask(mask.shape[1:], index[:, 1::-1]).astype(np.uint8)
    image = sitk.GetImageFromArray(mask)
    image.CopyInformation(ct)
    sitk.WriteImage(image, str(out / "mask.nii.gz"))
    sitk.WriteImage(ct, str(out / "ct.nii.gz"))
    print("scikit-image")
else:
    dcmrtstruct2nii(str(study / "RT" / "0.dcm"), str(study / "CT"), str(out), structures=["GTV"])
    print("dcmrtstruct2nii")
"""


def write_study(folder: Path, seed: int) -> None:
    """A thorax of ellipses with noise, as DICOM."""
    rng = np.random.default_rng(seed)
    common = {
        "PatientID": f"P{seed}", "PatientName": f"P{seed}", "StudyInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(), "SeriesDate": "20200101", "SeriesTime": "110000",
        "AcquisitionDate": "20200101", "AcquisitionTime": "110000",
    }  # fmt: skip
    ct_uid = _series(folder / "CT", "CT", common, (512, 512, 150), (0.977, 0.977, 2.5), rng)
    _series(folder / "PET", "PT", common, (256, 256, 120), (2.0, 2.0, 3.2), rng)
    rt = _new("RTSTRUCT", common, generate_uid())
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = ct_uid
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    frame.FrameOfReferenceUID = common["FrameOfReferenceUID"]
    rt.ReferencedFrameOfReferenceSequence = [frame]
    rt.StructureSetROISequence, rt.ROIContourSequence = [], []
    # name, centre (mm), radii (mm), slices
    for number, (name, centre, radii, slices) in enumerate(
        [
            ("GTV", (170, 230), (22, 18), range(60, 80)),
            ("Body", (250, 250), (200, 140), range(150)),
            ("Lung_L", (330, 240), (60, 90), range(20, 130)),
            ("Lung_R", (170, 240), (60, 90), range(20, 130)),
        ],
        start=1,
    ):
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        roi, drawn, contours = Dataset(), Dataset(), []
        for k in slices:
            points = np.column_stack([np.cos(angles), np.sin(angles)]) * radii + centre
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{v:.3f}" for x, y in points for v in (x, y, 2.5 * k)]
            contours.append(contour)
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = common["FrameOfReferenceUID"]
        drawn.ReferencedROINumber, drawn.ContourSequence = number, contours
        rt.StructureSetROISequence.append(roi)
        rt.ROIContourSequence.append(drawn)
    (folder / "RT").mkdir()
    rt.save_as(folder / "RT" / "0.dcm", enforce_file_format=True)


def _series(
    folder: Path, modality: str, common: dict, size: tuple, spacing: tuple, rng: np.random.Generator
) -> str:
    folder.mkdir(parents=True)
    uid = generate_uid()
    x, y = np.meshgrid(np.arange(size[0]) * spacing[0], np.arange(size[1]) * spacing[1])
    body = ((x - 250) / 200) ** 2 + ((y - 250) / 140) ** 2 < 1
    for k in range(size[2]):
        image = _new(modality, common, uid)
        noise = rng.normal(0, 15, body.shape)
        values = (
            np.where(body, 1060, 24) + noise
            if modality == "CT"
            else np.where(body, 3000, 20) * (1 + noise / 100)
        )
        image.Rows, image.Columns = size[1], size[0]
        image.PixelSpacing, image.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, k * spacing[2]]
        image.SeriesNumber, image.InstanceNumber = 1, k + 1
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024 if modality == "CT" else 0
        image.PixelData = values.clip(0, 65535).astype("<u2").tobytes()
        if modality == "PT":
            image.Units, image.DecayCorrection, image.CorrectedImage = "BQML", "START", ["DECY", "ATTN"]
            image.PatientWeight = 70
            information = Dataset()
            information.RadionuclideTotalDose, information.RadionuclideHalfLife = 370e6, 6586.2
            information.RadiopharmaceuticalStartTime = "100000"
            image.RadiopharmaceuticalInformationSequence = [information]
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return uid


def _new(modality: str, common: dict, series: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    storage = {"CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
    dataset.SOPClassUID = storage.get(modality, "1.2.840.10008.5.1.4.1.1.481.3")
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), series, modality
    for name, value in common.items():
        setattr(dataset, name, value)
    return dataset


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, float, str]:
    """Wall seconds, CPU seconds, peak MiB and output of a child process."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command[:4]} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for seed in range(args.patients):
            write_study(root / "dicom" / f"patient{seed}", seed)
        peer_script = root / "peer.py"
        peer_script.write_text(PEER)
        environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OMP_NUM_THREADS": "1"}
        ours: list[tuple[float, float, float]] = []
        peers: list[tuple[float, float, float]] = []
        for repeat in range(args.repeats):
            folders = {
                "nnUNet_raw": str(root / f"raw{repeat}"),
                "nnUNet_preprocessed": str(root / "preprocessed"),
            }
            convert = [sys.executable, "-m", "nnunet_igtv", "convert", "dicom-rt", str(root / "dicom")]
            wall, cpu, memory, _ = run(
                [*convert, "-d", "1", "--structure", "GTV", "-j", "1"], environment | folders
            )
            ours.append((wall, cpu, memory))
            total = [0.0, 0.0, 0.0]
            for seed in range(args.patients):
                study = str(root / "dicom" / f"patient{seed}")
                command = [args.peer_python, str(peer_script), study, str(root / f"peer{repeat}" / str(seed))]
                wall, cpu, memory, name = run(command, environment)
                total = [total[0] + wall, total[1] + cpu, max(total[2], memory)]
            peers.append((total[0], total[1], total[2]))
    rows = []
    for tool, runs in (("nnunet-igtv convert dicom-rt", ours), (f"{name.split()[-1]} + SimpleITK", peers)):
        wall, cpu, memory = (median(values) for values in zip(*runs, strict=True))
        rows.append(
            {
                "tool": tool,
                "wall_s_per_patient": round(wall / args.patients, 2),
                "cpu_s_per_patient": round(cpu / args.patients, 2),
                "patients_per_cpu_minute": round(60 * args.patients / cpu, 1),
                "peak_mib": round(memory),
            }
        )
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "conversion.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
