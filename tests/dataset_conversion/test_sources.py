"""The sources without DICOM: PCLT20K, autoPET, NIfTI by CSV, LUCID as NIfTI."""

import gzip
import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion.sources.pclt20k import consecutive


def convert(*arguments):
    jobs = [] if "-j" in arguments else ["-j", "1"]
    return main(["convert", *map(str, arguments), *jobs])


def write_nifti(path, voxels, spacing=(2, 2, 3), origin=(0, 0, 0)):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_triple(folder, names=("CTres", "SUV", "SEG"), shape=(8, 10, 12), tumour=True, spacing=(2, 2, 3)):
    rng = np.random.default_rng(len(str(folder)))
    label = np.zeros(shape, np.uint8)
    label[3:5, 4:6, 4:7] = tumour
    voxels = (rng.integers(-1000, 1000, shape).astype(np.int16), rng.random(shape, np.float32) * 10, label)
    for name, values in zip(names, voxels, strict=True):
        write_nifti(folder / f"{name}.nii.gz", values, spacing)
    return voxels


# ------------------------------------------------------------------------------------------------ PCLT20K


@pytest.fixture
def pclt(tmp_path):
    """Patient 0001: slices 3-5 and 9-10 in train, 6-7 in test; patient 0002: slices 1-2 in test."""
    rng = np.random.default_rng(0)
    lists = {"train.txt": [], "test.txt": []}
    for name, file in [
        *((f"0001_{k:03d}", "train.txt") for k in (10, 3, 4, 5, 9)),
        *((f"0001_{k:03d}", "test.txt") for k in (6, 7)),
        *((f"0002_{k:03d}", "test.txt") for k in (1, 2)),
    ]:
        folder = tmp_path / "PCLT20K" / name[:4]
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("CT", "PET", "mask"):
            plane = rng.integers(0, 256, (16, 20)).astype(np.uint8)
            plane = (plane > 250).astype(np.uint8) * 255 if kind == "mask" else plane
            sitk.WriteImage(sitk.GetImageFromArray(plane), str(folder / f"{name}_{kind}.png"))
        lists[file].append(name)
    for file, names in lists.items():
        (tmp_path / "PCLT20K" / file).write_text("\n".join(names) + "\n")
    return tmp_path / "PCLT20K"


def test_pclt20k_slices_become_volumes(pclt, raw, read, tmp_path, capsys):
    assert convert("pclt20k", pclt, "-d", 30, "--spacing", 1.2, 1.2, 4) == 0
    folder = raw / "Dataset030_PCLT20K"
    rows = [row.split(",") for row in (raw / "Dataset030_PCLT20K_manifest.csv").read_text().splitlines()[1:]]
    case = {row[5]: row[0] for row in rows}
    assert set(case) == {
        "pclt20k/0001/3-5", "pclt20k/0001/9-10", "pclt20k/0001/6-7", "pclt20k/0002/1-2"
    }  # fmt: skip
    volume = sitk.ReadImage(str(folder / "imagesTr" / f"{case['pclt20k/0001/3-5']}_0001.nii.gz"))
    assert volume.GetSize() == (20, 16, 3)
    assert volume.GetSpacing() == pytest.approx((1.2, 1.2, 4))
    assert np.array_equal(sitk.GetArrayFromImage(volume)[1], read(pclt / "0001" / "0001_004_PET.png"))
    label = read(folder / "labelsTr" / f"{case['pclt20k/0001/9-10']}.nii.gz")
    assert np.array_equal(label[1] > 0, read(pclt / "0001" / "0001_010_mask.png") > 0)
    splits = json.loads((tmp_path / "preprocessed" / "Dataset030_PCLT20K" / "splits_final.json").read_text())
    of_0001 = {case[f"pclt20k/0001/{slices}"] for slices in ("3-5", "6-7", "9-10")}
    assert "the given split has its patient in training and validation" in capsys.readouterr().err
    for part in ("train", "val"):
        assert sorted(map(set, (fold[part] for fold in splits)), key=len) == [
            {case["pclt20k/0002/1-2"]}, of_0001
        ]  # fmt: skip


