import os
import shlex

import pytest

from nnunet_igtv import environment
from nnunet_igtv.commands import doctor, main


def exported(text):
    name, _, value = text.strip().removeprefix("export ").partition("=")
    return name, shlex.split(value)[0]


def test_env_prints_a_line_that_a_shell_can_eval(monkeypatch, capsys):
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    assert main.main(["env"]) == 0
    assert exported(capsys.readouterr().out) == ("nnUNet_extTrainer", str(environment.FOLDER))
    assert [path.name for path in environment.FOLDER.glob("*.py")] == ["trainer_classes.py"]


def test_env_keeps_other_peoples_folders_and_is_idempotent(monkeypatch, capsys):
    monkeypatch.setenv(environment.VARIABLE, "/their trainers")
    for _ in range(2):
        main.main(["env"])
        monkeypatch.setenv(*exported(capsys.readouterr().out))
    assert os.environ[environment.VARIABLE].split(os.pathsep) == [str(environment.FOLDER), "/their trainers"]


@pytest.fixture
def healthy(monkeypatch, tmp_path):
    for variable in environment.FOLDERS:
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv(environment.VARIABLE, environment.extended_trainer_path())
    monkeypatch.delenv("nnUNet_igtv_scan", raising=False)
    return monkeypatch


def test_a_healthy_installation_is_ready(healthy, capsys):
    assert main.main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "found by nnU-Net" in report
    assert "scan on CPU" in report
    assert report.rstrip().endswith("Ready.")


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("nnUNet_results", None, "export nnUNet_results="),
        ("nnUNet_raw", "/proc/nowhere", "write to"),
        ("nnUNet_extTrainer", None, "nnunet-igtv env"),
        ("nnUNet_extTrainer", "/elsewhere", "nnunet-igtv env"),
        ("nnUNet_igtv_scan", "no-such-backend", "unset nnUNet_igtv_scan"),
    ],
)
def test_what_would_stop_a_user_fails_with_a_remedy(healthy, capsys, variable, value, remedy):
    if value is None:
        healthy.delenv(variable)
    else:
        healthy.setenv(variable, value)
    assert main.main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert remedy in report
    assert "Not ready" in report.splitlines()[-1]


def test_an_nnunet_that_cannot_find_outside_trainers_is_too_old(healthy, capsys):
    real = doctor.version
    healthy.setattr(doctor, "version", lambda package: "2.6.2" if package == "nnunetv2" else real(package))
    assert main.main(["doctor"]) == 1
    assert "nnunetv2>=2.8.1" in capsys.readouterr().out
