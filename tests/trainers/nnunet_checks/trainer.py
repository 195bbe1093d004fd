"""What is expected of nnU-Net's trainer: one function per row of docs/nnunet.md."""

import json
import re
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from trainers.nnunet_checks.lab import CPU, INIT, REGIONS, TABLE, expected_of, recorder, refuses

from nnunet_igtv.architectures import igtv_net
from nnunet_igtv.plans import NETWORK


@expected_of("nnUNetTrainer.__init__")
def _(lab):
    plans = lab.read("nnUNetPlans.json") | {"continue_training": True}
    trainer = nnUNetTrainer(plans, "2d", 0, lab.read("dataset.json"), CPU)
    assert "continue_training" not in plans
    assert list(trainer.my_init_kwargs) == INIT
    row = re.search(r"`nnUNetTrainer.__init__` .* Sets (.*?) \|", TABLE.read_text())[1]
    assert set(re.findall(r"`(\w+)`", row)) <= set(vars(trainer))
    assert trainer.network is None
    assert not trainer.was_initialized
    lab.in_a_group(rank=1, size=2)
    other = lab.stock()
    assert (other.is_ddp, other.local_rank, other.device) == (True, 1, torch.device("cuda", 1))


@expected_of("nnUNetTrainer.initialize")
def _(lab):
    class Own(nnUNetTrainer):
        build_network_architecture = staticmethod(
            lambda plans_manager, configuration_manager, inputs, outputs, supervised: nn.Linear(
                inputs, outputs
            )
        )
        configure_optimizers = lambda self: ("optimiser", "schedule")  # noqa: E731
        _build_loss = lambda self: "loss"  # noqa: E731

    lab.in_a_group(rank=0, size=2)
    trainer = lab.stock(Own, is_ddp=False, device=CPU)
    trainer.initialize()
    assert type(trainer.network) is nn.Linear
    assert (trainer.network.in_features, trainer.network.out_features) == (2, 2)
    assert (trainer.optimizer, trainer.lr_scheduler, trainer.loss) == ("optimiser", "schedule", "loss")
    assert trainer.was_initialized
    assert trainer.dataset_class is not None


@expected_of("nnUNetTrainer._do_i_compile")
def _(lab):
    trainer = lab.stock(device=CPU)
    lab.patch.delenv("nnUNet_compile", raising=False)
    assert not trainer._do_i_compile()
    trainer.device = torch.device("cuda")
    assert trainer._do_i_compile()
    lab.patch.setenv("nnUNet_compile", "f")
    assert not trainer._do_i_compile()


@expected_of("nnUNetTrainer.build_network_architecture")
def _(lab):
    given = {}
    lab.patch.setattr(igtv_net, "IGTVNet", lambda **options: given.update(options))
    plan = SimpleNamespace(
        network_arch_class_name=NETWORK,
        network_arch_init_kwargs={"width": 8},
        network_arch_init_kwargs_req_import=[],
    )
    nnUNetTrainer.build_network_architecture(None, plan, 2, 3, False)
    assert given == {"width": 8, "input_channels": 2, "num_classes": 3, "deep_supervision": False}


@expected_of("nnUNetTrainer._set_batch_size_and_oversample")
def _(lab):
    trainer = lab.stock()
    trainer._set_batch_size_and_oversample()
    whole = trainer.configuration_manager.batch_size
    assert trainer.batch_size == whole
    shares = []
    for rank in range(2):
        lab.in_a_group(rank, size=2)
        trainer = lab.stock(device=CPU)
        trainer._set_batch_size_and_oversample()
        shares.append(trainer.batch_size)
        assert 0 <= trainer.oversample_foreground_percent <= 1
    assert sum(shares) == whole


