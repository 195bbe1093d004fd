"""One reader against damaged files that Atheris makes, which looks for inputs that reach new code.

    python tests/fuzz/with_atheris.py TARGET SECONDS [FOLDER]

FOLDER keeps what reached new code (default: .fuzz/TARGET), the next run goes on from there. What crashes is
written to FOLDER/crashes: move it to tests/data/fuzz/TARGET once it is mended, where the tests try it first.
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))  # the studies of the tests

with atheris.instrument_imports(include=["nnunet_igtv", "pydicom"]):
    from test_fuzz import CORPUS, TARGETS, attempt


def main() -> None:
    name, seconds = sys.argv[1], int(sys.argv[2])
    target, kept = TARGETS[name], Path(sys.argv[3] if len(sys.argv) > 3 else f".fuzz/{name}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "files" / f"file{target.ending}"
        file.parent.mkdir()
        (kept / "crashes").mkdir(parents=True, exist_ok=True)
        (kept / "sound").write_bytes(target.seed(Path(folder)))
        for found in (CORPUS / name).glob("*"):
            (kept / found.name).write_bytes(found.read_bytes())
        longest = 2 * (kept / "sound").stat().st_size
        options = [f"-max_total_time={seconds}", f"-max_len={longest}", "-timeout=60", "-rss_limit_mb=4096"]
        options += [f"-artifact_prefix={kept}/crashes/", "-verbosity=0", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, str(kept)], lambda data: attempt(target, file, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
