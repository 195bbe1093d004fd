"""The trainer that starts an IGTV network from GTV weights."""

import json
import os
import sys
from pathlib import Path

import torch

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.igtv_trainer import IGTVTrainer
from nnunet_igtv.weights import TransferReport, load_pretrained
from nnunet_igtv.weights.pretrained import INITIAL, TAKEN, Entry
from nnunet_igtv.weights.strict import HEAD

WEIGHTS_VARIABLE = "nnUNet_igtv_gtv_weights"
REPORT = "transfer_report.json"


class IGTVTransferTrainer(IGTVTrainer):
    """Trains the IGTV network from GTV weights; what is new learns faster than what came over.

    The weights come from nnU-Net's `-pretrained_weights` (strict) or, where the flag is not given, from the
    checkpoint that the environment variable `nnUNet_igtv_gtv_weights` names (any network whose layers can be
    matched). Which layers came from where is printed and kept as `transfer_report.json` in the fold's folder.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.resumed = False
        self.initial_weights: dict[str, torch.Tensor] = {}

    def initialize(self) -> None:
        super().initialize()
        if not self.resumed and WEIGHTS_VARIABLE not in os.environ:
            self.print_to_log_file(
                "If -pretrained_weights refuses a file (it wants every layer but the head, and takes a file "
                "from a GPU on a GPU only): "
                f"`nnunet-igtv import-weights` makes one it takes, and {WEIGHTS_VARIABLE} takes what fits",
                add_timestamp=False,
            )
        state = self.bare_network.state_dict()
        self.initial_weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        self.resumed = True
        super().load_checkpoint(filename_or_checkpoint)

    def on_train_start(self) -> None:
        if not self.resumed:
            self._transfer()
        self.initial_weights = {}
        super().on_train_start()

    def _transfer(self) -> None:
        """Takes the GTV weights over, reports it, and gives new and transferred layers their learning rates.

        Raises:
            IGTVError: there are none to take.
        """
        report = self._loaded_by_nnunet()
        source: str | None = "-pretrained_weights"
        if report is None:
            source = os.environ.get(WEIGHTS_VARIABLE)
            if source and not self.was_initialized:
                self.initialize()
            report = load_pretrained(self.bare_network, source) if source else None
        if report is None:
            raise IGTVError(
                f"{type(self).__name__} starts from GTV weights and was given none",
                remedy=f"pass -pretrained_weights CHECKPOINT or set {WEIGHTS_VARIABLE}=CHECKPOINT "
                "(to go on with a run that has a checkpoint: --c; to start from scratch: -tr "
                f"{type(self).__name__.replace('Transfer', '')})",
            )
        self.fresh = set(report.keys(INITIAL))
        self.optimizer, self.lr_scheduler = self.configure_optimizers()
        self.print_to_log_file(f"GTV weights from {source}\n{report.table()}", add_timestamp=False)
        if self.local_rank == 0:
            record = {"source": source, "command": sys.argv} | report.to_dict()
            write_text(Path(self.output_folder) / REPORT, json.dumps(record, indent=2) + "\n")

    def _loaded_by_nnunet(self) -> TransferReport | None:
        """What `-pretrained_weights` loaded before the training started; None if the flag was not given.

        nnU-Net tells the trainer nothing, but it has changed the network since `initialize`.
        """
        state = self.bare_network.state_dict() if self.was_initialized else {}
        initial = self.initial_weights
        if all(torch.equal(initial[name], tensor.detach().cpu()) for name, tensor in state.items()):
            return None
        entries = [
            Entry(name, tensor.numel(), INITIAL if HEAD in name else TAKEN) for name, tensor in state.items()
        ]
        return TransferReport("nnunet-igtv", tuple(entries), ())