@expected_of("nnUNetTrainer._build_loss")
def _(lab):
    plain = lab.stock(enable_deep_supervision=False)._build_loss()
    assert type(plain) is DC_and_CE_loss
    assert plain.weight_ce == 1
    assert (
        type(lab.stock(enable_deep_supervision=False, description=REGIONS)._build_loss()) is DC_and_BCE_loss
    )
    for in_a_group, last in ((False, 0), (True, 1e-6)):
        wrapped = lab.stock(is_ddp=in_a_group)._build_loss()
        assert type(wrapped) is DeepSupervisionWrapper
        assert type(wrapped.loss) is DC_and_CE_loss
        assert abs(wrapped.weight_factors[-1] - last) < 1e-6
        assert (wrapped.weight_factors[-1] > 0) == in_a_group


@expected_of("nnUNetTrainer._get_deep_supervision_scales")
def _(lab):
    assert lab.stock(enable_deep_supervision=False)._get_deep_supervision_scales() is None
    scales = lab.stock()._get_deep_supervision_scales()
    assert [list(scale) for scale in scales[:2]] == [[1, 1], [0.5, 0.5]]


@expected_of("nnUNetTrainer.configure_optimizers")
def _(lab):
    optimizer, schedule = lab.stock(network=nn.Linear(2, 2)).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    before = optimizer.param_groups[0]["lr"]
    schedule.step(500)
    assert optimizer.param_groups[0]["lr"] != before


@expected_of("nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size")
def _(lab):
    trainer = lab.stock()
    rotation, in_plane, larger, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert len(rotation) == 2
    assert in_plane is False
    assert all(np.array(larger) >= trainer.configuration_manager.patch_size)
    assert trainer.inference_allowed_mirroring_axes == axes == (0, 1)


@expected_of("nnUNetTrainer.get_training_transforms")
def _(lab):
    options = {"use_mask_for_norm": [False], "is_cascaded": False, "foreground_labels": [1]}
    transform = nnUNetTrainer.get_training_transforms(
        (20, 16, 16), (-1, 1), None, (1, 2), True, regions=None, ignore_label=None, **options
    )
    found = transform(
        image=torch.rand(2, 20, 30, 30), segmentation=torch.zeros(1, 20, 30, 30, dtype=torch.int16)
    )
    assert found["image"].shape == (2, 20, 16, 16)
    assert found["segmentation"].shape == (1, 20, 16, 16)


@expected_of("nnUNetTrainer.get_validation_transforms")
def _(lab):
    transform = nnUNetTrainer.get_validation_transforms(
        [[1, 1, 1], [1, 0.5, 0.5]], foreground_labels=[1], regions=None, ignore_label=None
    )
    image, label = torch.rand(2, 3, 8, 8), torch.full((1, 3, 8, 8), -1, dtype=torch.int16)
    found = transform(image=image.clone(), segmentation=label)
    assert torch.equal(found["image"], image)
    assert [tuple(target.shape) for target in found["segmentation"]] == [(1, 3, 8, 8), (1, 3, 4, 4)]
    assert not found["segmentation"][0].any()


@expected_of("nnUNetTrainer.get_dataloaders")
def _(lab):
    train, validation = lab.stock(batch_size=2).get_dataloaders()
    assert next(train).keys() >= {"data", "target", "keys"}
    assert next(validation).keys() >= {"data", "target", "keys"}


@expected_of("nnUNetTrainer.get_tr_and_val_datasets")
def _(lab):
    trainer = lab.stock(dataset_class=infer_dataset_class(str(lab.preprocessed / "nnUNetPlans_2d")))
    found = [list(dataset.identifiers) for dataset in trainer.get_tr_and_val_datasets()]
    assert found == [list(cases) for cases in trainer.do_split()]


@expected_of("nnUNetTrainer.do_split")
def _(lab):
    train, validation = lab.stock(fold="all").do_split()
    assert len(train) == 4
    assert train == validation
    assert lab.stock().do_split() == tuple(lab.read("splits_final.json")[0].values())

    def dataset_class(count):
        cases = [f"c{i}" for i in range(count)]
        return lambda *arguments, **options: SimpleNamespace(identifiers=cases)

    elsewhere = {"preprocessed_dataset_folder_base": str(lab.folder)}
    assert refuses(ValueError, lab.stock(dataset_class=dataset_class(4), **elsewhere).do_split)
    lab.stock(dataset_class=dataset_class(5), **elsewhere).do_split()
    assert len(json.loads((lab.folder / "splits_final.json").read_text())) == 5


