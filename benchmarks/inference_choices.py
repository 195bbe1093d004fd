"""What choices at prediction are worth: mirrored axes, the stacks' overlap, a slice's place in its stack.

    python benchmarks/inference_choices.py --models TRAINED --images IMAGES --labels LABELS

TRAINED: one or more folders that hold plans.json and fold_0, as nnUNetv2_train leaves them.

nnU-Net's own predictor with one thing changed at a time, on the same cases:
    mirrored   axes of the stack (0 = slices, 1 = rows, 2 = columns), with half-overlapping stacks
    step       of the window as a part of the patch, without mirroring: 1 = no overlap, 0.5 = nnU-Net's
    place      every slice taken from that place of a stack that is predicted alone (at the volume's ends:
               from the nearest place that there is), without mirroring
Dice is the mean over the cases, calls those of the network per case, seconds per case CPU seconds on a CPU.
Writes results/inference-choices.csv, a row per model and choice.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from record import write
from torch import Tensor
from tqdm import tqdm

from nnunet_igtv.evaluation.by_position import central_and_peripheral_dice, dice

NNUNET_STEP = 0.5


@dataclass(frozen=True)
class Choice:
    """One way to predict; `place` replaces the sliding window along the slices."""

    varied: str
    mirrored: tuple[int, ...] = ()
    step: float = NNUNET_STEP
    place: int | None = None

    def logits(self, predictor: nnUNetPredictor, volume: Tensor) -> Tensor:
        """Logits (classes, S, H, W) of a preprocessed volume (2, S, H, W)."""
        predictor.use_mirroring, predictor.allowed_mirroring_axes = bool(self.mirrored), self.mirrored
        predictor.tile_step_size = self.step
        if self.place is None:
            return predictor.predict_sliding_window_return_logits(volume).float()
        return from_one_place(
            predictor.predict_sliding_window_return_logits, volume, depth(predictor), self.place
        )


def from_one_place(predict: Callable[[Tensor], Tensor], volume: Tensor, stack: int, place: int) -> Tensor:
    """Each slice as the `place`-th of a stack of its own."""
    last = max(volume.shape[1] - stack, 0)
    slices = []
    for index in range(volume.shape[1]):
        start = min(max(index - place, 0), last)
        slices.append(predict(volume[:, start : start + stack])[:, index - start].float())
    return torch.stack(slices, 1)


def depth(predictor: nnUNetPredictor) -> int:
    """Slices in the model's stacks."""
    return int(predictor.configuration_manager.patch_size[0])


def choices(stack: int) -> Iterator[Choice]:
    for axes in ((), (1, 2), (0, 1, 2)):
        yield Choice("mirrored", mirrored=axes)
    for step in (1.0, 0.33):
        yield Choice("step", step=step)
    for place in range(stack):
        yield Choice("place", place=place)


class Cases:
    """Images with labels, preprocessed as a model wants them."""

    def __init__(self, images: Path, labels: Path, predictor: nnUNetPredictor) -> None:
        manager, plan, description = (
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.dataset_json,
        )
        ending = description["file_ending"]
        preprocessor = plan.preprocessor_class(verbose=False)
        self.predictor = predictor
        self.content = []
        for label in sorted(labels.glob(f"*{ending}")):
            case = label.name.removesuffix(ending)
            files = [str(images / f"{case}_{channel:04d}{ending}") for channel in range(2)]
            data, _, properties = preprocessor.run_case(files, None, manager, plan, description)
            truth = sitk.GetArrayFromImage(sitk.ReadImage(str(label))) > 0
            self.content.append((torch.from_numpy(data), properties, truth))

    def segmentation(self, logits: Tensor, properties: dict[str, Any]) -> np.ndarray:
        """Logits on the preprocessed grid -> bool on the image's own."""
        predictor = self.predictor
        found = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.label_manager,
            properties,
        )
        return np.asarray(found) > 0


def measure(cases: Cases, choice: Choice, clock: Callable[[], float]) -> dict[str, Any]:
    """One row of the table."""
    calls, seconds, scores = 0, 0.0, []

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = cases.predictor.network.register_forward_hook(count)
    for volume, properties, truth in cases.content:
        began = clock()
        logits = choice.logits(cases.predictor, volume)
        seconds += clock() - began
        found = cases.segmentation(logits, properties)
        ratio = found.sum() / max(truth.sum(), 1)
        scores.append((dice(truth, found), *central_and_peripheral_dice(truth, found), ratio))
    hook.remove()
    total, central, peripheral, volume_ratio = np.nanmean(scores, axis=0)
    number = len(cases.content)
    return {
        "varied": choice.varied,
        "mirrored": " ".join(map(str, choice.mirrored)) or "none",
        "step": choice.step if choice.place is None else "",
        "place": "" if choice.place is None else choice.place,
        "cases": number,
        "dice": round(total, 4),
        "dice_central": round(central, 4),
        "dice_peripheral": round(peripheral, 4),
        "predicted_to_true_volume": round(volume_ratio, 3),
        "calls": round(calls / number, 1),
        "seconds": round(seconds / number, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=Path, nargs="+", required=True, help="folders that hold plans.json and fold_0"
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    rows = []
    for number, folder in enumerate(options.models):
        predictor = nnUNetPredictor(device=device, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), (0,), options.checkpoint)
        predictor.network.load_state_dict(predictor.list_of_parameters[0])
        cases = Cases(options.images, options.labels, predictor)
        for choice in tqdm(list(choices(depth(predictor))), desc=f"model {number}"):
            rows.append({"model": number} | measure(cases, choice, clock))
    write("inference-choices", rows, options.device)


if __name__ == "__main__":
    main()
