"""Supervise one display: a process whose end is the end of everything it started.

Run as a program with the isolated interpreter (`python -I -S supervisor.py`), so that it starts at once and stays
small; hence nothing but the standard library. It reads its plan, a JSON object, from its standard input, starts the X
server, Xpra and the program, and talks to the manager through the socket it inherits: one JSON object a line. As a
subreaper (prctl(2)) it becomes the parent of all that is left over by its children, so that no control group is needed,
which users' processes may not make.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

#: Display numbers that are tried. X's own habit is to start at 0, and SSH's forwarding at 10.
NUMBERS = range(100, 1000)
X_SECONDS = 10.0
PROBE_SECONDS = 0.03
#: How long killed processes may take to be gone.
KILL_SECONDS = 6.0
#: How long SIGTERM may take to reach all processes of a session.
TOGETHER_SECONDS = 0.3
#: The log is cut to its second half when it exceeds this: it may lie in memory (tmpfs).
LOG_BYTES = 256 * 1024


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def processes() -> Iterator[tuple[int, int, int]]:
    """Yield process id, parent and session of every process that is alive (proc_pid_stat(5))."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # The name, in parentheses, may contain anything.
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                yield int(entry), int(fields[1]), int(fields[3])


def alive(pid: int) -> bool:
    """Tell whether a process is there and is no zombie; another user's may be hidden and seem not to be (proc(5))."""
    return any(pid == other for other, _parent, _session in processes())


def descendants(ancestor: int) -> list[int]:
    """List the processes below another one."""
    children: dict[int, list[int]] = {}
    for pid, parent, _session in processes():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [ancestor]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def x_socket(number: int) -> Path:
    """Return the path of an X display's socket."""
    return Path(f"/tmp/.X11-unix/X{number}")  # noqa: S108 - where every X client looks for it


def x_lock(number: int) -> Path:
    """Return the path of an X display's lock, which holds the process id of the server (Xserver(1))."""
    return Path(f"/tmp/.X{number}-lock")  # noqa: S108 - where every X server looks for it


def clean_x(number: int) -> bool:
    """Remove what an X server left behind, and tell whether the number is free then."""
    lock, sock = x_lock(number), x_socket(number)
    try:
        pid = int(lock.read_text())
    except FileNotFoundError:
        pid = 0
    except (OSError, ValueError):
        return False
    if pid and alive(pid):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        # An X server that chose its number itself has no lock.
        if probe.connect_ex(str(sock)) == 0:
            return False
    for path in (sock, lock):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # Another user's.
            return False
    return True