def test_the_split_of_pclt20k_is_the_only_fold(pclt, raw, tmp_path, capsys):
    (pclt / "test.txt").write_text("0002_001\n0002_002\n")
    assert convert("pclt20k", pclt, "-d", 30) == 0
    assert "warning" not in capsys.readouterr().err
    (split,) = json.loads(
        (tmp_path / "preprocessed" / "Dataset030_PCLT20K" / "splits_final.json").read_text()
    )
    assert (len(split["train"]), len(split["val"])) == (2, 1)


def test_masks_of_0_and_1_are_no_cases_without_a_tumour(pclt, raw, read, capsys):
    for file in (pclt / "0002").glob("*_mask.png"):
        sitk.WriteImage(sitk.GetImageFromArray((read(file) > 0).astype(np.uint8)), str(file))
    assert convert("pclt20k", pclt, "-d", 30) == 1
    assert "the masks' grey values are 1 at most" in capsys.readouterr().err


@pytest.mark.parametrize("spacing", [(0, 1, 1), ("nan", 1, 1), (1, "inf", 1)])
def test_a_spacing_is_a_positive_number(spacing, pclt, raw, capsys):
    assert convert("pclt20k", pclt, "-d", 30, "--spacing", *spacing) == 1
    assert "(--spacing)" in capsys.readouterr().err
    assert not list(raw.glob("*/imagesTr/*"))


def test_pclt20k_is_never_mixed_with_calibrated_cases(pclt, raw, patient, tmp_path, capsys):
    patient("a").write(tmp_path / "dicom")
    assert convert("dicom-rt", tmp_path / "dicom", "-d", 31, "-n", "GTV", "--structure", "IGTV") == 0
    assert convert("pclt20k", pclt, "-d", 31, "-n", "GTV", "--append") == 1
    assert "8-bit grey levels" in capsys.readouterr().err


def test_pclt20k_bad_input(pclt, raw, capsys):
    (pclt / "0001" / "0001_004_PET.png").unlink()
    assert convert("pclt20k", pclt, "-d", 30) == 1
    assert "no such file" in capsys.readouterr().err
    assert len(list((raw / "Dataset030_PCLT20K" / "labelsTr").iterdir())) == 3
    (pclt / "train.txt").write_text("0001_003\n../../etc_1\n")
    assert convert("pclt20k", pclt, "-d", 32) == 1
    assert "not of the form" in capsys.readouterr().err
    (pclt / "train.txt").write_text("0002_001\n")
    assert convert("pclt20k", pclt, "-d", 32) == 1
    assert "listed in train.txt and in test.txt" in capsys.readouterr().err
    (pclt / "train.txt").unlink()
    assert convert("pclt20k", pclt, "-d", 32) == 1
    assert "train.txt is missing" in capsys.readouterr().err


def test_consecutive():
    slices = [("p", k, fold, "") for k, fold in ((1, "a"), (2, "a"), (3, "b"), (4, "a"), (6, "a"), (7, "a"))]
    slices += [("q", 8, "a", "")]
    runs = [[entry[1] for entry in run] for run in consecutive(slices)]
    assert runs == [[1, 2], [3], [4], [6, 7], [8]]


# ------------------------------------------------------------------------------------------------ autoPET


@pytest.fixture
def autopet(tmp_path):
    root = tmp_path / "FDG-PET-CT-Lesions"
    for patient, study, tumour in (
        ("PETCT_a", "1", True),
        ("PETCT_a", "2", False),
        ("PETCT_b", "1", True),
        ("PETCT_c", "1", True),
    ):
        write_triple(root / patient / study, tumour=tumour)
    (root / "metadata.csv").write_text(
        "Subject ID,Study UID,diagnosis\n"
        "PETCT_a,1.2,LUNG_CANCER\nPETCT_b,1.3,LYMPHOMA\nPETCT_c,1.4,LUNG_CANCER\n"
    )
    return root


