"""What two processes find, each started with `main` as `nnUNetv2_train -num_gpus 2` starts its own.

`main` runs every `check_…` below and writes what they return to OUTPUT/rank_0.json and OUTPUT/rank_1.json,
for test_distributed.py to judge.
"""

import copy
import json
import os
from datetime import timedelta
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed, nn

from nnunet_igtv.architectures.cross_modal import BatchNorm
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano, process_group
from nnunet_igtv.trainers.synced_norm import synchronise_norms
from nnunet_igtv.trainers.variants import DeepSupervision

CPU = torch.device("cpu")


class IGTVTrainerTwoRanks(IGTVTrainerNano):
    epochs, iterations, validation_iterations = 1, 2, 1


class Setting:
    def __init__(self, rank, plans, description):
        self.rank, self.plans, self.description = rank, plans, description

    def trainer(self, base=IGTVTrainerTwoRanks, **changes):
        plans = copy.deepcopy(self.plans) | {"continue_training": False}
        plans["configurations"]["2d"]["igtv"] = changes
        return base(plans, "2d", 0, self.description, CPU)

    def batch(self, trainer):
        patch = trainer.configuration_manager.patch_size
        generator = torch.Generator().manual_seed(self.rank)
        data = torch.randn(trainer.batch_size, 2, *patch, generator=generator)
        target = (data[:, 1:] > 1).float()
        return {"data": data, "target": target, "keys": [f"case_{self.rank}{i}" for i in range(len(data))]}


def difference(a, b):
    return (a - b).abs().max().item()


def digest(module):
    return sum(tensor.double().abs().sum().item() for tensor in module.state_dict().values())


def refusal(action):
    try:
        action()
    except IGTVError as error:
        return str(error)
    return None


def check_norms(setting):
    """A synchronised norm on halves of a batch, against the plain one on the whole of it."""
    torch.manual_seed(0)
    x, wanted = torch.randn(4, 3, 5, 6) * 3 + 1, torch.randn(4, 3, 5, 6)
    plain = nn.Sequential(BatchNorm(3))
    with torch.no_grad():
        plain[0].weight.uniform_(0.5, 2)
        plain[0].bias.uniform_(-1, 1)
    synced = copy.deepcopy(plain)
    synchronise_norms(synced, CPU)
    whole, half = x.clone().requires_grad_(), x[2 * setting.rank :][:2].clone().requires_grad_()
    (plain(whole) * wanted).sum().backward()
    (synced(half) * wanted[2 * setting.rank :][:2]).sum().backward()
    own = slice(2 * setting.rank, 2 * setting.rank + 2)
    weights = synced[0].weight.grad.clone()
    distributed.all_reduce(weights)
    found = {
        "input gradient": difference(half.grad, whole.grad[own]),
        "weight gradient": difference(weights, plain[0].weight.grad),
        "keys": list(synced.state_dict()) == list(plain.state_dict()),
    }
    for name, buffer in synced.named_buffers():
        found[name] = difference(buffer.double(), plain.get_buffer(name).double())
    found["evaluation"] = difference(synced.eval()(half), plain.eval()(x)[own])
    one_each = torch.full((1, 3, 1, 1), 2.0 * setting.rank)  # one value per channel and process: 0 and 2
    weight, bias = synced[0].weight, synced[0].bias
    found["one value"] = difference(
        synced.train()(one_each).flatten(), weight * (2 * setting.rank - 1) + bias
    )
    return found


def check_initialise(setting):
    trainer = setting.trainer()
    trainer.initialize()
    return {
        "device": str(trainer.device),
        "scaler": trainer.grad_scaler is None,
        "batch": trainer.batch_size,
        "oversample": trainer.oversample_foreground_percent,
        "dice over all": trainer.loss.dc.ddp,
        "digest": digest(trainer.bare_network),  # without a seed
        "plain norms": sum(isinstance(module, BatchNorm) for module in trainer.network.modules()),
    }


