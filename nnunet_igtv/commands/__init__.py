"""The command line: the only place with argparse, printing, exit statuses and names of options.

One module per command; `main.py` has their table. Each parses, calls the same functions as the Python face
(`import nnunet_igtv`), and prints what they return.
"""
