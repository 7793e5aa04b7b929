"""VMs boot, see each other, answer, and leave nothing behind however they end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

PROGRAM = [sys.executable, str(Path(__file__).parents[1])]


def vms(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def write_spec(path: Path, *hosts: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"name": path.stem, "hosts": list(hosts)}))
    return path


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def of_state(state: Path) -> list[str]:
    """Find processes, of any namespace, whose command line or log names a state directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            output = os.readlink(entry / "fd/2")
        except OSError:
            continue
        if (str(state) in command and int(entry.name) != os.getpid()) or output.startswith(str(state)):
            found.append(f"{entry.name}: {command}")
    return found


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two VMs of two releases."""
    directory = tmp_path_factory.mktemp("two")
    spec = write_spec(
        directory / "two.json",
        {"name": "hub", "os": "bookworm", "memory_mb": 512, "publish": [80], "aliases": ["hub.example.org"]},
        {"name": "campus", "os": "trixie", "memory_mb": 512},
    )
    state = directory / "state"
    up = vms("up", f"--spec={spec}", f"--state={state}")
    assert up.returncode == 0, up.stderr
    yield state
    vms("down", f"--state={state}")


def ssh(state: Path, host: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(state / "ssh_config"), host, command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("host", ["hub", "campus"])
def test_a_guest_is_a_healthy_server(two: Path, host: str) -> None:
    health = ssh(two, host, "systemctl is-system-running --wait; systemctl --failed --no-legend")
    assert health.stdout == "running\n"
    assert "memory" in ssh(two, host, "cat /sys/fs/cgroup/cgroup.controllers").stdout
    assert ssh(two, host, "echo $LANG").stdout == "C.UTF-8\n"
    too_much = "sudo systemd-run -q --wait -p MemoryMax=50M python3 -c 'bytes(range(256)) * 1000000'"
    assert ssh(two, host, too_much).returncode != 0


@pytest.mark.parametrize(("host", "other"), [("hub", "campus"), ("campus", "hub.example.org")])
def test_guests_see_each_other_by_name(two: Path, host: str, other: str) -> None:
    ping = ssh(two, host, f"ping -c 1 -W 5 {other}")
    assert ping.returncode == 0, ping.stdout + ping.stderr


def test_a_full_name_comes_first(two: Path) -> None:
    assert ssh(two, "hub", "hostname --fqdn").stdout == "hub.example.org\n"


def test_machine_ids_differ(two: Path) -> None:
    assert len({ssh(two, host, "cat /etc/machine-id").stdout for host in ("hub", "campus")}) == 2


def test_a_published_port_answers_also_after_a_reboot(two: Path) -> None:
    port = json.loads((two / "vms.json").read_text())["hosts"]["hub"]["ports"]["80"]
    serve = "sudo systemd-run -q --unit=web-{} python3 -m http.server 80"

    def answers() -> bool:
        get = ["curl", "-sf", "-m", "5", "-o", "/dev/null", f"http://127.0.0.1:{port}/"]
        return subprocess.run(get, check=False).returncode == 0

    assert not answers()
    assert ssh(two, "hub", serve.format(1)).returncode == 0
    assert eventually(answers)
    boot = ssh(two, "hub", "cat /proc/sys/kernel/random/boot_id").stdout
    ssh(two, "hub", "sudo reboot")
    assert eventually(
        lambda: ssh(two, "hub", "cat /proc/sys/kernel/random/boot_id").stdout not in ("", boot), seconds=120
    )
    assert ssh(two, "hub", serve.format(2)).returncode == 0
    assert eventually(answers)


def test_a_power_cut_keeps_the_disk(two: Path) -> None:
    ssh(two, "campus", "echo kept > kept; sync")
    assert vms("power-cut", f"--state={two}", "campus").returncode == 0
    # Nobody else answers for it, least of all a machine of the same address in the host's network.
    start = time.monotonic()
    assert ssh(two, "campus", "true").returncode != 0
    assert time.monotonic() - start < 20
    assert vms("start", f"--state={two}", "campus").returncode == 0
    assert ssh(two, "campus", "cat kept").stdout == "kept\n"


def test_run_is_inside(two: Path) -> None:
    inside = vms("run", f"--state={two}", "--", "getent", "hosts", "hub.example.org")
    assert inside.stdout.split()[0] == "10.0.2.11"


def test_up_twice_is_once(two: Path) -> None:
    again = vms("up", f"--spec={two.parent / 'two.json'}", f"--state={two}")
    assert again.returncode == 0
    assert "up already" in again.stderr


def test_a_second_set_runs_beside_and_a_killed_supervisor_leaves_nothing(two: Path, tmp_path: Path) -> None:
    before = interfaces()
    state = tmp_path / "state"
    spec = write_spec(tmp_path / "one.json", {"name": "hub", "os": "trixie", "memory_mb": 512})
    up = vms("up", f"--spec={spec}", f"--state={state}")
    assert up.returncode == 0, up.stderr
    assert interfaces() == before
    assert of_state(state)
    assert ssh(two, "hub", "cat /etc/os-release").stdout != ssh(state, "hub", "cat /etc/os-release").stdout
    os.kill(json.loads((state / "vms.json").read_text())["supervisor_pid"], signal.SIGKILL)
    assert eventually(lambda: not of_state(state)), of_state(state)
    assert interfaces() == before
    assert ssh(two, "hub", "true").returncode == 0
    # What is left is files; `up` starts anew over them.
    assert vms("up", f"--spec={spec}", f"--state={state}").returncode == 0
    assert vms("down", f"--state={state}").returncode == 0
    assert not state.exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing(tmp_path: Path, end: signal.Signals) -> None:
    state = tmp_path / "state"
    spec = write_spec(tmp_path / "one.json", {"name": "hub", "os": "bookworm", "memory_mb": 512})
    up = subprocess.Popen([*PROGRAM, "up", f"--spec={spec}", f"--state={state}"], stderr=subprocess.DEVNULL)
    assert eventually((state / "hub/console.log").exists, seconds=300)
    time.sleep(1)
    up.send_signal(end)
    up.wait(timeout=60)
    assert eventually(lambda: not of_state(state)), of_state(state)
    if end == signal.SIGKILL:
        assert vms("down", f"--state={state}").returncode == 0
    assert not state.exists()
