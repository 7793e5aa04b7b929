"""The inputs jupyterhub_kinds and jupyterhub_profiles: what is refused, and what becomes of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playing import play

from sessions import session_problems, session_profiles

SMALL: dict[str, Any] = {"name": "small", "memory_mb": 1024, "cpus": 1}
TEACHING: dict[str, Any] = {**SMALL, "name": "teaching", "groups": ["teachers"]}
GOOD: dict[str, Any] = {"kinds": ["lab", "desktop"], "profiles": [SMALL, TEACHING], "xpra": True}


def test_right_ones_have_no_problems() -> None:
    assert session_problems(GOOD) == session_problems(GOOD | {"profiles": [], "kinds": ["notebook"]}) == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"kinds": []}, "jupyterhub_kinds is empty"),
        ({"kinds": ["lab", "lab"]}, "has lab 2 times"),
        ({"xpra": False}, "not in the group xpra"),
        ({"profiles": [SMALL, SMALL]}, "has small 2 times"),
        ({"profiles": [SMALL | {"name": "Small one"}]}, "the name 'Small one'"),
        ({"profiles": [SMALL | {"memory_mb": 2}]}, "small of jupyterhub_profiles has memory_mb 2"),
        ({"profiles": [SMALL | {"cpus": 0}]}, "has cpus 0"),
        ({"profiles": [SMALL | {"hours": -1}]}, "has hours -1"),
        ({"profiles": [SMALL | {"max_hours": 2}]}, "has max_hours 2 and hours 0"),
        ({"profiles": [SMALL | {"hours": 3, "max_hours": 2}]}, "has max_hours 2 and hours 3"),
        ({"profiles": [TEACHING]}, "so that everybody can have a session"),
    ],
)
def test_wrong_ones_are_named(inputs: dict[str, Any], said: str) -> None:
    (problem,) = session_problems(GOOD | inputs)
    assert said in problem


def test_profiles_of_an_inventory_that_wrote_texts() -> None:
    (profile,) = session_profiles([{"name": "a", "memory_mb": "512", "cpus": "0.5", "hours": "2", "title": None}])
    numbers = {"memory_mb": 512, "cpus": 0.5, "hours": 2.0, "max_hours": 0.0}
    assert profile == {"name": "a", "title": "", "groups": [], **numbers}


def announce(directory: Path, variables: dict[str, Any]) -> tuple[int, str]:
    """Run playbooks/announce.yml on this machine, as a check."""
    inventory = {"hub": {"hosts": {"localhost": {"ansible_connection": "local", "ansible_become": False}}}}
    return play(directory, inventory, "playbooks/announce.yml", "--check", "--diff", "-e", json.dumps(variables))


def test_announcement(tmp_path: Path) -> None:
    status, out = announce(tmp_path, {"announcement": "Maintenance on Friday\nat 18:00"})
    assert status == 0 and "+Maintenance on Friday\n+at 18:00\n" in out


@pytest.mark.parametrize(
    ("variables", "said"), [({}, "There is no announcement"), ({"announcement": "x" * 2001}, "2001 characters")]
)
def test_wrong_announcement(tmp_path: Path, variables: dict[str, Any], said: str) -> None:
    status, out = announce(tmp_path, variables)
    assert status != 0 and said in " ".join(out.split())
