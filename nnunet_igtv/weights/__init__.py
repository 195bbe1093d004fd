"""Weights from elsewhere: read safely, renamed to this package's network, transferred with a report.

load_pretrained(network, source) -> TransferReport
"""

from nnunet_igtv.weights.pretrained import TransferReport, load_pretrained

__all__ = ["TransferReport", "load_pretrained"]