def test_autopet(autopet, raw, read, tmp_path):
    assert convert("autopet", autopet, "-d", 40, "-j", 1) == 0
    folder = raw / "Dataset040_AutoPET"
    assert len(list((folder / "labelsTr").iterdir())) == 4
    rows = [row.split(",") for row in (raw / "Dataset040_AutoPET_manifest.csv").read_text().splitlines()[1:]]
    case = {row[5]: row[0] for row in rows}
    source = autopet / "PETCT_b" / "1"
    for name, file in (("imagesTr/{}_0000", "CTres"), ("imagesTr/{}_0001", "SUV"), ("labelsTr/{}", "SEG")):
        ours = folder / f"{name.format(case['autopet/PETCT_b/1'])}.nii.gz"
        assert np.array_equal(read(ours), read(source / f"{file}.nii.gz"))
    splits = json.loads((tmp_path / "preprocessed" / "Dataset040_AutoPET" / "splits_final.json").read_text())
    pair = {case["autopet/PETCT_a/1"], case["autopet/PETCT_a/2"]}
    assert all(len(pair & set(fold["val"])) in (0, 2) for fold in splits)


def test_autopet_lung_only(autopet, raw, capsys):
    assert convert("autopet", autopet, "-d", 40, "--lung-only") == 1  # one of its studies has no lesion
    assert "the label is empty" in capsys.readouterr().err
    rows = (raw / "Dataset040_AutoPET_manifest.csv").read_text().splitlines()[1:]
    assert sorted(r.split(",")[5] for r in rows if ",converted," in r) == [
        "autopet/PETCT_a/1",
        "autopet/PETCT_c/1",
    ]
    (autopet / "metadata.csv").write_text("patient,disease\nPETCT_a,LUNG_CANCER\n")
    assert convert("autopet", autopet, "-d", 41, "--lung-only") == 1
    assert "Subject ID" in capsys.readouterr().err
    (autopet / "metadata.csv").unlink()
    assert convert("autopet", autopet, "-d", 41, "--lung-only") == 1
    assert "--metadata" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- NIfTI


def test_nifti_by_csv(tmp_path, raw, read):
    ct, _, label = write_triple(tmp_path / "n", ("ct", "unused", "label"), shape=(8, 20, 24))
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (8, 10, 12)).copy()
    write_nifti(tmp_path / "n" / "pet.nii.gz", ramp, spacing=(4, 4, 3))
    write_triple(tmp_path / "m", ("ct", "pet", "label"))
    (tmp_path / "list.csv").write_text(
        "patient,ct,pet,label,note\np1,n/ct.nii.gz,n/pet.nii.gz,n/label.nii.gz,x\np2,m/ct.nii.gz,m/pet.nii.gz,m/label.nii.gz,\n"
    )
    assert convert("nifti", tmp_path / "list.csv", "-d", 50) == 0
    folder = raw / "Dataset050_GTV"
    assert np.array_equal(read(folder / "imagesTr" / "GTV_0001_0000.nii.gz"), ct)
    assert np.array_equal(read(folder / "labelsTr" / "GTV_0001.nii.gz"), label)
    pet = read(folder / "imagesTr" / "GTV_0001_0001.nii.gz")
    assert pet[3, 5, :23] == pytest.approx(np.arange(23) / 2)  # linear: half a PET voxel per CT voxel


