"""The playbooks restore.yml and doctor.yml where there is no hub: they say what is missing, and change nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from playing import play


def run(directory: Path, playbook: str, **variables: str) -> str:
    """Run a playbook on this machine, expect it to fail, and return its output in one line."""
    local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    inventory = {"hub": {"hosts": {"localhost": local}}}
    status, out = play(directory, inventory, f"playbooks/{playbook}", "-e", json.dumps(variables))
    assert status != 0
    return " ".join(out.split())


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "restore_from is not set: give the path of a backup, on this machine or on the hub's."),
        ({"restore_from": __file__}, "restore_identity is not set"),
        (
            {"restore_from": __file__, "restore_identity": "/no/such.txt"},
            "restore_identity is '/no/such.txt', which is not a file on this machine: give the path",
        ),
        (
            {"restore_from": __file__, "restore_identity": __file__},
            "localhost has no hub-backup. Put it into",
        ),
    ],
)
def test_restore(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    assert said in run(tmp_path, "restore.yml", **variables)


def test_doctor(tmp_path: Path) -> None:
    out = run(tmp_path, "doctor.yml")
    assert "localhost has no hub that could be examined. Run site.yml." in out
