"""The trainer that starts an IGTV network from GTV weights."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.igtv_trainer import IGTVTrainer

WEIGHTS_VARIABLE = "nnUNet_igtv_gtv_weights"
REPORT = "transfer_report.json"
HEAD = ".seg_layers."  # nnU-Net's own loader leaves out keys that contain this


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
        state = self.bare_network.state_dict()
        self.initial_weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        self.resumed = True

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
        given = self._loaded_by_nnunet()
        file = os.environ.get(WEIGHTS_VARIABLE)
        if given is not None:
            report, table = given, _summary(given)
        elif file:
            from nnunet_igtv.weights import load_pretrained

            if not self.was_initialized:
                self.initialize()
            transfer = load_pretrained(self.bare_network, file)
            report, table = transfer.to_dict(), transfer.table()
        else:
            raise IGTVError(
                f"{type(self).__name__} starts from GTV weights and was given none",
                remedy=f"pass -pretrained_weights CHECKPOINT or set {WEIGHTS_VARIABLE}=CHECKPOINT "
                "(to go on with a run that has a checkpoint: --c; to start from scratch: -tr "
                f"{type(self).__name__.replace('Transfer', '')})",
            )
        self.fresh = self._unchanged()
        self.optimizer, self.lr_scheduler = self.configure_optimizers()
        self.print_to_log_file(table, add_timestamp=False)
        if self.local_rank == 0:
            path = Path(self.output_folder) / REPORT
            path.write_text(json.dumps({"command": sys.argv} | report, indent=2) + "\n")

    def _loaded_by_nnunet(self) -> dict[str, Any] | None:
        """What `-pretrained_weights` loaded before the training started; None if the flag was not given.

        nnU-Net tells the trainer nothing, but it has changed the network since `initialize`.
        """
        if not self.was_initialized:
            return None
        fresh = self._unchanged()
        names = list(self.initial_weights)
        if len(fresh) == len(names):
            return None
        return {
            "source": "-pretrained_weights",
            "loaded": [name for name in names if HEAD not in name],
            "new": [name for name in names if HEAD in name],
        }

    def _unchanged(self) -> set[str]:
        """Names of the tensors that are still what `initialize` made them."""
        state = self.bare_network.state_dict()
        return {
            name
            for name, initial in self.initial_weights.items()
            if torch.equal(initial, state[name].detach().cpu())
        }


def _summary(report: dict[str, Any]) -> str:
    new = ", ".join(report["new"]) or "none"
    return f"Transferred by {report['source']}: {len(report['loaded'])} tensors. New: {new}"
