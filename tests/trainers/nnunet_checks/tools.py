"""What is expected of what nnU-Net's trainer is made of: one function per row of docs/nnunet.md."""

from unittest import mock

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import distributed, nn
from trainers.nnunet_checks.lab import expected_of, refuses

from nnunet_igtv.architectures import igtv_net
from nnunet_igtv.environment import FOLDER
from nnunet_igtv.plans import NETWORK
from nnunet_igtv.trainers import TRAINERS


@expected_of("MetaLogger")
def _(lab):
    logger = MetaLogger(str(lab.folder), False)
    logger.log("train_losses", 0.5, 0)
    values = logger.local_logger.my_fantastic_logging
    assert values["train_losses"] == [0.5]
    assert all(isinstance(value, list) for value in values.values())
    assert logger.get_checkpoint() is values


def logits_and_target():
    torch.manual_seed(0)
    return torch.randn(2, 2, 3, 4, 4), torch.randint(0, 2, (2, 1, 3, 4, 4)).float()


DICE = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}


@expected_of("DC_and_CE_loss")
def _(lab):
    logits, target = logits_and_target()
    loss = DC_and_CE_loss(dict(DICE), {}, dice_class=MemoryEfficientSoftDiceLoss)
    both = loss(logits, target)
    assert torch.allclose(both, loss.dc(logits, target) + loss.ce(logits, target[:, 0]))
    loss.weight_ce = 0
    assert torch.equal(loss(logits, target), loss.weight_dice * loss.dc(logits, target))


@expected_of("DC_and_BCE_loss")
def _(lab):
    logits, target = logits_and_target()
    regions = torch.cat([target, target], 1)
    loss = DC_and_BCE_loss({}, dict(DICE), dice_class=MemoryEfficientSoftDiceLoss)
    assert torch.allclose(loss(logits, regions), loss.dc(logits, regions) + loss.ce(logits, regions))
    loss.weight_ce = 0
    assert torch.equal(loss(logits, regions), loss.weight_dice * loss.dc(logits, regions))


@expected_of("DeepSupervisionWrapper")
def _(lab):
    loss = mock.MagicMock(spec=nn.Module, side_effect=lambda output, target: output * target)
    wrapped = DeepSupervisionWrapper(nn.Identity(), [0.75, 0.25, 0])
    wrapped._modules["loss"] = loss
    assert wrapped.loss is loss
    assert wrapped([2, 4, 100], [1, 2, 100]) == 0.75 * 2 + 0.25 * 8
    assert loss.call_count == 2


@expected_of("get_patch_size")
def _(lab):
    rotation = (-np.pi, np.pi)
    larger = get_patch_size([64, 32], rotation, rotation, rotation, (0.85, 1.25))
    assert len(larger) == 2
    assert all(larger >= [64, 64])


@expected_of("infer_dataset_class")
def _(lab):
    folder = str(lab.preprocessed / "nnUNetPlans_2d")
    assert sorted(infer_dataset_class(folder).get_identifiers(folder)) == [f"case_00{i}" for i in range(4)]


@expected_of("nnUNetDataLoader")
def _(lab):
    trainer = lab.stock()
    folder = str(lab.preprocessed / "nnUNetPlans_2d")
    dataset = infer_dataset_class(folder)(folder, ["case_000"])
    stack = (3, 16, 16)
    loader = nnUNetDataLoader(dataset, 2, stack, stack, trainer.label_manager, 0.33)
    loader.set_thread_id(0)
    batch = next(loader)
    assert (batch["data"].shape, batch["data"].dtype) == ((2, 2, *stack), torch.float32)
    assert batch["target"].shape == (2, 1, *stack)
    assert list(batch["keys"]) == ["case_000"] * 2


@expected_of("get_allowed_n_proc_DA")
def _(lab):
    for number in (0, 1):
        lab.patch.setenv("nnUNet_n_proc_DA", str(number))
        assert get_allowed_n_proc_DA() == number


@expected_of("AllGatherGrad")
def _(lab):
    # of one process here; of two in two_ranks.py
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        x = torch.arange(3.0, requires_grad=True)
        gathered = AllGatherGrad.apply(x)
        assert torch.equal(gathered, x[None])
        (gathered * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        assert torch.equal(x.grad, torch.tensor([1.0, 2.0, 3.0]))
    finally:
        distributed.destroy_process_group()


@expected_of("recursive_find_trainer_class_by_name")
def _(lab):
    lab.patch.setenv("nnUNet_extTrainer", str(FOLDER))
    assert recursive_find_trainer_class_by_name("IGTVTrainerNano") is TRAINERS["IGTVTrainerNano"]
    assert refuses(RuntimeError, recursive_find_trainer_class_by_name, "IGTVTrainerNone")


@expected_of("maybe_convert_to_dataset_name")
def _(lab):
    assert maybe_convert_to_dataset_name("902") == "Dataset902_IGTV"
    assert maybe_convert_to_dataset_name("Dataset999_None") == "Dataset999_None"
    assert refuses(RuntimeError, maybe_convert_to_dataset_name, "998")
    assert refuses(ValueError, maybe_convert_to_dataset_name, "lung")


@expected_of("PlansManager")
def _(lab):
    plans = lab.read("nnUNetPlans.json")
    plans["configurations"]["child"] = {"inherits_from": "2d", "batch_size": 77}
    manager = PlansManager(plans)
    child, parent = (manager.get_configuration(name) for name in ("child", "2d"))
    assert (child.batch_size, child.patch_size) == (77, parent.patch_size)
    assert manager.plans["dataset_name"] == manager.dataset_name == "Dataset902_IGTV"
    assert manager.transpose_forward == plans["transpose_forward"]


@expected_of("ConfigurationManager")
def _(lab):
    plans = lab.read("nnUNetPlans.json")
    plans["configurations"]["2d"]["patch_size"] = [3, 32, 32]
    plan = PlansManager(plans).get_configuration("2d")
    assert plan.patch_size == [3, 32, 32]
    assert plan.previous_stage_name is None
    names = ("batch_size", "batch_dice", "spacing", "use_mask_for_norm")
    for name in (*names, "network_arch_class_name", "network_arch_init_kwargs"):
        assert getattr(plan, name) is not None, name


@expected_of("get_network_from_plans")
def _(lab):
    given = {}
    lab.patch.setattr(igtv_net, "IGTVNet", lambda **options: given.update(options))
    get_network_from_plans(NETWORK, {"width": 8}, [], 2, 3, deep_supervision=True)
    assert given == {"width": 8, "input_channels": 2, "num_classes": 3, "deep_supervision": True}
