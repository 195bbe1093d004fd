"""The trainer that starts an IGTV network from GTV weights."""

import json
import os
import sys
from pathlib import Path

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.igtv_trainer import IGTVTrainer
from nnunet_igtv.trainers.starting_weights import OPTION
from nnunet_igtv.weights import TransferReport, load_pretrained
from nnunet_igtv.weights.pretrained import INITIAL, TAKEN, Entry

WEIGHTS_VARIABLE = "nnUNet_igtv_gtv_weights"
REPORT = "transfer_report.json"


class IGTVTransferTrainer(IGTVTrainer):
    """Trains the IGTV network from GTV weights; layers that are new learn faster than transferred ones.

    The weights come from nnU-Net's `-pretrained_weights` (strict) or, where the flag is not given, from the
    checkpoint that the environment variable `nnUNet_igtv_gtv_weights` names (any network whose layers can be
    matched). Which layers came from where is logged and kept as `transfer_report.json` in the fold's folder.
    """

    def initialize(self) -> None:
        super().initialize()
        if not self.resumed and WEIGHTS_VARIABLE not in os.environ:
            self.print_to_log_file(
                f"If {OPTION} refuses a file (it wants every layer but the head, and takes a file from a GPU "
                "on a GPU only): `nnunet-igtv import-weights` makes one that it takes, and "
                f"{WEIGHTS_VARIABLE} takes what fits",
                add_timestamp=False,
            )

    def start_from_weights(self) -> None:
        """Takes the GTV weights, reports them, and gives new and transferred layers their learning rates.

        Raises:
            IGTVError: there are none to take, they do not fit, or belong to data with other channels.
        """
        if self.loaded.names:
            super().start_from_weights()
            source, report = OPTION, self._report_of_loaded()
        elif source := os.environ.get(WEIGHTS_VARIABLE, ""):
            report = load_pretrained(self.bare_network, source)
            self._require_same_data(report.channels, source)
        else:
            raise IGTVError(
                f"{type(self).__name__} starts from GTV weights, and none were given",
                remedy=f"pass {OPTION} CHECKPOINT or set {WEIGHTS_VARIABLE}=CHECKPOINT; a run that has a "
                "checkpoint is continued with --c; the trainer that starts from scratch is "
                f"{type(self).__name__.replace('Transfer', '')}",
            )
        self.use_two_rates(report.keys(INITIAL))
        self.print_to_log_file(f"GTV weights from {source}\n{report.table()}", add_timestamp=False)
        if self.local_rank == 0:
            record = {"source": source, "command": sys.argv} | report.to_dict()
            write_text(Path(self.output_folder) / REPORT, json.dumps(record, indent=2) + "\n")

    def _report_of_loaded(self) -> TransferReport:
        """What `-pretrained_weights` loaded."""
        entries = [
            Entry(name, tensor.numel(), TAKEN if name in self.loaded.names else INITIAL)
            for name, tensor in self.bare_network.state_dict().items()
        ]
        return TransferReport("nnunet-igtv", tuple(entries), ())
