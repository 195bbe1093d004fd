"""Predicting costs network calls linear in the slices; memory grows by the volume and its results alone."""

import json
import math
import weakref
from pathlib import Path

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunet_igtv.architectures import build_network
from nnunet_igtv.plans import rewrite_plans

SIDE, STACK = 32, 3
LABELS = {"labels": {"background": 0, "tumour": 1}}


class LiveBytes(TorchDispatchMode):
    """The largest number of bytes that tensors made inside the context held at one time."""

    def __init__(self):
        super().__init__()
        self.sizes, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.see(tensor.untyped_storage())
        return result

    def see(self, storage):
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, key)

    def forget(self, key):
        self.now -= self.sizes.pop(key)


@pytest.fixture(scope="module")
def predictor():
    plans = json.loads((Path(__file__).parents[1] / "data" / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["patch_size"] = [SIDE, SIDE]
    manager = PlansManager(rewrite_plans(plans, "2d", "nano", slice_interaction="before_head"))
    plan = manager.get_configuration("2d")
    assert plan.patch_size == [STACK, SIDE, SIDE]
    network = build_network("nano", num_classes=2).eval()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(network, manager, plan, None, LABELS, "IGTVTrainerNano", (1, 2))
    return predictor


def predicted(predictor, slices):
    """(shapes that the network was given, peak bytes of the tensors made) for a volume of so many slices."""
    shapes = []
    hook = predictor.network.register_forward_hook(lambda module, args, result: shapes.append(args[0].shape))
    volume = torch.randn(2, slices, SIDE, SIDE, generator=torch.Generator().manual_seed(slices))
    with LiveBytes() as live:
        predictor.predict_sliding_window_return_logits(volume)
    hook.remove()
    return shapes, live.peak


@pytest.mark.parametrize(("mirrored", "volumes"), [(False, (10, 20, 40)), (True, (3, 10))])
def test_network_calls_are_linear_in_the_slices_and_each_sees_one_stack(predictor, mirrored, volumes):
    predictor.use_mirroring = mirrored
    for slices in volumes:
        shapes, _ = predicted(predictor, slices)
        windows = math.ceil((slices - STACK) / (STACK / 2)) + 1  # half-overlapping stacks
        assert len(shapes) == windows * (4 if mirrored else 1)
        assert set(shapes) == {(1, 2, STACK, SIDE, SIDE)}


def test_memory_grows_with_the_slices_by_the_volume_and_its_results_alone(predictor):
    predictor.use_mirroring = False
    predicted(predictor, 5)  # nnU-Net keeps its Gaussian of this size from the first call
    peaks = [predicted(predictor, slices)[1] for slices in (10, 20, 40)]
    volume = 4 * 2 * SIDE * SIDE  # bytes per slice: CT and PET in single precision
    results = 2 * (2 + 1) * SIDE * SIDE  # the logits of two classes and their weights, in half precision
    assert peaks[1] - peaks[0] == 10 * (volume + results)
    assert peaks[2] - peaks[1] == 20 * (volume + results)
    assert peaks[0] > 50 * 10 * (volume + results)  # the network's own share is much the larger
