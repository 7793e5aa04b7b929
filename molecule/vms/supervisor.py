"""The supervisor: one process for each state directory, whose life is the life of everything it started."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import NoReturn

from campus import MTU, SLIRP_TAP, Plan, log, run_inside
from errors import VmError
from namespaces import CLONE_NEWPID, die_with_parent, unshare

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
    except BaseException as error:  # noqa: BLE001 - the log is the last place to tell
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
    ready_read, ready = os.pipe2(os.O_CLOEXEC)
    go_read, go = os.pipe2(os.O_CLOEXEC)
    unshare(CLONE_NEWPID)
    inside = os.fork()
    if inside == 0:
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            # The lock must end with the supervisor, and our end of the pipes must be the only one.
            for fd in (lock, starter, ready_read, go, *images):
                os.close(fd)
            run_inside(plan, ready, go_read)
        except BaseException as error:  # noqa: BLE001
            log(f"The VMs' namespace failed: {error!r}")
        finally:
            os._exit(status)
    for fd in (ready, go_read):
        os.close(fd)
    plan.control.close()
    for listener in plan.listeners.values():
        listener.close()
    slirp = None
    try:
        plan.state.processes.write_text(json.dumps({"supervisor": os.getpid(), "inside": inside}))
        if not os.read(ready_read, 1):
            raise VmError("the network namespace was not made")
        slirp, life = _start_slirp(inside)
        os.write(go, b"1")
        _watch(starter, inside, slirp)
        os.close(life)
    finally:
        os.kill(inside, signal.SIGKILL)
        # The namespace ends only when its last process is reaped, and slirp4netns is our child.
        if slirp:
            slirp.wait()
        os.waitpid(inside, 0)


def _start_slirp(inside: int) -> tuple[subprocess.Popen[bytes], int]:
    """Connect the bridge to the outside: no address, rule or interface of the host is touched for it."""
    ready_read, ready = os.pipe2(os.O_CLOEXEC)
    life_read, life = os.pipe2(os.O_CLOEXEC)
    command = [
        *["slirp4netns", "--disable-host-loopback", f"--mtu={MTU}"],
        *[f"--ready-fd={ready}", f"--exit-fd={life_read}"],
        *["--netns-type=path", f"/proc/{inside}/ns/net", SLIRP_TAP],
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=(ready, life_read), preexec_fn=die_with_parent
    )
    os.close(ready)
    os.close(life_read)
    if not os.read(ready_read, 1):
        raise VmError("slirp4netns did not start")
    os.close(ready_read)
    return process, life


def _watch(starter: int, inside: int, slirp: subprocess.Popen[bytes]) -> None:
    """Wait for the end: of the inside, of the connection to the outside, or of an interrupted start."""
    poll = select.poll()
    ends = {os.pidfd_open(inside): "the VMs' namespace ended", os.pidfd_open(slirp.pid): "slirp4netns ended"}
    for fd in (starter, *ends):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in ends:
                raise VmError(ends[fd])
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
