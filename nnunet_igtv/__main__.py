"""`python -m nnunet_igtv`: the command line, for torchrun and for environments without the script."""

import sys

from nnunet_igtv.commands.main import main

sys.exit(main())
