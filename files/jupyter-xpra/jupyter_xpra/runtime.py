"""Where displays keep their files, and how to end what is left of one whose supervisor was killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import struct
import time
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from .supervisor import clean_x, kill, processes

#: Every process of a display has its id in this variable.
MARK = "JUPYTER_XPRA_DISPLAY"
#: The longest path of a socket (unix(7)).
SOCKET_PATH_BYTES = 107


def default_directory() -> Path:
    """Return the directory of the user's displays: on the local disk, and with short paths."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime, "jupyter-xpra")
    return Path(jupyter_runtime_dir(), "xpra")


def make_private(directory: Path) -> None:
    """Make a directory that only its owner can enter.

    Raises
    ------
    OSError
        It cannot be made, or is another user's.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user")
    directory.chmod(0o700)


def cookie_entry(number: int | None, cookie: bytes) -> bytes:
    """Return an entry of an Xauthority file (xauth(1), Xau.h): the display's number, or none for all, on any host."""
    family_wild = 0xFFFF
    fields = (b"", b"" if number is None else str(number).encode(), b"MIT-MAGIC-COOKIE-1", cookie)
    return struct.pack(">H", family_wild) + b"".join(struct.pack(">H", len(field)) + field for field in fields)


def new_cookie() -> bytes:
    """Return a secret by which X lets clients in."""
    return secrets.token_bytes(16)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file at once, readable by its owner only."""
    new = path.with_name(f".{path.name}.new")
    try:
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def marked(display: str) -> list[int]:
    """List the processes of a display by the mark in their environment, which daemons keep as well."""
    mark = f"{MARK}={display}".encode()
    found = []
    for pid, _parent, _session in processes():
        # Other users' cannot be read.
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def sweep(display: str, number: int, seconds: float = 5.0) -> None:
    """End what is left of a display that has no supervisor any more, and remove its X server's files."""
    deadline = time.monotonic() + seconds
    while (left := marked(display)) and time.monotonic() < deadline:
        for pid in left:
            kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    # The X server may still be dying.
    while number and not clean_x(number) and time.monotonic() < deadline:
        time.sleep(0.02)


def remove(directory: Path) -> None:
    """Remove a display's directory."""
    shutil.rmtree(directory, ignore_errors=True)