def check_nan_in_one_process(setting):
    trainer = setting.trainer()
    trainer.initialize()
    trainer.on_train_epoch_start()
    batch = setting.batch(trainer)
    if setting.rank == 1:
        batch["data"][0, 0, 0, 0, 0] = float("nan")
    before = [parameter.clone() for parameter in trainer.network.parameters()]
    error = refusal(lambda: trainer.train_step(batch))
    same = all(map(torch.equal, before, trainer.network.parameters()))
    return {"error": error, "weights kept": same}


def check_retry(setting):
    """Half precision overflows in one process: both compute once more, and continue alike."""
    trainer = setting.trainer()
    trainer.initialize()
    trainer.on_train_epoch_start()
    trainer.grad_scaler = torch.amp.GradScaler("cpu")
    batch, calls, loss = setting.batch(trainer), [], trainer.loss

    def overflowing(output, target):
        calls.append(1)
        value = loss(output, target)
        return value * float("inf") if setting.rank == 1 and len(calls) == 1 else value

    trainer.loss, before = overflowing, digest(trainer.bare_network)
    value = float(trainer.train_step(batch)["loss"])
    after = digest(trainer.bare_network)
    return {"calls": len(calls), "loss": value, "weights": after, "learned": after != before}


def check_split(setting):
    """The file of the split is for rank 0 alone to make."""
    stock = nnUNetTrainer.do_split
    if setting.rank == 1:
        nnUNetTrainer.do_split = None
    try:
        return setting.trainer().do_split()
    finally:
        nnUNetTrainer.do_split = stock


def check_start(setting):
    """What a run's start writes, and who."""
    trainer = setting.trainer()
    folder, foreign = trainer.output_folder_base, []
    stock = nnUNetTrainer.on_train_start

    def watched(self):
        foreign.append(self.output_folder_base != folder)
        stock(self)

    nnUNetTrainer.on_train_start = watched
    try:
        trainer.on_train_start()
    finally:
        nnUNetTrainer.on_train_start = stock
    distributed.barrier()
    return {
        "writes elsewhere": foreign,
        "folder again": trainer.output_folder_base == folder,
        "plans": (Path(folder) / "plans.json").is_file(),
    }


def check_other_epoch(setting):
    trainer = setting.trainer()
    trainer.current_epoch = setting.rank
    return refusal(trainer.on_train_start)


def check_other_weights(setting):
    trainer = setting.trainer()
    trainer.initialize()
    if setting.rank == 1:
        with torch.no_grad():
            next(trainer.bare_network.parameters()).view(-1)[0] += 1e-3
    return refusal(trainer.on_train_start)


def check_odd_batch(setting):
    return refusal(lambda: setting.trainer(type("IGTVTrainerOdd", (IGTVTrainerNano,), {}), batch_size=3))


def check_deep_supervision(setting):
    """Every head gets a gradient, the one of the least weight too: DDP stops at a parameter without one."""
    trainer = setting.trainer(type("IGTVTrainerHeads", (DeepSupervision, IGTVTrainerTwoRanks), {}))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(2)]
    trainer._do_i_compile = lambda: True  # as on GPUs
    compiled = list(trainer._build_loss().weight_factors)
    return {"losses": losses, "digest": digest(trainer.bare_network), "weights when compiled": compiled}


def main(rank, port, plans, description, output):
    torch.set_num_threads(1)
    torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in torchrun.items()}, MASTER_ADDR="localhost")
    process_group.LONGEST_WAIT = timedelta(seconds=60)  # out of step, they would wait for each other
    setting = Setting(rank, json.loads(Path(plans).read_text()), json.loads(Path(description).read_text()))
    checks = {name: check for name, check in globals().items() if name.startswith("check_")}
    with process_group.ProcessGroup("cpu") as group:
        found = {name: check(setting) for name, check in checks.items()}
        found["failing"] = {"first": group.first_to_fail()}
        distributed.barrier()
        if rank == 0:
            try:
                distributed.barrier()  # with a process that is gone
            except RuntimeError as error:
                found["failing"]["lost"] = group.lost_another(error)
                found["failing"]["own"] = not group.lost_another(RuntimeError("of another kind"))
        (Path(output) / f"rank_{rank}.json").write_text(json.dumps(found))
        os._exit(0)
