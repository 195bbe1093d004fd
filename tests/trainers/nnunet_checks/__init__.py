"""What is expected of each part of nnU-Net in docs/nnunet.md, as code; test_nnunet.py runs it.

Each check gets a `Lab` and fails where the installed version does something else.
"""

from trainers.nnunet_checks import batches, commands, tools, trainer
from trainers.nnunet_checks.lab import CHECKS, Lab

__all__ = ["CHECKS", "Lab", "batches", "commands", "tools", "trainer"]
