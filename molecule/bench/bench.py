"""Measure the installation: `make bench`. Writes build/bench.json, and build/bench.md for the README."""

import argparse
import asyncio
import fcntl
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import aiohttp
import yaml

import homes
import logins
import screens
import stacks
from browser import Browser, BrowserError
from rows import Row, to_json, to_markdown, to_text
from vm import CAMPUS, HOST, LOGS, REPOSITORY, Vm, VmError, changed_tasks, vm

BUILD = REPOSITORY / "build"
USER = "alice"
HTTPS_PORT = 443
PLAIN_PORT = 8000
IDLE_S = 10
BURST = 30
# Adds people to the directory, and prints their users and passwords.
_CROWD = """import subprocess, sys; subprocess.run(["campus-ctl", "crowd", sys.argv[1]], check=True)"""

_began = time.monotonic()


def say(text: str) -> None:
    """Tell how far the measuring is, with the time since it began."""
    minutes, seconds = divmod(int(time.monotonic() - _began), 60)
    print(f"[{minutes:2}:{seconds:02}] {text}", flush=True)


@dataclass
class Side:
    """One of the sessions that are compared, and what its runs gave; `options` are those of its start."""

    name: str
    browser: Browser
    unit: str
    options: dict[str, str] = field(default_factory=dict)
    spawn_s: list[float] = field(default_factory=list)
    idle_mib: list[float] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Measure and report; return the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    LOGS.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    with (LOGS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with vm(keep=bool(os.environ.get("KEEP"))) as machine:
                rows = measure(machine, options)
                description = describe(machine, load)
        except BlockingIOError:
            print("bench: another bench of this checkout is running.", file=sys.stderr)
            return 1
        except VmError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("bench: interrupted", file=sys.stderr)
            return 130
    (BUILD / "bench.json").write_text(to_json(rows))
    (BUILD / "bench.md").write_text(f"{to_markdown(rows)}\n\n{description}\n")
    print(f"\n{to_text(rows)}\n\n{description}")
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the installation in a VM.")
    for name, runs, text in (
        ("first", 1, "deployments on a fresh VM; 0 measures the rest in the VM that KEEP=1 left"),
        ("again", 2, "deployments of what is deployed"),
        ("spawn", 5, "starts of a session, ours and the baseline's in turn"),
        ("memory", 3, "starts after which the idle session's memory is measured"),
        ("login", 5, "logins, each warm and cold, and bursts of them"),
        ("kernel", 5, "starts of a kernel from CVMFS, each warm and cold"),
        ("home", 3, "copies into a home on EOS and back, of a large file and of many small ones"),
        ("display", 3, "displays that are opened, typed into, watched and weighed, each over a narrow line as well"),
        ("desktop", 3, "starts of a desktop"),
    ):
        parser.add_argument(f"--{name}-runs", type=int, default=runs, help=f"{text} (default: {runs})")
    return parser


def measure(machine: Vm, options: argparse.Namespace) -> list[Row]:
    """Run all measurements; return a row for each that was to run.

    Raises
    ------
    VmError
        Something failed: a number of it would mean nothing.
    """
    if options.first_runs == 0:
        machine.require()
    rows = [
        Row("deploy_first", "s", _repeat(options.first_runs, lambda: deploy_first(machine))),
        Row("deploy_again", "s", _repeat(options.again_runs, lambda: deploy_again(machine))),
    ]
    say("Installing the baselines: JupyterHub and JupyterLab with pip, plain SystemdSpawner, and pamtester …")
    machine.play("molecule/bench/plain.yml", "plain")
    try:
        ours, local, plain = asyncio.run(sessions(machine, options.spawn_runs, options.memory_runs))
        rows += asyncio.run(log_in(machine, options.login_runs))
    except (BrowserError, aiohttp.ClientError, TimeoutError) as error:
        journal = machine.save_journal()
        raise VmError(f"{str(error) or repr(error)} The VM's journal is in {journal}.") from error
    rows += start_kernels(machine, options.kernel_runs)
    rows += copy(machine, options.home_runs)
    rows += show(machine, options.display_runs, options.desktop_runs)
    rows[2:2] = [
        Row("spawn_ready", "s", tuple(local.spawn_s), tuple(plain.spawn_s)),
        Row("spawn_ready_eos", "s", tuple(ours.spawn_s), tuple(local.spawn_s)),
        Row("idle_memory", "MiB", tuple(ours.idle_mib), tuple(plain.idle_mib)),
    ]
    return [row for row in rows if row.values]


def _repeat(runs: int, run: Callable[[], float]) -> tuple[float, ...]:
    return tuple(run() for _ in range(runs))


def deploy_first(machine: Vm) -> float:
    """Return the seconds of site.yml on a fresh VM that has its accounts."""
    say("Booting a fresh VM …")
    machine.boot()
    machine.play("molecule/shared/prepare.yml", "prepare")
    say("Deploying for the first time …")
    seconds, _ = machine.play("site.yml", "deploy_first")
    say(f"deploy_first: {seconds:.1f} s")
    return seconds


def deploy_again(machine: Vm) -> float:
    """Return the seconds of site.yml where it has run.

    Raises
    ------
    VmError
        It changed something.
    """
    say("Deploying again …")
    seconds, output = machine.play("site.yml", "deploy_again")
    if changed := changed_tasks(output):
        raise VmError(
            f"The same deployment again changed something, in the tasks: {'; '.join(changed)}."
            f" All of its output is in {LOGS / 'deploy_again.log'}."
        )
    say(f"deploy_again: {seconds:.1f} s, changed=0")
    return seconds


async def sessions(machine: Vm, spawn_runs: int, memory_runs: int) -> tuple[Side, Side, Side]:
    """Start, weigh and stop sessions in turn, so that noise hits all alike: ours on EOS and at home, the baseline's."""
    url, certificate = _ours(machine)
    ours = Browser(url, USER, certificate)
    plain = Browser(f"http://127.0.0.1:{machine.port(PLAIN_PORT)}", USER)
    sides = (
        Side("ours", ours, f"jupyter-{USER}.service"),
        # A home on the local disk, for those whose EOS is away.
        Side("ours with a local home", ours, f"jupyter-{USER}.service", {"opt-home": "temporary"}),
        Side("baseline", plain, f"jupyter-{USER}-singleuser.service"),
    )
    async with AsyncExitStack() as stack:
        for browser in (ours, plain):
            await stack.enter_async_context(browser)
            await browser.log_in(_password())
            await browser.stop()
        for run in range(max(spawn_runs, memory_runs)):
            for side in sides:
                await _session(machine, side, with_start=run < spawn_runs, with_memory=run < memory_runs)
    return sides


async def _session(machine: Vm, side: Side, with_start: bool, with_memory: bool) -> None:
    seconds = await side.browser.start(side.options)
    if with_start:
        side.spawn_s.append(seconds)
        say(f"spawn_ready, {side.name}: {seconds:.2f} s")
    if with_memory:
        await asyncio.sleep(IDLE_S)
        side.idle_mib.append(machine.memory_mib(side.unit))
        say(f"idle_memory, {side.name}: {side.idle_mib[-1]:.1f} MiB")
    await side.browser.stop()


async def log_in(machine: Vm, runs: int) -> list[Row]:
    """Log in with accounts of the directory: one alone, with all known to SSSD and with nothing, and many at once."""
    crowd = json.loads(machine.python(_CROWD, str(BURST), host=CAMPUS))
    rows = []
    for name, accounts, cold in (
        ("login_warm", [(USER, _password())], False),
        ("login_cold", [(USER, _password())], True),
        ("login_burst", crowd, False),
    ):
        found = await logins.measure(machine, *_ours(machine), accounts, runs, cold=cold)
        rows.append(Row(name, "s", tuple(found.hub_s), tuple(found.pam_s)))
        say(f"{name}: {', '.join(f'{seconds:.2f}' for seconds in found.hub_s)} s")
    return rows


def start_kernels(machine: Vm, runs: int) -> list[Row]:
    """Start the kernel of a view from CVMFS and from the local disk."""
    rows = []
    for name, cold in (("kernel_start_cvmfs", False), ("kernel_start_cvmfs_cold", True)):
        found = stacks.measure(machine, runs, cold=cold)
        rows.append(Row(name, "s", tuple(found.cvmfs_s), tuple(found.local_s)))
        say(f"{name}: {', '.join(f'{seconds:.2f}' for seconds in found.cvmfs_s)} s")
    return rows


def copy(machine: Vm, runs: int) -> list[Row]:
    """Copy a large file and many small ones into a home on EOS and back."""
    rows = []
    for name, files, size in (
        ("home", 1, homes.LARGE_MB * 2**20),
        ("home_small", homes.SMALL_FILES, homes.SMALL_BYTES),
    ):
        found = homes.measure(machine, runs, files=files, size=size)
        rows += [
            Row(f"{name}_write", "s", tuple(found.write_s), tuple(found.write_xrdcp_s)),
            Row(f"{name}_read", "s", tuple(found.read_s), tuple(found.read_xrdcp_s)),
        ]
        say(f"{name}: {', '.join(f'{a:.1f} and {b:.1f}' for a, b in zip(found.write_s, found.read_s, strict=True))} s")
    return rows


def show(machine: Vm, display_runs: int, desktop_runs: int) -> list[Row]:
    """Show programs and desktops in Chromium, ours and those of jupyter-remote-desktop-proxy."""
    if not display_runs and not desktop_runs:
        return []
    say("Installing the peer of displays and desktops: jupyter-remote-desktop-proxy with TigerVNC …")
    machine.play("molecule/bench/peer.yml", "peer")
    url, _certificate = _ours(machine)
    try:
        rows = screens.measure_displays(machine, url, _password(), display_runs, say) if display_runs else []
        rows += screens.measure_desktops(machine, url, _password(), desktop_runs, say) if desktop_runs else []
    except VmError as error:
        raise VmError(f"{error} The VM's journal is in {machine.save_journal()}.") from error
    return rows


def _ours(machine: Vm) -> tuple[str, str]:
    """Return the address of our hub and the file of its certificate."""
    certificate = LOGS / "certificate.pem"
    certificate.write_text(machine.read("/etc/nginx/tls/certificate.pem"))
    return f"https://127.0.0.1:{machine.port(HTTPS_PORT)}", str(certificate)


def _password() -> str:
    people = yaml.safe_load((REPOSITORY / "molecule/shared/campus/people.yml").read_text())["people"]
    return str(next(person["password"] for person in people if person["user"] == USER))


def describe(machine: Vm, load: float) -> str:
    """Return a sentence on the machine that was measured, in Markdown."""
    summary = machine.summary
    guest = summary["hosts"][HOST]
    hypervisor = {"kvm": "KVM", "uml": "User-Mode Linux (one core)", "qemu": "QEMU emulation"}[summary["hypervisor"]]
    system = machine.read("/etc/os-release").partition('PRETTY_NAME="')[2].partition('"')[0]
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} in a VM ({system}, {guest['memory_mb']} MiB) under {hypervisor},"
        f" on a machine with {os.cpu_count()} cores ({_processor()}) and {_memory_gib():.0f} GiB,"
        f" whose load was {load:.1f} when the measuring began."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
