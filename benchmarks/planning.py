"""nnU-Net's own plans for CT + PET of a given size, and the networks that they name."""

import json
import os
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from nnunet_igtv.plans import rewrite_plans

# row of the benchmarks -> (planner, configuration, preset of ours or None)
MODELS = {
    "nnU-Net 2d": ("ExperimentPlanner", "2d", None),
    "nnU-Net ResEncM 2d": ("nnUNetPlannerResEncM", "2d", None),
    "nnU-Net 3d_fullres": ("ExperimentPlanner", "3d_fullres", None),
    "ours nano": ("ExperimentPlanner", "2d", "nano"),
    "ours tiny": ("ExperimentPlanner", "2d", "tiny"),
}


def planned(planner: str, slices: int, matrix: int, spacing: tuple[float, float, float]) -> dict[str, Any]:
    """nnU-Net's plans for 20 cases of (slices, matrix, matrix) voxels, spacing in mm."""
    name, case = "Dataset901_Benchmark", "case_000"
    with tempfile.TemporaryDirectory() as folder:
        for part in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{part}"] = f"{folder}/{part}"
            (Path(folder) / part / name).mkdir(parents=True)
        raw, preprocessed = Path(folder) / "raw" / name, Path(folder) / "preprocessed" / name
        description = {
            "channel_names": {"0": "CT", "1": "CT"},
            "labels": {"background": 0, "tumour": 1},
            "numTraining": 1,
            "file_ending": ".nii.gz",
            # named here, so that nnU-Net does not look for them with twelve processes
            "dataset": {
                case: {
                    "images": [f"imagesTr/{case}_{channel:04d}.nii.gz" for channel in range(2)],
                    "label": f"labelsTr/{case}.nii.gz",
                }
            },
        }
        for where in (raw, preprocessed):
            (where / "dataset.json").write_text(json.dumps(description))
        empty = sitk.GetImageFromArray(np.zeros((2, 2, 2), np.float32))  # nnU-Net looks for a reader of it
        for file in (f"imagesTr/{case}_0000", f"imagesTr/{case}_0001", f"labelsTr/{case}"):
            (raw / file).parent.mkdir(exist_ok=True)
            sitk.WriteImage(empty, str(raw / f"{file}.nii.gz"))
        intensities = dict.fromkeys(
            ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0
        )
        fingerprint = {
            "spacings": [spacing] * 20,
            "shapes_after_crop": [[slices, matrix, matrix]] * 20,
            "foreground_intensity_properties_per_channel": {"0": intensities, "1": intensities},
            "median_relative_size_after_cropping": 1.0,
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

        with redirect_stdout(StringIO()):
            plan_experiments([901], planner)
        plans: dict[str, Any] = json.loads(next(preprocessed.glob("*Plans.json")).read_text())
    return plans


def model(
    row: str, slices: int, matrix: int, spacing: tuple[float, float, float]
) -> tuple[Any, Any, torch.nn.Module]:
    """nnU-Net's managers of the plans and the configuration, and the network, of one row of `MODELS`."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    planner, configuration, preset = MODELS[row]
    plans = planned(planner, slices, matrix, spacing)
    if preset is not None:
        plans = rewrite_plans(plans, configuration, preset, slice_interaction="before_head")
    manager = PlansManager(plans)
    plan = manager.get_configuration(configuration)
    network = get_network_from_plans(
        plan.network_arch_class_name,
        plan.network_arch_init_kwargs,
        plan.network_arch_init_kwargs_req_import,
        input_channels=2,
        output_channels=2,
        deep_supervision=False,
    )
    return manager, plan, network
