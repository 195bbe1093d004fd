"""Choosing, combining and sharing models by nnU-Net's own commands, with regions and ignored voxels.

Two models of one step: A in two folds, and B, with deep supervision, trained on all cases.
"""

import json

import numpy as np
import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.e2e

A, B = "IGTVTrainerNanoOneStep", "IGTVTrainerNanoDeepSupervisionOneStep"  # of tests/end_to_end/trainers
FOLDS = (0, 1)  # of the five that nnU-Net makes
CASES = ("case_a", "case_b", "case_c")
IN_THIS_PROCESS = ("-npp", 0, "-nps", 0)


def core_and_ignored(label):
    label[5:][label[5:] == 1] = 2
    label[:, :, :6] = 3


def prediction(images, output, trainer, folds, *extra):
    model = ["-d", 905, "-c", "2d", "-tr", trainer, "-f", *folds, "-device", "cpu"]
    return ["nnUNetv2_predict", "-i", images, "-o", output, *model, "-npp", 0, "-nps", 0, *extra]


@pytest.fixture(scope="module")
def cohort(nnunet_world, toy_case, tmp_path_factory):
    """Dataset905 with five cases and regions, and a folder with three new cases."""
    nnunet_world.add_dataset(
        "Dataset905_Cohort",
        cases=5,
        labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        regions_class_order=[1, 2],
        relabel=core_and_ignored,
        splits=None,
    )
    images = tmp_path_factory.mktemp("images")
    for seed, case in enumerate(CASES):
        toy_case(images, None, case, seed=seed)
    return images


@pytest.fixture(scope="module")
def models(nnunet_world, cohort):
    """The trained models' folders."""
    nnunet_world.run_together(
        *(nnunet_world.training(905, A, "--npz", fold=fold) for fold in FOLDS),
        nnunet_world.training(905, B, fold="all"),
        nnunet_world.training(905, B, "--val", "--val_best", fold="all"),
        ["nnUNetv2_find_best_configuration", 905, "-c", "2d", "-tr", A, "-np", 1, "-f", *FOLDS],
        ["nnUNetv2_plan_experiment", "-d", 902, "-pl", "nnUNetPlannerResEncM"],
        nnunet_world.training(902, A, "-p", "nnUNetResEncUNetMPlans"),
    )
    return nnunet_world.fold(905, A).parent, nnunet_world.fold(905, B).parent


@pytest.fixture(scope="module")
def predictions(nnunet_world, models, cohort, tmp_path_factory):
    """A folder with what prediction, ensembling and sharing wrote."""
    out = tmp_path_factory.mktemp("out")
    nnunet_world.run_together(
        prediction(cohort, out / "a", A, FOLDS, "--save_probabilities", *IN_THIS_PROCESS),
        prediction(
            *(cohort, out / "b", B, ["all"], "--save_probabilities", "-chk", "checkpoint_best.pth"),
            *IN_THIS_PROCESS,
        ),
        prediction(
            *(cohort, out / "part", A, FOLDS, "-num_parts", 2, "-part_id", 1),
            *("-npp", 1, "-nps", 1),  # in this process nnU-Net would predict every case
        ),
        ["nnUNetv2_ensemble", "-i", out / "a", out / "b", "-o", out / "ensemble", "-np", 1],
        ["nnUNetv2_export_model_to_zip", "-d", 905, "-c", "2d", "-tr", A, "-f", *FOLDS, "-o", out / "a.zip"],
    )
    elsewhere = {"nnUNet_results": str(out / "elsewhere")}
    nnunet_world.run_together(
        ["nnUNetv2_install_pretrained_model_from_zip", out / "a.zip"],
        prediction(cohort, out / "installed", A, FOLDS, "--save_probabilities", *IN_THIS_PROCESS),
        environment=elsewhere,
    )
    return out


def labels(folder):
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in folder.glob("*.nii.gz")}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def probabilities(folder, case):
    return np.load(folder / f"{case}.npz")["probabilities"]


def test_folds_and_the_best_configuration(models):
    results = models[0] / "crossval_results_folds_0_1"
    cases = [
        case["prediction_file"]
        for case in json.loads((results / "summary.json").read_text())["metric_per_case"]
    ]
    assert len(cases) == len({case.rsplit("/", 1)[-1] for case in cases}) == 2
    assert (results / "postprocessing.pkl").exists()
    assert A in (models[0].parent / "inference_instructions.txt").read_text()


def test_fold_all_validates_on_every_case_and_deep_supervision_is_in_its_plan(models):
    summary = json.loads((models[1] / "fold_all" / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 5
    plan = json.loads((models[1] / "plans.json").read_text())["configurations"]["2d"]
    assert plan["architecture"]["arch_kwargs"]["auxiliary_heads"]


def test_regions_are_predicted_without_the_ignore_label(predictions):
    for folder in ("a", "b"):
        found = labels(predictions / folder)
        assert len(found) == len(CASES)
        assert set(np.unique(list(found.values()))) <= {0, 1, 2}
        for case in CASES:
            regions = probabilities(predictions / folder, case)
            assert regions.shape == (2, 9, 32, 40)
            expected = np.where(regions[1] > 0.5, 2, np.where(regions[0] > 0.5, 1, 0))
            assert (
                np.mean(found[f"{case}.nii.gz"] == expected) > 0.999
            )  # probabilities are kept in half precision


def test_an_ensemble_is_the_mean_of_two_different_models(predictions):
    ensemble = labels(predictions / "ensemble")
    assert len(ensemble) == len(CASES)
    for case in CASES:
        a, b = (probabilities(predictions / folder, case).astype(float) for folder in ("a", "b"))
        assert np.abs(a - b).max() > 1e-2
        mean = (a + b) / 2
        expected = np.where(mean[1] > 0.5, 2, np.where(mean[0] > 0.5, 1, 0))
        assert np.mean(ensemble[f"{case}.nii.gz"] == expected) > 0.99


def test_a_part_of_the_cases_is_predicted_as_the_whole(predictions):
    part, whole = labels(predictions / "part"), labels(predictions / "a")
    assert part.keys() == {"case_b.nii.gz"}  # every second case, from the second on
    assert same(part, {name: whole[name] for name in part})


def test_a_model_that_was_exported_and_installed_predicts_the_same(predictions):
    assert same(labels(predictions / "installed"), labels(predictions / "a"))
    for case in CASES:
        pair = (probabilities(predictions / folder, case) for folder in ("installed", "a"))
        assert np.array_equal(*pair)


def test_residual_encoder_plans_lead_to_our_network_too(nnunet_world, models):
    name = f"{A}__nnUNetResEncUNetMPlans__2d"
    folder = nnunet_world.folder("results") / nnunet_world.preprocessed(902).name / name
    assert (folder / "fold_0" / "validation" / "summary.json").exists()
    network = json.loads((folder / "plans.json").read_text())["configurations"]["2d"]["architecture"]
    assert network["network_class_name"] == "nnunet_igtv.architectures.igtv_net.IGTVNet"
