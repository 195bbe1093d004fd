"""The workflow of experiments/ in a folder of a test, and its scripts."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"


def script(name):
    """A script of the workflow as a module."""
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configuration(name):
    """A configuration of this repository, with what it takes from the one that it extends."""
    own = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    return (configuration(Path(own.pop("extends")).stem) if "extends" in own else {}) | own


def cross_validation():
    """The configuration of docs/cluster.md."""
    text = (ROOT / "docs" / "cluster.md").read_text().split("```yaml\n")[1].split("```")[0]
    return yaml.safe_load(text)


def snakemake(folder, config, *options):
    """Runs the workflow with a configuration, in a folder."""
    pytest.importorskip("snakemake")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "-s", EXPERIMENTS / "Snakefile", "--configfile", path]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.run(
        [*command, "--cores", "2", *options], cwd=folder, env=environment, capture_output=True, text=True
    )


def rules(text):
    """How often each rule is run, of a dry run."""
    return Counter(re.findall(r"^(?:local)?rule (\w+):", text, re.MULTILINE))


def finish(folder, config):
    """Everything of a configuration is done, as far as Snakemake can tell."""
    planned = snakemake(folder, config, "-n")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    for line in re.findall(r"^    output: (.*)", planned.stdout + planned.stderr, re.MULTILINE):
        for name in line.split(", "):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    done = snakemake(folder, config, "--touch", "--forceall")
    assert done.returncode == 0, done.stdout + done.stderr
    left = snakemake(folder, config, "-n")
    assert "Nothing to be done" in left.stdout + left.stderr
