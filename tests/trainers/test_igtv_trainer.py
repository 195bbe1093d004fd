"""The trainer in this process, a few steps at a time."""

import json
import os
import queue
import signal
from collections import deque
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from nnunet_igtv.architectures.layers import Blocks
from nnunet_igtv.architectures.slice_interactions import SLICE_INTERACTIONS
from nnunet_igtv.channels import CT_PET, described
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano, IGTVTrainerNanoDeepSupervision, igtv_trainer
from nnunet_igtv.trainers.augmentation import InPlaneBlurTransform
from nnunet_igtv.trainers.losses import LOSSES


def started(trainer):
    """The trainer with its first batch, as after the beginning of an epoch."""
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return next(trainer.dataloader_train)


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def parameters(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def half_core_and_ignored(label):
    label[5:][label[5:] == 1] = 2
    label[:, :, :6] = 3


@pytest.fixture(scope="module")
def odd_labels(nnunet_world):
    """Data sets with the ignore label (903) and with regions and the ignore label (904)."""

    def ignored(label):
        label[:, :, :6] = 2

    nnunet_world.add_dataset(
        "Dataset903_Ignore", cases=3, labels={"background": 0, "tumour": 1, "ignore": 2}, relabel=ignored
    )
    nnunet_world.add_dataset(
        "Dataset904_Regions",
        cases=3,
        labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        regions_class_order=[1, 2],
        relabel=half_core_and_ignored,
    )


def test_the_batch_is_stacks_of_ct_and_pet_and_the_plans_given_are_untouched(make_trainer, nnunet_world):
    plans = json.loads((nnunet_world.preprocessed(902) / "nnUNetPlans.json").read_text())
    before = json.dumps(plans)
    trainer = make_trainer(IGTVTrainerNano, plans=plans)
    batch = started(trainer)
    patch = trainer.configuration_manager.patch_size
    assert batch["data"].shape == (trainer.batch_size, 2, *patch)
    assert patch[0] == 3
    assert batch["target"].shape == (trainer.batch_size, 1, *patch)
    assert trainer.inference_allowed_mirroring_axes == (1, 2)
    assert json.dumps(plans) == before


@pytest.mark.parametrize(("slices", "interaction"), [(5, "before_head"), (3, "stages"), (1, "none")])
def test_slices_and_their_interaction_are_choices_of_a_trainer(make_trainer, slices, interaction):
    trainer = make_trainer(IGTVTrainerNano, slices=slices, slice_interaction=interaction)
    trainer.on_train_start()
    assert next(trainer.dataloader_train)["data"].shape[2] == slices
    plan = trainer.configuration_manager.configuration
    assert plan["patch_size"][0] == slices
    assert plan["architecture"]["arch_kwargs"]["slice_interaction"] == interaction
    module = type(trainer.network.slice_interaction)
    assert module is SLICE_INTERACTIONS[interaction].load()


@pytest.mark.parametrize("loss_function", list(LOSSES))
def test_deep_supervision_trains_the_coarser_heads(make_trainer, loss_function):
    trainer = make_trainer(IGTVTrainerNanoDeepSupervision, loss_function=loss_function)
    batch = started(trainer)
    slices, *plane = trainer.configuration_manager.patch_size
    sizes = [(slices, *(round(side / stride) for side in plane)) for stride in (1, 4, 8, 16)]
    assert [tuple(target.shape[2:]) for target in batch["target"]] == sizes
    assert [tuple(logits.shape[2:]) for logits in trainer.network(batch["data"])] == sizes
    before = parameters(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(4)]
    assert losses[-1] < losses[0]
    moved = {
        name for name, parameter in parameters(trainer).items() if not torch.equal(parameter, before[name])
    }
    heads = [f"decoder.seg_layers.{i}.weight" for i in range(4)]
    # nnU-Net gives the coarsest output no weight
    assert [head in moved for head in heads] == [True, True, True, False]
    assert trainer.validation_step(next(trainer.dataloader_val))["tp_hard"].shape == (1,)


def test_deep_supervision_is_as_the_plan_says_and_off_at_prediction(make_trainer):
    trained = make_trainer(IGTVTrainerNanoDeepSupervision)
    trained.initialize()
    # the results' plan decides, as on --c, whatever the trainer's own setting
    trainer = make_trainer(IGTVTrainerNano, plans=trained.plans_manager.plans)
    assert trainer.enable_deep_supervision
    arguments = (trainer.plans_manager, trainer.configuration_manager, 2, 2)
    network = trainer.build_network_architecture(*arguments, enable_deep_supervision=False)
    network.load_state_dict(trained.network.state_dict())  # strictly, as nnU-Net's predictor does
    assert network(torch.zeros(1, 2, 3, 32, 32)).shape == (1, 2, 3, 32, 32)
    plain = make_trainer(IGTVTrainerNano)
    plain.initialize()
    plain.set_deep_supervision_enabled(True)  # which nnU-Net does after every validation
    assert isinstance(plain.network(torch.zeros(1, 2, 1, 32, 32)), torch.Tensor)


def test_a_step_learns_and_follows_the_schedule(make_trainer):
    trainer = make_trainer(IGTVTrainerNano, iterations=4, epochs=1)
    batch = started(trainer)
    losses, rates = [], []
    for _ in range(4):
        losses.append(float(trainer.train_step(batch)["loss"]))
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert losses[-1] < losses[0]
    assert len(set(rates)) == 4


def test_nan_stops_the_run_and_names_the_cases(make_trainer):
    trainer = make_trainer(IGTVTrainerNano)
    batch = started(trainer)
    before = parameters(trainer)
    batch["data"][0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(IGTVError, match=f"{batch['keys'][0]}.*NaN"):
        trainer.train_step(batch)
    assert same(before, parameters(trainer))


def test_gradients_that_are_not_finite_do_not_reach_the_weights(make_trainer):
    trainer = make_trainer(IGTVTrainerNano)
    batch = started(trainer)
    before = parameters(trainer)
    next(iter(trainer.network.parameters())).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(IGTVError, match="gradient is NaN"):
        trainer.train_step(batch)
    assert same(before, parameters(trainer))


def in_half_precision(trainer, changed=lambda loss: loss):
    """The trainer as on a GPU; `changed` is what half precision does to the loss."""
    loss = trainer.loss
    trainer.grad_scaler = torch.amp.GradScaler("cpu")
    trainer.loss = lambda y, target: loss(y, target) if y.dtype == torch.float32 else changed(loss(y, target))


@pytest.mark.parametrize(("device", "half"), [("cuda", True), ("cpu", False)])
def test_a_plan_is_made_for_the_precision_of_the_device(make_trainer, device, half):
    planned = mock.Mock(side_effect=InterruptedError)
    with mock.patch.object(igtv_trainer, "rewrite_plans", planned), pytest.raises(InterruptedError):
        make_trainer(IGTVTrainerNano, device=device)
    assert planned.call_args.kwargs["half_precision"] is half


def test_steps_in_half_precision_learn(make_trainer):
    trainer = make_trainer(IGTVTrainerNano, iterations=4, epochs=1)
    batch = started(trainer)
    in_half_precision(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_gradients_that_are_never_finite_in_half_precision_end_the_run(make_trainer):
    """The scaler leaves out such steps; without a limit a run of a thousand epochs would learn nothing."""
    trainer = make_trainer(IGTVTrainerNano)
    batch = started(trainer)
    in_half_precision(trainer)
    before = parameters(trainer)
    next(iter(trainer.network.parameters())).register_hook(lambda gradient: gradient * float("inf"))
    steps = [trainer.train_step] * 40
    with pytest.raises(IGTVError, match="gradient is NaN"):
        deque((step(batch) for step in steps), maxlen=0)
    assert same(before, parameters(trainer))
    assert trainer.grad_scaler.get_scale() > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_half_precision_made_nan_is_computed_again_in_single(make_trainer, monkeypatch, value):
    """The step is the one of single precision, as if there had been no other; the scale of the loss stays.

    Its blocks recompute their activations, because the batch was planned for half precision."""
    monkeypatch.setenv("nnUNet_igtv_seed", "7")
    outcomes = []
    for half in (False, True):
        trainer = make_trainer(IGTVTrainerNano)
        batch = started(trainer)
        blocks = [module for module in trainer.network.modules() if isinstance(module, Blocks)]
        recomputed = []
        for module in blocks:
            module.register_forward_pre_hook(
                lambda module, _, seen=recomputed: seen.append(module.checkpointing)
            )
        if half:
            in_half_precision(trainer, lambda loss: loss.sum() * value)
        outcomes.append((float(trainer.train_step(batch)["loss"]), weights(trainer)))
        assert recomputed == [False] * len(blocks) + [True] * len(blocks) * half
        assert not any(module.checkpointing for module in blocks)
    assert trainer.grad_scaler.get_scale() == torch.amp.GradScaler("cpu").get_scale()
    (loss, expected), (again, found) = outcomes
    assert loss == again
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    assert same({k: v for k, v in expected.items() if k not in counters}, found)


def test_a_batch_that_does_not_fit_the_gpu_names_its_size_and_the_two_keys(make_trainer):
    trainer = make_trainer(IGTVTrainerNano)
    batch = started(trainer)
    trainer.loss = mock.Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    size = f"{len(batch['data'])} stacks of {' x '.join(map(str, batch['data'].shape[2:]))} voxels"
    expected = f"{size}.*gpu_memory_target_in_gb.*batch_size.*configuration 2d of the plans"
    with pytest.raises(IGTVError, match=expected):
        trainer.train_step(batch)


def test_a_device_that_is_not_there_is_refused_in_one_sentence(make_trainer, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(IGTVError, match=r"no cuda device.*ask for the device cpu"):
        make_trainer(IGTVTrainerNano, device="cuda")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_same_seed_gives_the_same_weights(make_trainer, monkeypatch, workers):
    monkeypatch.setenv("nnUNet_n_proc_DA", workers)
    outcomes = []
    for seed in ("7", "7", "8"):
        monkeypatch.setenv("nnUNet_igtv_seed", seed)
        trainer = make_trainer(IGTVTrainerNano)
        started(trainer)
        for _ in range(3):
            trainer.train_step(next(trainer.dataloader_train))
        outcomes.append(weights(trainer))
        if workers != "0":
            trainer.dataloader_train._finish()
            trainer.dataloader_val._finish()
    assert same(outcomes[0], outcomes[1])
    assert not same(outcomes[0], outcomes[2])


@pytest.mark.parametrize("seed", ["", "3"])
def test_workers_are_not_stuck_after_the_main_process_has_computed_in_threads(
    make_trainer, monkeypatch, seed
):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setenv("nnUNet_igtv_seed", seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.rand(8, 8, 200, 200), torch.rand(8, 8, 5, 5))  # starts OpenMP's threads
    trainer = make_trainer(IGTVTrainerNano)
    blur_always = InPlaneBlurTransform((0.5, 1.0), p_per_channel=1.0)
    trainer.get_training_transforms = lambda *args, **kwargs: blur_always
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("stuck"))
    signal.alarm(60)
    try:
        started(trainer)
        [next(trainer.dataloader_train) for _ in range(10)]
    finally:
        signal.alarm(0)
        torch.set_num_threads(threads)
        trainer.dataloader_train._finish(timeout=1)
        trainer.dataloader_val._finish(timeout=1)


def test_each_worker_draws_its_own_random_numbers(make_trainer, monkeypatch):
    monkeypatch.setenv("nnUNet_igtv_seed", "3")
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    trainer = make_trainer(IGTVTrainerNano)
    trainer.get_training_transforms = lambda *args, **kwargs: lambda **data: data | {"image": torch.rand(3)}
    first = started(trainer)["data"]
    second = next(trainer.dataloader_train)["data"]
    assert not torch.equal(first, second)  # by turns from the two workers
    trainer.dataloader_train._finish()
    trainer.dataloader_val._finish()


@pytest.mark.parametrize("seed", ["-1", "1.5", "x"])
def test_what_is_no_seed_is_refused(make_trainer, monkeypatch, seed):
    monkeypatch.setenv("nnUNet_igtv_seed", seed)
    with pytest.raises(IGTVError, match="nnUNet_igtv_seed"):
        make_trainer(IGTVTrainerNano)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("seed", "within_a_batch"), [("", False), ("3", False), ("3", True)])
def test_a_dead_worker_ends_the_run_instead_of_hanging_it(make_trainer, monkeypatch, seed, within_a_batch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setenv("nnUNet_igtv_seed", seed)
    trainer = make_trainer(IGTVTrainerNano)
    started(trainer)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(60)
    try:
        if within_a_batch:  # what the thread that fetches batches then meets
            augmenter = trainer.dataloader_train
            [source] = augmenter._queues
            source.get = mock.Mock(side_effect=ConnectionResetError)
            while augmenter.pin_memory_thread.is_alive():  # it comes to fetch when there is room for more
                with suppress(queue.Empty):
                    augmenter.pin_memory_queue.get(timeout=0.05)
        os.kill(trainer.dataloader_train._processes[0].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="no longer alive"):
            [next(trainer.dataloader_train) for _ in range(50)]
    finally:
        signal.alarm(0)
        trainer.dataloader_val._finish()


def test_a_run_continues_from_its_checkpoint_with_the_same_weights_and_optimiser(make_trainer):
    first = make_trainer(IGTVTrainerNano, epochs=3)
    batch = started(first)
    first.train_step(batch)
    first.current_epoch = 1
    path = str(Path(first.output_folder) / "checkpoint_latest.pth")
    first.save_checkpoint(path)
    second = make_trainer(IGTVTrainerNano, epochs=3, continuing=True)
    second.load_checkpoint(path)
    assert second.current_epoch == 2
    assert same(weights(first), weights(second))
    moments = [t.optimizer.state_dict()["state"] for t in (first, second)]
    assert moments[0].keys() == moments[1].keys() != set()
    assert all(torch.equal(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"]) for k in moments[0])


def test_a_truncated_checkpoint_is_replaced_by_the_best_and_the_log_says_so(make_trainer, capsys):
    first = make_trainer(IGTVTrainerNano)
    first.initialize()
    folder = Path(first.output_folder)
    first.save_checkpoint(str(folder / "checkpoint_best.pth"))
    latest = folder / "checkpoint_latest.pth"
    latest.write_bytes((folder / "checkpoint_best.pth").read_bytes()[:5000])
    second = make_trainer(IGTVTrainerNano, continuing=True)
    second.load_checkpoint(str(latest))
    assert same(weights(first), weights(second))
    assert "continuing from" in capsys.readouterr().out


def test_a_checkpoint_needs_no_pickled_code(make_trainer):
    trainer = make_trainer(IGTVTrainerNano, epochs=1)
    trainer.run_training()
    content = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=True)
    assert content["trainer_name"] == "IGTVTrainerNano"
    assert isinstance(content["logging"]["train_losses"][0], float)
    assert content["init_args"]["configuration"] == "2d"


def test_nnunets_other_loggers_get_every_epoch_also_after_an_interruption(make_trainer):
    class Recorder:  # in place of Weights & Biases
        def __init__(self):
            self.logged, self.config = [], {}

        def update_config(self, config):
            self.config |= config

        def log(self, key, value, step):
            self.logged.append((key, step, float(value)))

    first, recorder = make_trainer(IGTVTrainerNano), Recorder()
    first.logger.loggers.append(recorder)
    first.run_training()
    for key in ("train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice", "lrs"):
        values = first.logger.get_value(key, step=None)
        assert [entry for entry in recorder.logged if entry[0] == key] == [
            (key, step, pytest.approx(value, nan_ok=True)) for step, value in enumerate(values)
        ]
    assert recorder.config["hparas"]["batch_size"] == first.batch_size
    second = make_trainer(IGTVTrainerNano, epochs=3, continuing=True)
    second.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))
    again = Recorder()
    second.logger.loggers.append(again)
    second.run_training()
    assert {step for _, step, _ in again.logged} == {2}
    assert len(second.logger.get_value("train_losses", step=None)) == 3


def test_checkpointing_can_be_disabled(make_trainer):
    trainer = make_trainer(IGTVTrainerNano, epochs=1)
    trainer.disable_checkpointing = True
    trainer.run_training()
    assert not list(Path(trainer.output_folder).glob("*.pth"))


@pytest.mark.parametrize("dataset", [903, 904])
def test_ignored_voxels_teach_nothing(make_trainer, odd_labels, dataset):
    trainer = make_trainer(IGTVTrainerNano, dataset=dataset, fold="all", loss_function="dice_ce")
    batch = started(trainer)
    target = batch["target"]
    ignored = target[:, -1].bool() if dataset == 904 else target[:, 0] == 2
    assert ignored.any()
    logits = trainer.network(batch["data"]).detach().requires_grad_()
    trainer.loss(logits, target).backward()
    heads = logits.grad.abs().sum(1)
    assert not heads[ignored].any()
    assert heads[~ignored].any()
    assert np.isfinite(trainer.train_step(batch)["loss"])
    assert trainer.validation_step(next(trainer.dataloader_val))["tp_hard"].shape == (
        (2,) if dataset == 904 else (1,)
    )


def test_a_cascade_is_refused_before_anything_is_written(make_trainer, nnunet_world, tmp_path):
    plans = json.loads((nnunet_world.preprocessed(902) / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_cascade_fullres"] = {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }
    with pytest.raises(IGTVError, match="cascade"):
        make_trainer(IGTVTrainerNano, configuration="3d_cascade_fullres", plans=plans)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"channel_names": {"0": "CT"}}, "the number of channels is 1, not 2"),
        ({"channel_names": {"0": "PET", "1": "CT"}}, "channel 0 is PET, not CT"),
        (described(tuple(reversed(CT_PET))), "channel 0 is PET, not CT"),
    ],
)
def test_other_channels_than_ct_then_pet_are_refused_before_anything_is_written(
    make_trainer, tmp_path, description, message
):
    with pytest.raises(IGTVError, match=rf"{message}.*Dataset902_IGTV/dataset\.json.*convert"):
        make_trainer(IGTVTrainerNano, description=description)
    assert not (tmp_path / "results").exists()