@expected_of("nnUNetTrainer.on_train_start")
def _(lab):
    base = recorder("set_deep_supervision_enabled", "plot_network_architecture", "_save_debug_information")
    base.get_dataloaders = lambda self: ("training", "validation")
    trainer = lab.stock(base, local_rank=1)  # not the first
    trainer.on_train_start()
    assert trainer.was_initialized
    assert (trainer.dataloader_train, trainer.dataloader_val) == ("training", "validation")
    assert ("set_deep_supervision_enabled", True) in trainer.called
    written = {path.name for path in Path(trainer.output_folder_base).glob("*.json")}
    assert written == {"plans.json", "dataset.json", "dataset_fingerprint.json"}


@expected_of("nnUNetTrainer.on_train_epoch_start")
def _(lab):
    network, schedule = nn.Linear(1, 1).eval(), mock.Mock()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    trainer = lab.stock(network=network, lr_scheduler=schedule, optimizer=optimizer)
    trainer.on_train_epoch_start()
    assert network.training
    schedule.step.assert_called_once_with(0)


@expected_of("nnUNetTrainer.train_step")
def _(lab):
    trainer = lab.stock(enable_deep_supervision=False, batch_size=2)
    trainer.initialize()
    batch = next(trainer.get_dataloaders()[0])
    assert len(batch["keys"]) == 2
    results = [trainer.train_step(batch) for _ in range(2)]
    assert all(isinstance(result["loss"], np.ndarray) for result in results)
    trainer.on_train_epoch_end(results)
    logged = trainer.logger.get_value("train_losses", step=None)
    assert np.allclose(logged, [np.mean([result["loss"] for result in results])])


def validated(trainer, epoch, *counts):
    """The end of a validation epoch of these true positives, false positives and false negatives."""
    names = ("tp_hard", "fp_hard", "fn_hard")
    trainer.current_epoch = epoch
    outputs = {name: np.array([value]) for name, value in zip(names, counts, strict=True)}
    trainer.on_validation_epoch_end([{"loss": np.array(0.5)} | outputs])


@expected_of("nnUNetTrainer.on_validation_epoch_end")
def _(lab):
    trainer = lab.stock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of 0 / 0
        for epoch, counts in enumerate(((10, 20, 20), (0, 0, 0), (10, 20, 20))):
            validated(trainer, epoch, *counts)
    logged = trainer.logger.local_logger.my_fantastic_logging
    assert np.allclose(logged["mean_fg_dice"], [1 / 3, np.nan, 1 / 3], equal_nan=True)
    assert np.allclose(logged["ema_fg_dice"], [1 / 3, np.nan, np.nan], equal_nan=True)


@expected_of("nnUNetTrainer.on_epoch_end")
def _(lab):
    trainer = lab.stock(recorder("save_checkpoint"))
    trainer.logger.plot_progress_png = lambda folder: None
    best = []
    for epoch, counts in enumerate(((10, 20, 20), (1, 20, 20), (99, 20, 20))):
        for name in ("train_losses", "epoch_start_timestamps"):
            trainer.logger.log(name, 0.0, epoch)
        validated(trainer, epoch, *counts)
        trainer.on_epoch_end()
        best.append(trainer._best_ema == trainer.logger.get_value("ema_fg_dice", step=-1))
    assert best == [True, False, True]


@expected_of("nnUNetTrainer.on_train_end")
def _(lab):
    trainer = lab.stock(recorder("save_checkpoint"))
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    latest.touch()
    trainer.on_train_end()
    assert trainer.called == [("save_checkpoint", str(latest.with_name("checkpoint_final.pth")))]
    assert not latest.exists()