class DisplayEndedError(Exception):
    """The display has come to its end; `cause` is a word for programs, the message a sentence for people."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Supervisor:
    """One display's processes.

    Parameters
    ----------
    plan
        `directory` of the display; `control`, the file descriptor of the listening control socket; `xvfb` and `xpra`,
        commands in which `{display}` stands for `:<number>`; `xpra_environment`; `program`, a command or an empty list,
        and its `environment` and `cwd`; `besides`, another command, whose end does not matter; `title` of the program;
        `socket` by which Xpra answers; `ends_with_program`; `grace_seconds`, how long programs have to end; and
        `orphan_seconds`, how long it lives without a manager.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.directory = Path(plan["directory"])
        self.number = 0
        self.state = "starting"
        self.ends_with_program = bool(plan["ends_with_program"])
        self.x: subprocess.Popen[bytes] | None = None
        self.xpra: subprocess.Popen[bytes] | None = None
        self.program: subprocess.Popen[bytes] | None = None
        self.number_lock: socket.socket | None = None
        self.manager: socket.socket | None = None
        self.received = b""
        self.probe: socket.socket | None = None
        self.orphaned = time.monotonic()
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(fileno=plan["control"])
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        wake, self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        self.selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        self.output, output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        self.children_output = output
        self.log = open(self.directory / "log", "ab", buffering=0)  # noqa: SIM115 - for life
        self.selector.register(self.output, selectors.EVENT_READ, self.copy_output)
        self.stopping = False
        self.terminated = False

    # -- the manager ----------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Take the manager's connection; a second manager is told that there is one."""
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if self.manager:
            # Whoever it was may have gone already.
            with contextlib.suppress(OSError):
                connection.sendall(b'{"event": "busy"}\n')
            connection.close()
            return
        self.manager = connection
        self.received = b""
        self.selector.register(connection, selectors.EVENT_READ, self.receive)
        self.send({"event": "hello", "pid": os.getpid(), "state": self.state, "number": self.number})

    def send(self, message: dict[str, Any]) -> None:
        """Tell the manager, if there is one."""
        if self.manager:
            try:
                self.manager.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self.forget_manager()

    def forget_manager(self) -> None:
        """Notice that the manager has gone."""
        if self.manager:
            self.selector.unregister(self.manager)
            self.manager.close()
        self.manager = None
        self.orphaned = time.monotonic()

    def receive(self) -> None:
        """Do what the manager asks."""
        assert self.manager
        try:
            data = self.manager.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.forget_manager()
            return
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["do"] == "stop":
                raise DisplayEndedError(message["cause"], message["reason"])
            if message["do"] == "keep":
                self.ends_with_program = False

    # -- the processes --------------------------------------------------------------------------------------------

    def copy_output(self) -> None:
        """Append to the log what the processes wrote; a full disk costs lines of the log, no more."""
        try:
            data = os.read(self.output, 65536)
        except BlockingIOError:
            return
        with contextlib.suppress(OSError):
            self.log.write(data)
            if self.log.tell() > LOG_BYTES:
                path = self.directory / "log"
                tail = path.read_bytes()[-LOG_BYTES // 2 :]
                self.log.close()
                self.log = open(path, "wb", buffering=0)  # noqa: SIM115 - for life
                self.log.write(tail)

    def start(
        self,
        command: list[str],
        environment: dict[str, str],
        cwd: str,
        own_session: bool,
        blocked: frozenset[signal.Signals] = frozenset(),
    ) -> Any:
        """Start a child that ends when this process does, even by SIGKILL."""
        parent = os.getpid()

        def prepare() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
            if os.getppid() != parent:
                os._exit(1)

        return subprocess.Popen(
            [word.replace("{display}", f":{self.number}") for word in command],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self.children_output,
            stderr=self.children_output,
            start_new_session=own_session,
            # One thread, nothing but system calls.
            preexec_fn=prepare,
        )

    def start_x(self) -> None:
        """Start the X server on a number that nobody has.

        The number is taken by binding the abstract socket of that number without listening on it. Debian 12's clients
        try the abstract name first and would hand the cookie to whoever listens there; this way nobody can, and they
        go on to the server's socket. It also keeps apart the servers of one user, which take each other's socket away
        when they choose a number themselves without abstract sockets (`-displayfd` with `-nolisten local`).
        """
        for number in NUMBERS:
            lock = socket.socket(socket.AF_UNIX)
            try:
                lock.bind(f"\0{x_socket(number)}")
            except OSError as error:
                lock.close()
                if error.errno == errno.EADDRINUSE:
                    continue
                raise
            if clean_x(number):
                self.number, self.number_lock = number, lock
                break
            lock.close()
        else:
            raise DisplayEndedError("x-server", "No display number is free on this machine.")
        # systemd ends a session by sending SIGTERM to all of it at once, and programs need the X server to save.
        blocked = frozenset({signal.SIGTERM})
        self.x = self.start(self.plan["xvfb"], self.plan["xpra_environment"], str(self.directory), True, blocked)
        deadline = time.monotonic() + X_SECONDS
        while not x_socket(self.number).exists():
            if self.x.poll() is not None:
                raise DisplayEndedError("x-server", f"The X server could not be started ({status(self.x.returncode)}).")
            if time.monotonic() > deadline:
                raise DisplayEndedError("x-server", "The X server does not answer.")
            time.sleep(0.01)

    def start_xpra(self) -> None:
        """Start Xpra on the X server."""
        self.xpra = self.start(self.plan["xpra"], self.plan["xpra_environment"], str(self.directory), True)

    def start_program(self) -> None:
        """Start the program on the display."""
        command = self.plan["program"]
        if not command:
            return
        environment = self.plan["environment"] | {"DISPLAY": f":{self.number}"}
        try:
            self.program = self.start(command, environment, self.plan["cwd"], True)
        except OSError as error:
            reason = f"{self.plan['title']} could not be started: {error.strerror}."
            raise DisplayEndedError("program", reason) from error
        if self.plan["besides"]:
            with contextlib.suppress(OSError):
                self.start(self.plan["besides"], environment, self.plan["cwd"], True)

    def ask(self) -> None:
        """Ask Xpra over its socket, as the browser will do."""
        if self.probe:
            return
        probe = socket.socket(socket.AF_UNIX)
        probe.settimeout(1)
        try:
            probe.connect(self.plan["socket"])
            probe.sendall(b"GET /Info HTTP/1.0\r\n\r\n")
        except OSError:
            probe.close()
            return
        probe.setblocking(False)
        self.probe = probe
        self.selector.register(probe, selectors.EVENT_READ, self.answer)

    def answer(self) -> None:
        """Take Xpra's answer: it is ready, and the program may start."""
        assert self.probe
        try:
            data = self.probe.recv(16)
        except OSError:
            data = b""
        self.selector.unregister(self.probe)
        self.probe.close()
        self.probe = None
        if data.startswith(b"HTTP/"):
            self.start_program()
            self.state = "running"
            self.send({"event": "running", "number": self.number})

    def reap(self) -> None:
        """Collect the processes that have ended, and see whether that is the end of the display."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            code = os.waitstatus_to_exitcode(raw)
            for child in (self.x, self.xpra, self.program):
                if child and child.pid == pid:
                    # subprocess does not see the end that was collected here.
                    child.returncode = code
        if self.stopping:
            return
        failed = any(child and child.returncode for child in (self.xpra, self.program))
        if self.x and (self.x.returncode is not None or (failed and self.x_ends())):
            raise DisplayEndedError("x-server", f"The X server ended unexpectedly ({status(self.x.returncode)}).")
        if self.xpra and self.xpra.returncode is not None:
            raise DisplayEndedError("xpra", f"Xpra ended unexpectedly ({status(self.xpra.returncode)}).")
        if self.program and self.program.returncode is not None and self.ends_with_program:
            # Many a launcher ends while its program goes on, but stays in its session; helpers of a desktop that are
            # nobody's (dbus-daemon, gvfsd) leave it.
            if any(session == self.program.pid for _pid, _parent, session in processes()):
                return
            if code := self.program.returncode:
                raise DisplayEndedError("program", f"{self.plan['title']} ended with an error ({status(code)}).")
            raise DisplayEndedError("closed", f"{self.plan['title']} was closed.")

    def x_ends(self) -> bool:
        """Tell whether the X server is what others failed for: they may be gone a moment before it is."""
        assert self.x
        for _ in range(10):
            pid, raw = os.waitpid(self.x.pid, os.WNOHANG)
            if pid:
                self.x.returncode = os.waitstatus_to_exitcode(raw)
                return True
            time.sleep(0.02)
        return False

    # -- life -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until the end of the display, then leave nothing behind."""
        try:
            self.start_x()
            self.start_xpra()
            self.watch()
        except DisplayEndedError as end:
            self.end(end)
        except OSError as error:
            self.end(DisplayEndedError("system", f"The display could not be started: {error.strerror}."))

    def watch(self) -> None:
        """Wait for something to happen."""
        limit = self.plan["orphan_seconds"]
        while True:
            timeout: float | None = None
            if not self.manager:
                timeout = self.orphaned + limit - time.monotonic()
                if timeout <= 0:
                    raise DisplayEndedError("orphaned", "The Jupyter server has gone, and none came to take over.")
            if self.state == "starting":
                self.ask()
                timeout = PROBE_SECONDS
            self.dispatch(timeout)
            self.reap()

    def dispatch(self, timeout: float | None) -> None:
        """Handle what has happened, waiting at most so many seconds."""
        for key, _events in self.selector.select(timeout):
            callback: Callable[[], None] = key.data
            callback()

    def end(self, end: DisplayEndedError) -> None:
        """Tell the manager, end every process, and remove the files; the last word is `gone`."""
        self.stopping = True
        self.selector.unregister(self.listener)
        self.listener.close()
        with contextlib.suppress(OSError):
            (self.directory / "end.json").write_text(json.dumps({"cause": end.cause, "reason": str(end)}))
        self.send({"event": "ending", "cause": end.cause, "reason": str(end)})
        self.end_processes()
        if self.number:
            clean_x(self.number)
        for _ in range(64):
            # What they wrote last.
            self.copy_output()
        if self.manager:
            # The manager removes the rest when it has read the log.
            self.send({"event": "gone"})
        elif end.cause in {"closed", "orphaned", "stopped"}:
            shutil.rmtree(self.directory, ignore_errors=True)

    def end_processes(self) -> None:
        """End the programs and Xpra, then the X server, politely first."""
        me = os.getpid()
        x = self.x.pid if self.x else 0
        # systemd, for example, sends SIGTERM to all at once, and whoever is faster may have us stop before it reaches
        # us. A second one would cut off what programs do on the first.
        deadline = time.monotonic() + TOGETHER_SECONDS
        while not self.terminated and time.monotonic() < deadline:
            self.pass_time()
        if self.terminated:
            self.wait_for_programs(x)
        for pid in descendants(me):
            if pid != x:
                kill(pid, signal.SIGTERM)
                # One that is stopped does not hear it.
                kill(pid, signal.SIGCONT)
        deadline = self.wait_for_programs(x)
        # The X server removes its lock and its socket.
        kill(x, signal.SIGINT)
        while descendants(me) == [x] and time.monotonic() < deadline:
            self.pass_time()
        deadline = time.monotonic() + KILL_SECONDS
        while (left := descendants(me)) and time.monotonic() < deadline:
            for pid in left:
                kill(pid, signal.SIGKILL)
            self.pass_time()

    def wait_for_programs(self, x: int) -> float:
        """Wait until nothing is left but the X server, and return until when that could have taken."""
        deadline: float = time.monotonic() + self.plan["grace_seconds"]
        while set(descendants(os.getpid())) - {x} and time.monotonic() < deadline:
            self.pass_time()
        return deadline

    def pass_time(self) -> None:
        """Wait a moment for processes to end."""
        time.sleep(0.02)
        self.copy_output()
        self.reap()


def kill(pid: int, number: int) -> None:
    """Signal a process that may be gone; 0 is none."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def status(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Read the plan and live."""
    plan = json.load(sys.stdin)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # A handler, or the wake-up file descriptor is not written to.
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)

    def terminate(_number: int, _frame: Any) -> None:
        if not supervisor.stopping:
            supervisor.terminated = True
            raise DisplayEndedError("stopped", "The display was ended.")

    supervisor = Supervisor(plan)
    signal.signal(signal.SIGTERM, terminate)
    supervisor.run()


if __name__ == "__main__":
    main()
