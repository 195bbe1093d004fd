"""What the demo does with a prediction that found nothing."""

import csv

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.commands.demo import FOLDERS, IGTV, Demo, Size


def test_a_tumour_that_was_missed_has_no_contour_and_the_others_have(tmp_path, capsys):
    demo = Demo(tmp_path, Size(), "cpu")
    manifest = demo.raw / f"{FOLDERS[IGTV]}_manifest.csv"
    folder = demo.predictions(demo.transfer)
    for made in (manifest.parent, folder):
        made.mkdir(parents=True)
    with manifest.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "study", "split"])
        for case, found in (("A_0001", 1), ("A_0002", 0)):
            rows.writerow([case, f"studies/{case}", "test"])
            mask = sitk.GetImageFromArray(np.full((2, 3, 4), found, np.uint8))
            sitk.WriteImage(mask, str(folder / f"{case}.nii.gz"))
    assert [step.name for step in demo.contours()] == ["rtstruct-A_0001"]
    assert "A_0002: the transferred network found no tumour" in capsys.readouterr().out
