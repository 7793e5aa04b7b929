"""Start, watch and stop transient systemd units.

The layer below the spawner: it knows systemd's commands and nothing of JupyterHub.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Where Linux has them (cgroups(7), version 2).
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class UnitError(Exception):
    """A systemd command refused what it was asked; the message is its own."""


@dataclass(frozen=True)
class UnitState:
    """What systemd knows of a unit.

    Parameters
    ----------
    load, active, result
        `LoadState`, `ActiveState` and `Result` of systemd.unit(5) and systemd.service(5).
    exit_code
        Exit status of the main process; 128 + the signal's number when a signal ended it.
    invocation
        Identifier of this run of the unit, by which the journal keeps its lines.
    """

    load: str
    active: str
    result: str
    exit_code: int
    invocation: str

    @property
    def running(self) -> bool:
        """Tell whether any process of the unit may still be there."""
        return self.active in {"active", "activating", "deactivating", "reloading"}


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise UnitError(err.decode(errors="replace").strip() or f"{command[0]}: exit status {process.returncode}")
    return out.decode(errors="replace")


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Parameters
    ----------
    status
        Its exit status.
    out, err
        What it wrote.
    """

    status: int
    out: str
    err: str


async def run(command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> Finished:
    """Run a command for a limited time.

    Raises
    ------
    OSError
        It could not be started.
    TimeoutError
        It did not end in time. It is killed, but one that waits for storage that is silent stays until that is back.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1.0)
        raise
    return Finished(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def run_as(
    command: Sequence[str], seconds: float, environment: Mapping[str, str], *, uid: int, gid: int
) -> Finished:
    """Run a command under another user's id for a limited time, in a unit of its own.

    The hub could not change its own id: pam_sss of SSSD 2.10 takes that right (CAP_SETUID) from the process that called
    it. Raises what `run` raises.
    """
    prefix = [
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={uid}", f"--gid={gid}"),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        # Ends the command where this process does not wait for it any more.
        *(f"--property=RuntimeMaxSec={seconds}", "--"),
    ]
    return await run([*prefix, *command], seconds, environment)


async def show(unit: str) -> UnitState:
    """Read the state of a unit; one that does not exist has the load state `not-found`."""
    names = ("LoadState", "ActiveState", "Result", "ExecMainCode", "ExecMainStatus", "InvocationID")
    out = await _run("systemctl", "show", f"--property={','.join(names)}", "--", unit)
    values = dict(line.partition("=")[::2] for line in out.splitlines())
    status = int(values.get("ExecMainStatus") or 0)
    # ExecMainCode is the si_code of waitid(2): 1 is CLD_EXITED; 2 and 3 are ends by a signal.
    if values.get("ExecMainCode") in {"2", "3"}:
        status += 128
    return UnitState(
        load=values.get("LoadState", "not-found"),
        active=values.get("ActiveState", "inactive"),
        result=values.get("Result", "success"),
        exit_code=status,
        invocation=values.get("InvocationID", ""),
    )


async def start(
    unit: str,
    command: Iterable[str],
    *,
    uid: int,
    gid: int,
    slice_: str,
    properties: Mapping[str, str | Iterable[str]],
) -> None:
    """Start a transient service; whether its program could be executed, `show` tells a moment later.

    Raises
    ------
    UnitError
        systemd refused the unit: a property it does not know, or a unit of that name that exists.
    """
    arguments = ["--quiet", f"--unit={unit}", f"--uid={uid}", f"--gid={gid}", f"--slice={slice_}"]
    for name, value in properties.items():
        values = [value] if isinstance(value, str) else value
        arguments += [f"--property={name}={item}" for item in values]
    await _run("systemd-run", *arguments, "--", *command)


async def stop(unit: str) -> None:
    """Stop a unit, forget its failure, and return when no process of it is left."""
    if (await show(unit)).load == "not-found":
        return
    await _run("systemctl", "stop", "--", unit)
    # A unit that failed stays loaded, and its name taken, until its failure is reset.
    if (await show(unit)).active == "failed":
        await _run("systemctl", "reset-failed", "--", unit)


async def memory_in_use(unit: str) -> int | None:
    """Return the bytes that a unit's processes use, None where it does not run.

    Without the cache of files that they have not used lately, which Linux gives away at any time.
    """
    try:
        group = (await _run("systemctl", "show", "--property=ControlGroup", "--value", "--", unit)).strip()
    except UnitError:
        return None
    if not group:
        return None
    directory = CONTROL_GROUPS / group.lstrip("/")
    try:
        used = int((directory / "memory.current").read_text())
        counts = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return max(0, used - int(counts.get("inactive_file", 0)))


async def journal(invocation: str, lines: int) -> str:
    """Return the last lines that one run of a unit wrote, oldest first."""
    if not invocation:
        return ""
    return await _run(
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"--lines={lines}",
        # The second match adds what systemd itself says of the unit, such as a failed sandbox.
        f"_SYSTEMD_INVOCATION_ID={invocation}",
        "+",
        f"INVOCATION_ID={invocation}",
    )
