"""Runs as root in the VM while displays are measured: starts programs as a student, and reads what the kernel counts.

One line of JSON comes in, and one goes out: a connection of its own for each would take longer than what is measured.
It is handed over as a text, so it has nothing but the standard library.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_STOP_S = 30.0
# In the environment of all that is started, and of what that starts.
_MARK = "BENCH_PROGRAM"

started: dict[str, subprocess.Popen[bytes]] = {}


def directory(name: str) -> Path:
    """Return where a program has its files."""
    return Path("/run/bench", name)


def start(name: str, user: str, command: list[str], environment: dict[str, str]) -> None:
    """Start a program as a user, with a directory of its own; `{directory}` stands for that in what it is given."""
    account = pwd.getpwnam(user)
    own = directory(name)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True, mode=0o700)
    os.chown(own, account.pw_uid, account.pw_gid)
    own.parent.chmod(0o711)
    values = {**dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "TMPDIR"), str(own)), **environment}
    values = {key: value.replace("{directory}", str(own)) for key, value in values.items()}
    with (own / "log").open("wb") as log:
        started[name] = subprocess.Popen(
            [word.replace("{directory}", str(own)) for word in command],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": user, "LOGNAME": user, _MARK: name, **values},
            cwd=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def stop(name: str) -> None:
    """End a program and all that it started, and return when they are gone."""
    process = started.pop(name)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    while left := marked(f"{_MARK}={name}"):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    process.wait()
    shutil.rmtree(directory(name), ignore_errors=True)


def of_program(name: str) -> list[int]:
    """List the processes of a program that was started, with what it started."""
    return marked(f"{_MARK}={name}")


def wait_listening(name: str, port: int, seconds: float) -> None:
    """Wait until a program listens on a TCP port; a display's supervisor asks as often.

    Raises
    ------
    RuntimeError
        It ended before, or the time is over.
    """
    wanted = re.compile(rf"^ *\d+: [0-9A-F]+:{port:04X} [0-9A-F:]+ 0A ", re.MULTILINE)
    end = time.monotonic() + seconds
    while not any(wanted.search((_PROC / "net" / kind).read_text()) for kind in ("tcp", "tcp6")):
        log = (directory(name) / "log").read_text(errors="replace")[-2000:]
        if started[name].poll() is not None:
            raise RuntimeError(f"{name} ended with status {started[name].returncode}: {log}")
        if time.monotonic() > end:
            raise RuntimeError(f"{name} does not listen on port {port} after {seconds:.0f} s: {log}")
        time.sleep(0.03)


def memory_kib(pids: list[int]) -> int:
    """Return the proportional set size (proc(5)) of processes, in KiB; those that have ended have none."""
    total = 0
    for pid in pids:
        try:
            text = (_PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def of_unit(unit: str) -> list[int]:
    """List the processes of a unit, its main process first."""
    command = ["systemctl", "show", "--property=MainPID,ControlGroup", unit]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shown = dict(line.split("=", 1) for line in output.splitlines())
    main = int(shown["MainPID"])
    if not main:
        raise RuntimeError(f"{unit} does not run.")
    listed = (_CGROUPS / shown["ControlGroup"].lstrip("/")).rglob("cgroup.procs")
    pids = {int(word) for processes in listed for word in processes.read_text().split()}
    return [main, *sorted(pids - {main})]


def unit(what: str, name: str) -> None:
    """Have systemd do something with a unit."""
    subprocess.run(["systemctl", what, name], check=True, capture_output=True)


def marked(mark: str) -> list[int]:
    """List the processes that have a text in their environment."""
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in variables:
                found.append(int(entry.name))
    return found


def x_displays(program: str, pids: list[int]) -> list[str]:
    """List the displays of those of the processes that are X servers of this name, such as `:1`."""
    found = []
    for pid in pids:
        try:
            words = (_PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == program:
            found += [word for word in words[1:] if re.fullmatch(r":\d+", word)]
    return found


def device() -> str:
    """Name the network device of the default route."""
    for line in (_PROC / "net/route").read_text().splitlines()[1:]:
        name, destination = line.split()[:2]
        if destination == "00000000":
            return name
    raise RuntimeError("There is no default route.")


def sent_bytes() -> int:
    """Return how many bytes have left the machine."""
    line = next(
        line for line in (_PROC / "net/dev").read_text().splitlines() if line.strip().startswith(f"{device()}:")
    )
    return int(line.partition(":")[2].split()[8])


def narrow(mbit_s: float, delay_ms: float) -> None:
    """Have what leaves the machine go over a line of so many Mbit/s and milliseconds; with zeros, as fast as it can."""
    name = device()
    subprocess.run(["tc", "qdisc", "del", "dev", name, "root"], check=False, capture_output=True)
    if mbit_s:
        # The delay outside: what waits for its turn has not left yet.
        for words in (
            f"root handle 1: netem delay {delay_ms}ms limit 10000",
            f"parent 1: handle 2: tbf rate {mbit_s}mbit burst 16kb latency 200ms",
        ):
            subprocess.run(["tc", "qdisc", "add", "dev", name, *words.split()], check=True, capture_output=True)


_ORDERS: dict[str, Any] = {
    order.__name__: order
    for order in (
        *(start, stop, of_program, wait_listening, unit, of_unit, marked, memory_kib),
        *(x_displays, sent_bytes, narrow),
    )
}


def main() -> None:
    """Do what is asked until nobody asks any more, and leave nothing behind."""
    try:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            try:
                answer = {"value": _ORDERS[name](*arguments)}
            except subprocess.CalledProcessError as error:
                answer = {"error": f"{error} {(error.stderr or b'').decode(errors='replace').strip()}"}
            except (OSError, KeyError, RuntimeError) as error:
                answer = {"error": f"{name}: {error!r}"}
            print(json.dumps(answer), flush=True)
    finally:
        narrow(0, 0)
        for program in list(started):
            stop(program)


if __name__ == "__main__":
    main()
