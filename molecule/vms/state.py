"""The state directory: what belongs to one set of VMs, and who holds it."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import VmError
from spec import Host


@dataclass(frozen=True)
class State:
    """The files of one set of VMs, all below one directory.

    The supervisor holds a lock on `lock` as long as it lives. That lock, not a number in a file, says whether it runs:
    the kernel drops it at any end of the process, and no other process can come to hold it by reuse of an id.
    """

    directory: Path

    @property
    def lock(self) -> Path:
        """The file whose lock the supervisor holds."""
        return self.directory / "lock"

    @property
    def processes(self) -> Path:
        """The process ids: the supervisor, and the first process inside its namespaces."""
        return self.directory / "processes.json"

    @property
    def spec(self) -> Path:
        """The spec the VMs were started from."""
        return self.directory / "spec.json"

    @property
    def summary(self) -> Path:
        """What users read; it exists once `up` is complete."""
        return self.directory / "vms.json"

    @property
    def ssh_config(self) -> Path:
        """The SSH client's configuration for all VMs."""
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The VMs' host keys."""
        return self.directory / "known_hosts"

    @property
    def key(self) -> Path:
        """The private key of the user `admin`."""
        return self.directory / "id_ed25519"

    @property
    def log(self) -> Path:
        """What the supervisor has to say."""
        return self.directory / "supervisor.log"

    @property
    def scratch(self) -> Path:
        """Where the VMs' memory is mounted, inside the namespaces only."""
        return self.directory / "scratch"

    def of(self, host: Host) -> Path:
        """Return the directory of one VM."""
        return self.directory / host.name

    def console(self, host: Host) -> Path:
        """Return the log of one VM's console."""
        return self.of(host) / "console.log"

    def take(self) -> int | None:
        """Make the directory and take its lock; return None when another process holds it."""
        while True:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody may have removed the directory between the two calls above.
                if os.fstat(lock).st_ino == self.lock.stat().st_ino:
                    return lock
            except BlockingIOError:
                os.close(lock)
                return None
            except FileNotFoundError:
                pass
            os.close(lock)

    def is_held(self) -> bool:
        """Tell whether a supervisor, or an `up` on its way there, is alive."""
        try:
            with self.lock.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def clear(self, keep_lock: bool = False) -> None:
        """Remove everything; the lock goes last, and not before its holder is done."""
        if not self.directory.exists():
            return
        for entry in self.directory.iterdir():
            if entry == self.lock:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if not keep_lock:
            self.lock.unlink(missing_ok=True)
            self.directory.rmdir()

    def read(self) -> dict[str, Any]:
        """Return the summary of running VMs."""
        if not self.is_held() or not self.summary.exists():
            raise VmError(f"No VMs are up in {self.directory}; start them with: up --spec FILE --state DIR")
        return dict(json.loads(self.summary.read_text()))

    def process(self, role: str) -> int | None:
        """Return a process id by its role, if the supervisor came that far."""
        try:
            return int(json.loads(self.processes.read_text())[role])
        except (FileNotFoundError, KeyError):
            return None

    def end_supervisor(self) -> None:
        """End the supervisor, and with it everything it holds."""
        if (pid := self.process("supervisor")) is None:
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # The id is the supervisor's only if it still holds the lock now that the process is pinned.
            if self.is_held():
                signal.pidfd_send_signal(process, signal.SIGTERM)
                if not wait_readable(process, 20):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    wait_readable(process, 10)
        finally:
            os.close(process)

    def connect(self) -> socket.socket:
        """Connect to the supervisor's control socket."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(control_address(directory))
        finally:
            os.close(directory)
        return connection

    def listen(self) -> socket.socket:
        """Bind the control socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        try:
            listener.bind(control_address(directory))
        finally:
            os.close(directory)
        listener.listen(16)
        return listener

    def ask(self, **request: Any) -> dict[str, Any]:
        """Ask the supervisor to do something with a VM, and wait for its answer."""
        with self.connect() as connection, connection.makefile("rw") as stream:
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            answer = stream.readline()
        if not answer:
            raise VmError(f"The supervisor ended; see {self.log}.")
        return dict(json.loads(answer))

    def ssh(self, host: str, *command: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command in a VM."""
        argv = ["ssh", "-F", str(self.ssh_config), "-o", "ConnectTimeout=5", host, "--", *command]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )


def control_address(directory: int) -> str:
    """Name the control socket by its directory's descriptor: a socket's address has only 107 bytes."""
    return f"/proc/self/fd/{directory}/control"


def wait_readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor is readable: a process has ended, a pipe has something to say."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