def test_nifti_append_to_a_dicom_dataset(tmp_path, raw, patient):
    patient("a").write(tmp_path / "dicom")
    convert("dicom-rt", tmp_path / "dicom", "-d", 51, "--structure", "IGTV")
    write_triple(tmp_path / "m", ("ct", "pet", "label"))
    (tmp_path / "list.csv").write_text("ct,pet,label\nm/ct.nii.gz,m/pet.nii.gz,m/label.nii.gz\n")
    assert convert("nifti", tmp_path / "list.csv", "-d", 51, "--append") == 0
    assert sorted(p.name for p in (raw / "Dataset051_GTV" / "labelsTr").iterdir()) == [
        "GTV_0001.nii.gz",
        "GTV_0002.nii.gz",
    ]
    assert json.loads((raw / "Dataset051_GTV" / "dataset.json").read_text())["numTraining"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "pet.nii.gz").unlink(), "no such file"),
        (lambda f: (f / "pet.nii.gz").write_bytes(b"junk"), "cannot be read"),
        (lambda f: write_nifti(f / "pet.nii.gz", np.full((8, 10, 12), 9e3, np.float32)), "too high for SUV"),
        (
            lambda f: write_nifti(f / "pet.nii.gz", np.ones((8, 10, 12), np.float32), origin=(900, 0, 0)),
            "do not overlap",
        ),
        (lambda f: write_nifti(f / "label.nii.gz", np.zeros((8, 10, 12), np.uint8)), "label is empty"),
        (
            lambda f: write_nifti(f / "label.nii.gz", np.ones((8, 10, 12), np.uint8), origin=(0.7, 0, 0)),
            "grid of neither",
        ),
        (lambda f: write_nifti(f / "label.nii.gz", np.ones((9, 10, 12), np.uint8)), "reaches outside"),
        (
            lambda f: write_nifti(f / "label.nii.gz", np.full((8, 10, 12), 0.5, np.float32)),
            "the image is no mask",
        ),
        (
            lambda f: sitk.WriteImage(
                sitk.GetImageFromArray(np.ones((4, 4), np.float32)), str(f / "ct.nii.gz")
            ),
            "3D",
        ),
    ],
)
def test_nifti_bad_files(change, message, tmp_path, raw, capsys):
    write_triple(tmp_path / "m", ("ct", "pet", "label"))
    change(tmp_path / "m")
    (tmp_path / "list.csv").write_text("ct,pet,label\nm/ct.nii.gz,m/pet.nii.gz,m/label.nii.gz\n")
    assert convert("nifti", tmp_path / "list.csv", "-d", 52) == 1
    assert message in capsys.readouterr().err
    assert not (raw / "Dataset052_GTV").exists()


def test_nifti_one_value_of_a_label(tmp_path, raw, read, capsys):
    _, _, drawn = write_triple(tmp_path / "m", ("ct", "pet", "label"))
    label = drawn.copy()
    label[0, :2, :2] = 2
    write_nifti(tmp_path / "m" / "label.nii.gz", label)
    (tmp_path / "list.csv").write_text("ct,pet,label\nm/ct.nii.gz,m/pet.nii.gz,m/label.nii.gz\n")
    for number, options, kept in [(53, (), label != 0), (54, ("--label-value", 2), label == 2)]:
        assert convert("nifti", tmp_path / "list.csv", "-d", number, *options) == 0
        written = read(raw / f"Dataset0{number}_GTV" / "labelsTr" / "GTV_0001.nii.gz")
        assert np.array_equal(written, kept)
    for value, message in [(3, "no voxel of the value 3"), (0, "the label value 0 is the background")]:
        assert convert("nifti", tmp_path / "list.csv", "-d", 55, "--label-value", value) != 0
        assert message in capsys.readouterr().err
    assert not (raw / "Dataset055_GTV").exists()


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize(
    ("change", "is_part"),
    [
        (lambda mask: sitk.ConstantPad(mask, (1, 0, 2), (3, 1, 0)), False),
        (lambda mask: mask[1:11, 2:9, 1:7], True),
        (lambda mask: sitk.ConstantPad(mask[:, :, 1:], (0, 0, 0), (0, 0, 1)), True),  # of the same size
    ],
    ids=["padded", "cropped", "moved"],
)
def test_nifti_label_with_other_axes(order, flips, change, is_part, tmp_path, raw, read):
    """A label that software has reoriented, cropped or padded comes back to the voxels of its CT."""
    _, _, label = write_triple(tmp_path / "m", ("ct", "pet", "label"))
    given = sitk.ReadImage(str(tmp_path / "m" / "label.nii.gz"))
    changed = change(given)
    assert sitk.GetArrayFromImage(changed).sum() == label.sum()
    changed = sitk.Flip(sitk.PermuteAxes(changed, order), flips)
    sitk.WriteImage(changed, str(tmp_path / "m" / "label.nii.gz"))
    (tmp_path / "list.csv").write_text("ct,pet,label\nm/ct.nii.gz,m/pet.nii.gz,m/label.nii.gz\n")
    assert convert("nifti", tmp_path / "list.csv", "-d", 52) == 0
    assert np.array_equal(read(raw / "Dataset052_GTV" / "labelsTr" / "GTV_0001.nii.gz"), label)
    record = json.loads((raw / "Dataset052_GTV" / "conversion.json").read_text())
    assert [len(case["warnings"]) for case in record["cases"].values()] == [int(is_part)]


