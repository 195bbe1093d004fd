"""From a 4D-CT cohort to the contours of a new patient, by the real commands, at the smallest size.

How good the contours are is not asked here: the network takes one step, and finds tumour nearly everywhere.
"""

import pydicom
import pytest
import SimpleITK as sitk

from nnunet_igtv import read_ct, read_structure
from nnunet_igtv.commands.main import main
from nnunet_igtv.structures.structure_sets import references

TRAINER = "IGTVTrainerEager"  # of tests/end_to_end/trainers

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def contoured(nnunet_world, tmp_path_factory):
    """The folder of a new patient, and the structure set that was written for it."""
    home = tmp_path_factory.mktemp("4dct")
    cohort, new, output = home / "cohort", home / "new", home / "contours"

    def igtv(*arguments):
        assert main(list(map(str, arguments))) == 0

    def predict(command, _):
        """nnU-Net's prediction in a Python that has imported it; arguments: after `python -c PROGRAM`."""
        return nnunet_world.run_together(["nnUNetv2_predict", *command[3:]]).returncode, ""

    with pytest.MonkeyPatch.context() as patch:
        for name, value in nnunet_world.environment.items():
            patch.setenv(name, value)
        patch.setattr("nnunet_igtv.prediction.follow", predict)  # test_pipeline.py has it as it is
        size = ("--patients", 3, "--matrix", 32, "--slices", 8, "--seed", 4)
        igtv("phantom", "--kind", "4dct", *size, "--output", cohort)
        sorted(cohort.iterdir())[-1].rename(new)
        igtv("convert", "4dct", cohort, "-d", 960, "--structure", "GTV_{phase}", "-j", 1)
        nnunet_world.preprocess("Dataset960_IGTV", spacing=[12.0, 12.0])
        nnunet_world.run(*nnunet_world.training(960, TRAINER, fold="all"))
        model = ("-d", 960, "-tr", TRAINER, "-f", "all", "-device", "cpu", "--disable_tta")
        igtv("predict-dicom", new, *model, "--ct", "average", "-o", output)
    return new, output / "RTSTRUCT.dcm"


def test_the_structure_set_of_a_new_patient_is_on_the_average_and_fits_every_phase(contoured):
    new, file = contoured
    average, phase = (pydicom.dcmread(next((new / name).iterdir())) for name in ("AVERAGE", "4DCT/50"))
    frames, series = references(pydicom.dcmread(file))
    assert series == {average.SeriesInstanceUID}
    assert frames == {average.FrameOfReferenceUID} == {phase.FrameOfReferenceUID}
    masks = [
        sitk.GetArrayFromImage(read_structure(file, "IGTV", read_ct(new / name)))
        for name in ("AVERAGE", "4DCT/50")
    ]
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()
