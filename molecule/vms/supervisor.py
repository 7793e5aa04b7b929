"""The supervisor: one process for each state directory, whose life is the life of everything it started."""

import fcntl
import json
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from campus import Plan, log, run_inside
from errors import VmError
from namespaces import CLONE_NEWPID, unshare

# What the starting command writes once all VMs answer. If its end of the pipe closes before, it was interrupted.
KEEP = b"k"


def fork_supervisor(plan: Plan, lock: int) -> tuple[int, int]:
    """Start the supervisor in the background.

    Returns
    -------
    tuple[int, int]
        Its process id, and the pipe to write `KEEP` to; closing it without that ends the supervisor.
    """
    starter, keep = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(starter)
        return pid, keep
    os.close(keep)
    status = 1
    try:
        _detach(plan)
        _supervise(plan, lock, starter)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException as error:
        log(f"The supervisor failed: {error!r}")
    finally:
        os._exit(status)


def _detach(plan: Plan) -> None:
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    output = os.open(plan.state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - for life
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _supervise(plan: Plan, lock: int, starter: int) -> None:
    images = [os.open(image, os.O_RDONLY | os.O_CLOEXEC) for image in {m.image for m in plan.machines.values()}]
    for image in images:
        # Tells other builders not to delete it.
        fcntl.flock(image, fcntl.LOCK_SH)
    unshare(CLONE_NEWPID)
    inside = os.fork()
    if inside == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            # The lock must end with the supervisor.
            for fd in (lock, starter, *images):
                os.close(fd)
            run_inside(plan)
        except BaseException as error:
            log(f"The VMs' namespace failed: {error!r}")
        finally:
            os._exit(1)
    plan.control.close()
    for listener in plan.listeners.values():
        listener.close()
    try:
        plan.state.processes.write_text(json.dumps({"supervisor": os.getpid(), "inside": inside}))
        _watch(starter, inside)
    finally:
        os.kill(inside, signal.SIGKILL)
        # Returns when the last process of the namespace is gone.
        os.waitpid(inside, 0)


def _watch(starter: int, inside: int) -> None:
    """Wait for the end: of the inside, or of an interrupted start."""
    poll = select.poll()
    ended = os.pidfd_open(inside)
    poll.register(ended, select.POLLIN)
    poll.register(starter, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == ended:
                raise VmError("the VMs' namespace ended")
            if os.read(starter, 1) != KEEP:
                log("The start was interrupted")
                return
            poll.unregister(starter)
            os.close(starter)


def wait_supervisor(pid: int, seconds: float) -> bool:
    """Wait for our own child, the supervisor, to end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.05)
    return False