@pytest.mark.parametrize(
    ("files", "change", "said"),
    [
        (["pet"], {268: ("f", 8.0)}, "warning"),  # the offset of the qform, along x
        (["ct", "pet", "label"], {252: ("h", 0)}, ""),  # no qform
        (["ct", "pet", "label"], {254: ("h", 0)}, ""),  # no sform
        (["ct", "pet", "label"], {252: ("h", 0), 254: ("h", 0)}, ""),  # nowhere, and all alike
        (["label"], {252: ("h", 0), 254: ("h", 0)}, "refused"),
    ],
    ids=["two places", "no qform", "no sform", "none alike", "none of one"],
)
def test_where_a_nifti_header_says_that_it_is(files, change, said, tmp_path, raw, read, capsys):
    _, _, label = write_triple(tmp_path / "m", ("ct", "pet", "label"))
    for name in files:
        file = tmp_path / "m" / f"{name}.nii.gz"
        content = bytearray(gzip.decompress(file.read_bytes()))
        for place, (kind, value) in change.items():
            struct.pack_into(f"<{kind}", content, place, value)
        file.write_bytes(gzip.compress(content))
    # as spreadsheets write it
    (tmp_path / "list.csv").write_text("CT;PET;Label\nm/ct.nii.gz;m/pet.nii.gz;m/label.nii.gz\n;;\n")
    assert convert("nifti", tmp_path / "list.csv", "-d", 52) == (said == "refused")
    if said == "refused":
        assert "does not say where the voxels are" in capsys.readouterr().err
        return
    folder = raw / "Dataset052_GTV"
    assert np.array_equal(read(folder / "labelsTr" / "GTV_0001.nii.gz"), label)
    (case,) = json.loads((folder / "conversion.json").read_text())["cases"].values()
    assert case["warnings"] == (
        ["the header of the PET says two places, 8.0 mm apart (qform and sform): the sform's is taken"]
        if said
        else []
    )


