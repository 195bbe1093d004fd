"""The older name of `python -m nnunet_igtv`, which scripts for torchrun may use."""

import sys

from nnunet_igtv.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