def test_channel_names_that_say_neither_ct_nor_pet_are_pointed_out(make_trainer, capsys):
    make_trainer(IGTVTrainerNano, description={"channel_names": {"0": "CT", "1": "SUV"}})
    assert "WARNING" not in capsys.readouterr().out
    make_trainer(IGTVTrainerNano, description={"channel_names": {"0": "zscore", "1": "noNorm"}})
    assert "WARNING: the channel names zscore, noNorm do not say CT or PET" in capsys.readouterr().out


def test_five_folds_of_fewer_cases_are_refused_before_the_data_are_touched(make_trainer, nnunet_world):
    nnunet_world.add_dataset("Dataset907_Four", cases=4, splits=None)
    trainer = make_trainer(IGTVTrainerNano, dataset=907)
    with pytest.raises(IGTVError, match=r"five cases or more; this dataset has 4.*Dataset907.*fold \"all\""):
        trainer.on_train_start()
    assert trainer.dataloader_train is None
    assert not (nnunet_world.preprocessed(907) / "splits_final.json").exists()
    everything, _ = make_trainer(IGTVTrainerNano, dataset=907, fold="all").do_split()
    assert len(everything) == 4


def six_cases_of_three_patients(make_trainer, nnunet_world, number, fold):
    folder = nnunet_world.preprocessed(number)
    names = sorted(path.name.split(".")[0] for path in (folder / "gt_segmentations").iterdir())
    description = described(CT_PET)
    description["nnunet_igtv"]["patients"] = {name: 1 + k // 2 for k, name in enumerate(names)}
    trainer = make_trainer(IGTVTrainerNano, dataset=number, fold=fold, description=description)
    return trainer, names, folder / "splits_final.json"


def test_a_patient_is_never_trained_on_and_validated_on(make_trainer, nnunet_world):
    """nnU-Net makes folds by case where the converter's file is gone, as after planning anew."""
    nnunet_world.add_dataset("Dataset908_Pairs", cases=6, splits=None)
    trainer, names, file = six_cases_of_three_patients(make_trainer, nnunet_world, 908, 0)
    training, validation = trainer.do_split()
    assert sorted([*training, *validation]) == names
    assert names.index(validation[0]) // 2 == names.index(validation[1]) // 2
    assert len(json.loads(file.read_text())) == 3
    trainer, *_ = six_cases_of_three_patients(make_trainer, nnunet_world, 908, 3)
    with pytest.raises(IGTVError, match=r"no fold 3: the patients of this dataset are in 3 folds.*0 to 2"):
        trainer.on_train_start()
    assert trainer.dataloader_train is None
    file.write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    trainer, *_ = six_cases_of_three_patients(make_trainer, nnunet_world, 908, 0)
    with pytest.raises(
        IGTVError, match=rf"{names[0]}: .*1 of 1 validation cases are trained on too.*take this"
    ):
        trainer.on_train_start()
    everything, _ = six_cases_of_three_patients(make_trainer, nnunet_world, 908, "all")[0].do_split()
    assert len(everything) == 6


def test_damaged_folds_are_refused_by_name(make_trainer, nnunet_world):
    nnunet_world.add_dataset("Dataset909_Damaged", cases=5, splits=None)
    trainer = make_trainer(IGTVTrainerNano, dataset=909)
    for text in ("", "[{", "{}", "[]", "[1]", '[{"train": ["a"]}]'):
        (nnunet_world.preprocessed(909) / "splits_final.json").write_text(text)
        with pytest.raises(IGTVError, match=r"no list of folds.*Dataset909_Damaged.splits_final\.json"):
            trainer.do_split()


def test_a_fold_with_an_empty_side_is_refused_by_name(make_trainer, nnunet_world):
    nnunet_world.add_dataset("Dataset910_OneSided", cases=5, splits=None)
    trainer = make_trainer(IGTVTrainerNano, dataset=910)
    cases = [f.stem for f in sorted(Path(trainer.preprocessed_dataset_folder).glob("*.pkl"))]
    for side, purpose in (("train", "train"), ("val", "validate")):
        split = {"train": cases, "val": cases} | {side: []}
        (nnunet_world.preprocessed(910) / "splits_final.json").write_text(json.dumps([split]))
        with pytest.raises(IGTVError, match=rf"fold 0 has no cases to {purpose} on.*fold \"all\""):
            trainer.do_split()


@pytest.mark.parametrize("without", [0, 1])
def test_an_epoch_without_tumours_does_not_end_the_search_for_the_best_checkpoint(make_trainer, without):
    trainer = make_trainer(IGTVTrainerNano, epochs=4)
    step, save, best = trainer.validation_step, trainer.save_checkpoint, []

    def counted(batch):
        counts = step(batch)
        values = (0, 0, 0) if trainer.current_epoch == without else (10 + trainer.current_epoch, 20, 20)
        return counts | {
            name: np.full_like(counts[name], value)
            for name, value in zip(("tp_hard", "fp_hard", "fn_hard"), values, strict=True)
        }

    def saved(file):
        best.append(trainer.current_epoch) if "best" in file else None
        save(file)

    trainer.validation_step, trainer.save_checkpoint = counted, saved
    trainer.run_training()
    assert best[-2:] == [2, 3]
    assert np.isfinite(trainer._best_ema)
    logged = trainer.logger.local_logger.my_fantastic_logging
    assert np.isnan(logged["mean_fg_dice"]).tolist() == [k == without for k in range(4)]
    assert np.isfinite(logged["ema_fg_dice"][1:]).all()


@pytest.mark.parametrize("epoch", [0, 1])
def test_who_interrupts_a_training_reads_how_to_continue(make_trainer, capsys, epoch):
    trainer = make_trainer(IGTVTrainerNano, epochs=3)
    step = trainer.train_step

    def interrupted(batch):
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(batch)

    trainer.train_step = interrupted
    with pytest.raises(KeyboardInterrupt, match="continue with --c" if epoch else "start again"):
        trainer.run_training()
    last = capsys.readouterr().out.strip().splitlines()[-1]
    if epoch:
        assert "Interrupted in epoch 1: continue with --c" in last
        assert (Path(trainer.output_folder) / "checkpoint_latest.pth").exists()
    else:
        assert "before there was a checkpoint: start again, without --c" in last


def test_planes_that_are_not_slices_are_pointed_out(make_trainer, nnunet_world, capsys):
    plans = json.loads((nnunet_world.preprocessed(902) / "nnUNetPlans.json").read_text())
    plans["transpose_forward"], plans["transpose_backward"] = [1, 0, 2], [1, 0, 2]
    make_trainer(IGTVTrainerNano, plans=plans)
    assert "WARNING: a stack is made of planes along image axis 1" in capsys.readouterr().out
