"""The inputs of the role backup: what is refused before any machine is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_validate import run

from backup import backup_problems

# Of nobody: the identity was thrown away.
AGE = "age1q3z97xpq38t5v2dkr8c960ap8n7lmsctj4d54n8ee56vvhl8pgaqy8lpsd"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q admin@example.org"
GOOD: dict[str, Any] = {"hub": True, "recipients": [AGE, SSH], "keep": 14, "directory": "/var/backups/cygnet"}


def test_right_ones_have_no_problems() -> None:
    assert backup_problems(GOOD) == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"hub": False}, "that is not the hub's"),
        ({"recipients": []}, "backup_recipients is empty"),
        ({"recipients": [AGE[:20] + AGE[21] + AGE[20] + AGE[22:]]}, "is misspelled"),
        ({"recipients": [AGE[:-1]]}, "is misspelled"),
        ({"recipients": ["ssh-ed25519 admin@example.org"]}, "no public key of age (age1…) or SSH"),
        ({"recipients": ["ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY="]}, "no public key of age"),
        ({"recipients": [f"{AGE}\n{SSH}"]}, "no public key of age"),
        ({"keep": 0}, "backup_keep is 0"),
        ({"directory": "backups"}, "backup_directory is 'backups'"),
        ({"directory": "/var/"}, "a directory of its own"),
    ],
)
def test_wrong_ones_are_named(inputs: dict[str, Any], said: str) -> None:
    (problem,) = backup_problems(GOOD | inputs)
    assert said in problem


def test_secret_key_is_refused_and_not_shown() -> None:
    secret = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
    (problem,) = backup_problems(GOOD | {"recipients": [secret]})
    assert "give the public one" in problem and secret not in problem


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "missing required arguments: backup_recipients"),
        ({"backup_recipients": ["age1swan"]}, "backup_recipients has 'age1swan'"),
        ({"backup_recipients": [AGE], "backup_dir": "/srv"}, "backup_dir is not an input of the role backup"),
        ({"backup_recipients": [AGE], "backup_keep": "all"}, "backup_keep"),
    ],
)
def test_wrong_ones_stop_the_run(tmp_path: Path, variables: dict[str, Any], said: str) -> None:
    out = run(tmp_path, variables, groups=["backup"])
    assert said in out
    assert "UNREACHABLE" not in out


def test_right_ones_get_as_far_as_the_machines(tmp_path: Path) -> None:
    assert "UNREACHABLE" in run(tmp_path, {"backup_recipients": [AGE]}, groups=["backup"])