@expected_of("nnUNetTrainer.run_training")
def _(lab):
    epoch = [
        *("on_epoch_start", "on_train_epoch_start", "train_step", "on_train_epoch_end"),
        *("on_validation_epoch_start", "validation_step", "on_validation_epoch_end", "on_epoch_end"),
    ]
    base = recorder("on_train_start", *epoch, "on_train_end")
    trainer = lab.stock(base, num_iterations_per_epoch=1, num_val_iterations_per_epoch=1, num_epochs=3)
    trainer.current_epoch = 1
    trainer.dataloader_train, trainer.dataloader_val = iter("ab"), iter("cd")
    trainer.run_training()
    assert [name for name, *_ in trainer.called] == ["on_train_start", *epoch, *epoch, "on_train_end"]
    assert ("train_step", "b") in trainer.called


@expected_of("nnUNetTrainer.save_checkpoint")
def _(lab):
    trainer = lab.stock(current_epoch=4)
    trainer.initialize()
    network = trainer.network
    trainer.network = torch.compile(network)
    trainer.save_checkpoint(str(lab.folder / "a.pth"))
    content = torch.load(lab.folder / "a.pth", weights_only=False)
    assert set(content) == {
        *("network_weights", "optimizer_state", "grad_scaler_state", "logging", "_best_ema"),
        *("current_epoch", "init_args", "trainer_name", "inference_allowed_mirroring_axes"),
    }
    assert content["network_weights"].keys() == network.state_dict().keys()
    assert content["current_epoch"] == 5
    assert list(content["init_args"]) == INIT
    assert content["trainer_name"] == "nnUNetTrainer"
    trainer.local_rank = 1
    trainer.save_checkpoint(str(lab.folder / "b.pth"))
    assert not (lab.folder / "b.pth").exists()


@expected_of("nnUNetTrainer.load_checkpoint")
def _(lab):
    first, second = lab.stock(current_epoch=4, _best_ema=0.5), lab.stock()
    first.initialize()
    first.save_checkpoint(str(lab.folder / "a.pth"))
    second.load_checkpoint(str(lab.folder / "a.pth"))
    assert second.was_initialized
    assert (second.current_epoch, second._best_ema) == (5, 0.5)
    weights = [trainer.network.state_dict() for trainer in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@expected_of("nnUNetTrainer.set_deep_supervision_enabled")
def _(lab):
    decoder = SimpleNamespace(deep_supervision=True)
    lab.stock(network=SimpleNamespace(decoder=decoder)).set_deep_supervision_enabled(False)
    assert decoder.deep_supervision is False


@expected_of("nnUNetTrainer.perform_actual_validation")
def _(lab):
    predictor, pool = mock.MagicMock(), mock.MagicMock()
    lab.patch.setattr(trainer_module, "nnUNetPredictor", lambda **options: predictor)
    lab.patch.setattr(trainer_module.multiprocessing, "get_context", lambda kind: pool)
    lab.patch.setattr(trainer_module, "check_workers_alive_and_busy", lambda *a, **options: False)
    lab.patch.setattr(
        trainer_module,
        "compute_metrics_on_folder",
        lambda *a, **options: {"mean": {}, "foreground_mean": {"Dice": 1.0}},
    )
    base = recorder("set_deep_supervision_enabled")
    kind = infer_dataset_class(str(lab.preprocessed / "nnUNetPlans_2d"))
    trainer = lab.stock(base, network=nn.Linear(1, 1), dataset_class=kind)
    predictor.manual_initialization.side_effect = lambda network, *a: trainer.called.append(network)
    trainer.perform_actual_validation(save_probabilities=False)
    supervised = "set_deep_supervision_enabled"
    assert trainer.called == [(supervised, False), trainer.network, (supervised, True)]
    assert predictor.predict_sliding_window_return_logits.call_count == len(trainer.do_split()[1])


@expected_of("nnUNetTrainer.print_to_log_file")
def _(lab):
    trainer = lab.stock()
    trainer.print_to_log_file("first", add_timestamp=False)
    trainer.local_rank = 1
    printed = StringIO()
    with redirect_stdout(printed):
        trainer.print_to_log_file("second", add_timestamp=False)
    logged = Path(trainer.log_file).read_text()
    assert "first" in logged
    assert "second" not in logged
    assert "second" in printed.getvalue()
