"""A trained model's folder, as small as it can be, and what may be wrong with it."""

import json
import os

import numpy as np
import torch

from nnunet_igtv.plans import NETWORK


class Call:
    def __init__(self, marker):
        self.line = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.line,)


PLANS = {
    "dataset_name": "Dataset902_IGTV",
    "configurations": {"2d": {"architecture": {"network_class_name": NETWORK, "arch_kwargs": {}}}},
}
DESCRIPTION = {
    "channel_names": {"0": "CT", "1": "CT"},
    "labels": {"background": 0, "IGTV": 1},
    "file_ending": ".nii.gz",
}


def write_model(folder):
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(PLANS))
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    save(folder, logging={"dice": [np.float64(0.5)]})
    return folder


def save(folder, zipped=True, **more):
    content = {
        "network_weights": {"w": torch.ones(2)},
        "trainer_name": "T",
        "init_args": {"configuration": "2d"},
    }
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(content | more, path, _use_new_zipfile_serialization=zipped)


def planned(model, change=lambda plans, stock: None):
    """nnU-Net's own plans in the model folder, changed: `stock` is their configuration."""
    plans = {
        "dataset_name": "Dataset902_IGTV",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "experiment_planner_used": "SomebodysPlanner",  # nnU-Net never looks it up
        "configurations": {
            "2d": {
                "preprocessor_name": "DefaultPreprocessor",
                "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_torch_fornnunet",
                "resampling_fn_probabilities": "no_resampling_hack",
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": 2,
                        "conv_op": "torch.nn.modules.conv.Conv2d",
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                        "dropout_op": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            },
            "3d_fullres": {"inherits_from": "2d"},
        },
    }
    change(plans, plans["configurations"]["2d"])
    (model / "plans.json").write_text(json.dumps(plans))
    return model
