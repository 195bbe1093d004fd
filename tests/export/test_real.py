"""On real scans, where they lie beside the checkout: the shipped masks come back voxel for voxel."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv import read_ct, read_structure
from nnunet_igtv.export import write_rtstruct, write_seg

REAL = Path(__file__).parents[3] / "shared" / "real"
CASES = {"planning CT of a lung": REAL / "IBSI_CT_LUNG", "CT of a PET/CT": REAL / "STS_002" / "CT"}


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name, tmp_path):
    folder = CASES[name]
    if not folder.is_dir():
        pytest.skip("the real scans are not here")
    mask = sitk.ReadImage(str(next((folder / "nifti" / "mask").glob("*.nii*"))))
    file = write_rtstruct(mask > 0, folder / "dicom" / "image", tmp_path / "rs.dcm")
    ct = read_ct(folder / "dicom" / "image")
    read_back = sitk.GetArrayFromImage(read_structure(file, "IGTV", ct))
    grid = sitk.Resample(mask, ct, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.count_nonzero(read_back != (sitk.GetArrayFromImage(grid) > 0)) == 0
    assert read_back.any()
    pytest.importorskip("highdicom")
    assert write_seg(mask > 0, folder / "dicom" / "image", tmp_path / "seg.dcm").exists()
