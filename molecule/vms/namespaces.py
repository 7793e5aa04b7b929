"""Linux namespaces: the few system calls that Python 3.11's `os` lacks."""

import ctypes
import os
import signal
import subprocess
from typing import IO, Any

# <linux/sched.h>, <linux/prctl.h>, <linux/mount.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def unshare(flags: int) -> None:
    """Move this process (for CLONE_NEWPID: its later children) into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` refers to."""
    _check(_libc.setns(fd, kind), "setns")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that happens."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    _check(result, f"mount {target}")


def private_mounts() -> None:
    """Give this process mounts of its own, which no one else sees and which end with it."""
    unshare(CLONE_NEWNS)
    mount("none", "/", "none", MS_REC | MS_PRIVATE)


def popen_as_init(
    argv: list[str],
    program: str | None = None,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
    env: dict[str, str] | None = None,
    in_private_mounts: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a command as the first process of a PID namespace of its own.

    Killing it then kills everything it ever forked, and `wait` returns only when all of that is gone. User-Mode Linux
    needs this: the processes that run its guest's programs outlive a killed kernel.
    `program` is executed in place of what `argv` begins with.
    """

    def prepare() -> None:
        die_with_parent()
        if in_private_mounts:
            private_mounts()

    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWPID)
        try:
            return subprocess.Popen(
                argv,
                executable=program,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=env,
                preexec_fn=prepare,
                start_new_session=True,
            )
        finally:
            setns(own, CLONE_NEWPID)
    finally:
        os.close(own)