def test_other_formats_that_itk_reads(tmp_path, raw, capsys):
    """MetaImage keeps NaN, which ITK's NIfTI reader turns to 0."""
    write_triple(tmp_path / "m", ("ct", "pet", "label"))
    pet = sitk.ReadImage(str(tmp_path / "m" / "pet.nii.gz"))
    sitk.WriteImage(pet, str(tmp_path / "m" / "pet.mha"))
    (tmp_path / "list.csv").write_text("ct,pet,label\nm/ct.nii.gz,m/pet.mha,m/label.nii.gz\n")
    assert convert("nifti", tmp_path / "list.csv", "-d", 52) == 0
    pet[3, 3, 3] = np.nan
    sitk.WriteImage(pet, str(tmp_path / "m" / "pet.mha"))
    assert convert("nifti", tmp_path / "list.csv", "-d", 53) == 1
    assert "not finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ct,pet\na,b\n", "lacks the columns label"),
        ("", "lacks the columns"),
        (
            "ct,label\na,c\n",
            "lacks the columns pet",
        ),
        ("ct,pet,label\na,,c\n", "line 2: no PET"),
        ("ct,pet,label\na,b,\n", "line 2: an empty path"),
        ("ct,pet,label,fold\na,b,c,holdout\n", "line 2: fold is 'holdout'"),
        ("ct,pet,label\na,b,c\na,b,c\n", "names a CT twice"),
    ],
)
def test_nifti_bad_csv(text, message, tmp_path, raw, capsys):
    (tmp_path / "list.csv").write_text(text)
    assert convert("nifti", tmp_path / "list.csv", "-d", 52) == 1
    assert message in capsys.readouterr().err


def test_lucid_as_nifti(tmp_path, raw, capsys):
    for patient in ("p1", "p2"):
        write_triple(tmp_path / "lucid" / patient, (f"{patient}_CT", f"{patient}_PET", f"{patient}_IGTV"))
    assert convert("lucid", tmp_path / "lucid", "-d", 53) == 0
    assert len(list((raw / "Dataset053_LUCID" / "labelsTr").iterdir())) == 2
    write_triple(tmp_path / "lucid" / "p3", ("CT", "CT_2", "ITV"))
    assert convert("lucid", tmp_path / "lucid", "-d", 53) == 1
    assert "2 NIfTI files are named CT" in capsys.readouterr().err


def test_nifti_without_a_pet(tmp_path, raw, read, capsys):
    """Where the user says so: an empty place in the table, no column, or no file in the folder."""
    for name in ("m", "n"):
        write_triple(tmp_path / "p" / name, ("CT", "PET", "IGTV"))
    (tmp_path / "p" / "n" / "PET.nii.gz").unlink()
    rows = [f"p/{n}/CT.nii.gz,{pet},p/{n}/IGTV.nii.gz" for n, pet in (("m", "p/m/PET.nii.gz"), ("n", ""))]
    (tmp_path / "list.csv").write_text("\n".join(["ct,pet,label", *rows]) + "\n")
    (tmp_path / "none.csv").write_text("ct,label\np/n/CT.nii.gz,p/n/IGTV.nii.gz\n")
    assert convert("lucid", tmp_path / "p", "-d", 55) == 1
    assert "0 NIfTI files are named PET" in capsys.readouterr().err
    for number, source, given, said, absent in (
        (56, "nifti", tmp_path / "list.csv", "missing", [False, True]),
        (57, "nifti", tmp_path / "list.csv", "all", [True, True]),
        (58, "nifti", tmp_path / "none.csv", "missing", [True]),
        (59, "lucid", tmp_path / "p", "missing", [False, True]),
    ):
        assert convert(source, given, "-d", number, "-n", "Some", "--no-pet", said) == 0
        folder = raw / f"Dataset0{number}_Some"
        pets = [read(file) for file in sorted((folder / "imagesTr").glob("*_0001.nii.gz"))]
        assert sorted(not pet.any() for pet in pets) == absent
        assert json.loads((folder / "dataset.json").read_text())["nnunet_igtv"]["cases_without_pet"] == sum(
            absent
        )
    assert convert("nifti", tmp_path / "none.csv", "-d", 60, "--no-pet", "all", "--grid", "pet") == 1
    assert "there is no PET" in capsys.readouterr().err


def test_options_of_dicom_are_refused_for_lucid_as_nifti(tmp_path, raw, capsys):
    write_triple(tmp_path / "lucid" / "p1", ("CT", "PET", "IGTV"))
    assert convert("lucid", tmp_path / "lucid", "-d", 53, "--ct", "thorax", "--weight", 70) == 1
    assert "leave these options out (--ct, --weight)" in capsys.readouterr().err
