"""Puts the short table of a comparison into the README, between two comments that name it.

python experiments/scripts/readme.py experiments/results/first README.md
"""

import argparse
import re
from pathlib import Path

from nnunet_igtv.atomic import write_text


def with_table(page: str, results: str, table: str) -> str:
    """The page with the table between `<!-- table: RESULTS -->` and the next `<!-- end -->`.

    Raises:
        ValueError: the page does not have these comments once.
    """
    pattern = rf"(<!-- table: {re.escape(results)} -->\n).*?(<!-- end -->)"
    changed, count = re.subn(pattern, lambda m: f"{m[1]}{table.strip()}\n{m[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page has {count} places for the table of {results}, not one")
    return changed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder that tables.py has written")
    parser.add_argument("page", type=Path)
    a = parser.parse_args()
    table = (a.results / "short.md").read_text()
    write_text(a.page, with_table(a.page.read_text(), a.results.as_posix(), table))
