"""The doctor on a running service: well, and with each fault that lasts."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testing import EXPIRE, Browserless, Service, taken_away, wait_for

PLAYBOOK = "playbooks/doctor.yml"
PROGRAM = "/opt/cygnet/jupyterhub/bin/python -m jupyterhub_sessions.doctor"
SECONDS = 150.0
TLS = "/etc/nginx/tls"


def examine(hub: Any) -> tuple[int, str]:
    """Run the doctor as the playbook does, without the playbook; return its status and what it says."""
    site = {
        "now": time.time(),
        "names": ["hub.example.org", "localhost"],
        "user": "alice",
        "repositories": ["sft.example.org"],
        "eos": ["user"],
    }
    begin = time.monotonic()
    done = hub.run(f"{PROGRAM} <<'END'\n{json.dumps(site)}\nEND")
    assert time.monotonic() - begin < SECONDS, done.stdout
    return done.rc, done.stdout + done.stderr


@contextmanager
def changed(hub: Any, change: str, back: str) -> Iterator[None]:
    """Change the machine for a while."""
    hub.check_output(change)
    try:
        yield
    finally:
        hub.check_output(back)


@pytest.fixture(autouse=True)
def _well(service: Service, hub: Any) -> Iterator[None]:
    """Leave a service that is well."""
    yield
    wait_for("the hub", service.healthy, 180)


def test_nothing_is_broken(hub: Any, users: dict[str, Browserless], play: Callable[..., str]) -> None:
    out = play(PLAYBOOK, {"doctor_spawn": True}, "--limit", "localhost,hub")
    assert "Nothing is broken." in out and "BROKEN" not in out, out
    for found in ("nginx answers", "more days", "alice may log in", "alice has one after", "a cell runs"):
        assert found in out, out
    assert ("Xpra " in out) == (os.environ.get("DISPLAYS", "xpra") == "xpra"), out
    # Nothing is left.
    alice = users["alice"]
    assert "doctor" not in alice.request("GET", "/hub/api/users/alice?include_stopped_servers=1").json()["servers"]
    notes = [token["note"] for token in alice.request("GET", "/hub/api/users/alice/tokens").json()["api_tokens"]]
    assert "doctor" not in notes
    assert not hub.run("systemctl list-units --all --plain --no-legend 'jupyter-alice:doctor*'").stdout


@pytest.mark.destructive
def test_playbook_says_it_on_one_screen(hub: Any, refused: Callable[..., str]) -> None:
    with changed(hub, "systemctl stop jupyterhub", "systemctl start jupyterhub"):
        out = refused(PLAYBOOK)
    assert "Broken: hub. `systemctl restart jupyterhub.service`" in out
    assert "way in (needs hub), session (needs way in)" in out


def pid_of(unit: str) -> str:
    """Return a command's word for the main process of a unit."""
    return f"$(systemctl show -P MainPID {unit})"


@pytest.mark.destructive
@pytest.mark.parametrize(
    ("change", "back", "layer", "found"),
    [
        ("systemctl stop jupyterhub", "systemctl start jupyterhub", "hub", "jupyterhub.service is inactive"),
        (f"kill -STOP {pid_of('jupyterhub')}", f"kill -CONT {pid_of('jupyterhub')}", "hub", "timed out"),
        ("systemctl stop chp", "systemctl start chp", "proxy", "chp.service is inactive"),
        (f"kill -STOP {pid_of('chp')}", f"kill -CONT {pid_of('chp')}", "proxy", "timed out"),
        ("systemctl stop nginx", "systemctl start nginx", "web server", "nginx.service is inactive"),
        (
            "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 50000000)) /var/tmp/fill",
            "rm /var/tmp/fill",
            "disk",
            "The file system of / is full",
        ),
        ("date --set='20 minutes'", "date --set='-20 minutes'", "clock", "s ahead of the control node's"),
        (
            f"cp -a {TLS} /run/tls && /opt/cygnet/jupyterhub/bin/python -c '{EXPIRE}' && systemctl reload nginx",
            f"rm -r {TLS} && cp -a /run/tls {TLS} && rm -r /run/tls && systemctl reload nginx",
            "TLS",
            "The certificate expired on",
        ),
    ],
    ids=["hub", "silent hub", "proxy", "silent proxy", "nginx", "disk", "clock", "certificate"],
)
def test_fault_that_lasts_is_named(hub: Any, change: str, back: str, layer: str, found: str) -> None:
    with changed(hub, change, back):
        status, said = examine(hub)
    assert status == 1, said
    assert re.search(rf"^BROKEN +{layer} +.*{re.escape(found)}", said, re.MULTILINE), said
    assert f"\nBroken: {layer}. " in said, said


@pytest.mark.destructive
@pytest.mark.parametrize(
    ("how", "which", "layer"),
    [
        ("stop", "ldap", "directory"),
        ("freeze", "ldap", "directory"),
        ("stop", "cvmfs", "CVMFS"),
        ("cut", "cvmfs", "CVMFS"),
        ("stop", "eos", "EOS"),
        ("freeze", "eos", "EOS"),
    ],
)
def test_server_that_is_away_is_named(hub: Any, campus: Any, how: str, which: str, layer: str) -> None:
    with taken_away(campus, how, which):
        status, said = examine(hub)
    assert status == 1, said
    assert f"\nBroken: {layer}. " in said, said


@pytest.mark.destructive
def test_well_again(hub: Any) -> None:
    """After all of that, and without a session."""

    def well() -> bool:
        status, said = examine(hub)
        if status:
            raise RuntimeError(said)
        return True

    wait_for("a service in which nothing is broken", well, 120, 5)
