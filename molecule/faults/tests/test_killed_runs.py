"""Whoever stops a run of site.yml in the middle, or loses the connection, runs it again, and all is well."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import Record, write_table
from testing import PROJECT, Browserless, Service, Vms, new_kernel, person, still_holds, wait_for

pytestmark = pytest.mark.destructive

KILLS = int(os.environ.get("KILLS") or 20)
#: A run is ended at a random moment before this; a first one takes about four minutes on the slowest machines.
LATEST_S = 150.0
SYSTEM = PROJECT / "molecule/shared/systems" / f"{os.environ.get('OS') or 'bookworm'}.yml"


@pytest.fixture(scope="module")
def moments() -> random.Random:
    """Give the moments at which runs are ended, which SEED repeats."""
    seed = os.environ.get("SEED") or str(time.time_ns())
    print(f"SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    """Collect what the kills gave, and write it into the table."""
    found = Record()
    yield found
    print(f"\n{write_table({request.node.get_closest_marker('row').args[0]: found})}")


@pytest.fixture(scope="module")
def spare_inventory(vms: Vms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have an inventory in which the spare machine is the hub."""
    directory = tmp_path_factory.mktemp("spare")
    hosts = {"hosts": {"spare.example.org": {"ansible_host": "spare"}}}
    inventory = {
        "all": {
            "vars": {"ansible_ssh_common_args": f"-F {vms.ssh_config}"},
            "children": dict.fromkeys(("hub", "sessions", "jupyterlab", "sssd"), hosts),
        }
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (directory / "group_vars").symlink_to(PROJECT / "inventories/demo/group_vars")
    return directory / "hosts.yml"


def run(inventory: Path, variables: dict[str, Any], seconds: float | None = None) -> tuple[int | None, str]:
    """Run site.yml, for so many seconds at the most; return its exit status, None if it was ended, and its output."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "site.yml",
        "-e", f"@{SYSTEM}", "-e", json.dumps(variables),
    ]  # fmt: skip
    environment = os.environ | {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    # No pipe: what outlives the run, such as ssh's shared connection, would keep it open.
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        status: int | None = None
        try:
            status = process.wait(seconds or 1800)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return status, output.read()


def check_what_is_there_is_whole(host: Any) -> None:
    """Restart what runs from what is on the disk: a half-written configuration would not let it."""
    active = host.run("systemctl is-active nginx chp jupyterhub").stdout.split()
    for unit, state in zip(("nginx", "chp", "jupyterhub"), active, strict=True):
        if state == "active":
            done = host.run(f"systemctl restart {unit}")
            assert done.rc == 0, f"{unit}: {done.stderr} {host.run(f'journalctl --no-pager -n 30 -u {unit}').stdout}"
    assert host.run("test ! -x /usr/sbin/nginx || nginx -t -q").rc == 0


def kill_runs(inventory: Path, host: Any, record: Record, moments: random.Random, first: bool) -> None:
    """End runs at random moments, let one converge, and see that it does."""
    survived = 0
    for number in range(KILLS):
        variables = {} if first else {"jupyterhub_site_name": f"Campus {number}"}
        status, out = run(inventory, variables, moments.uniform(5, LATEST_S))
        assert status in {None, 0}, out
        if status is None:
            record.tries += 1
            check_what_is_there_is_whole(host)
            survived += 1
        elif first:
            # It has converged in spite of all the others.
            break
    began = time.monotonic()
    status, out = run(inventory, {})
    seconds = time.monotonic() - began
    assert status == 0, out
    status, out = run(inventory, {})
    assert status == 0 and "changed=0 " in out.partition("PLAY RECAP")[2], out
    record.recovery_s += [seconds] * survived


@pytest.mark.row("site.yml killed in its first run")
def test_first_run(spare_inventory: Path, vms: Vms, record: Record, moments: random.Random) -> None:
    spare = vms.host("spare")
    kill_runs(spare_inventory, spare, record, moments, first=True)
    ca_file = vms.scratch / "spare.pem"
    ca_file.write_text(spare.check_output("cat /etc/nginx/tls/certificate.pem"))
    person(Service(vms.url("spare"), ca_file), "tanya").login()


@pytest.mark.row("site.yml killed while it changes what runs")
def test_later_run(inventory: Path, hub: Any, alice: Browserless, record: Record, moments: random.Random) -> None:
    with new_kernel(alice) as kernel:
        kernel.output("x = 42")
        kill_runs(inventory, hub, record, moments, first=False)
        wait_for("the kernel and its variable", lambda: still_holds(kernel))
    person(alice.service, "tanya").login()
