"""What is known of Xpra's program: its versions, its options, and the packages it needs."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

#: Where the HTML5 client may be (xpra/server/server_core.py of 3.1, xpra/platform of 6).
CLIENT_DIRECTORIES = tuple(Path(prefix, "share/xpra/www") for prefix in ("/usr", "/usr/local"))
QUERY_SECONDS = 20.0


class XpraError(Exception):
    """Xpra cannot be used here; the message says what to install."""


@dataclass(frozen=True)
class Xpra:
    """An installation of Xpra.

    Parameters
    ----------
    path
        Of the program.
    version
        Major and minor number.
    """

    path: str
    version: tuple[int, int]

    def command(self, kind: str, directory: Path) -> list[str]:
        """Return the command of a display's server, `{display}` standing for the X display.

        Parameters
        ----------
        kind
            `seamless`: each window is one of the page; `desktop`: a whole screen.
        directory
            Of the display: `xpra.sock` will be there.
        """
        options = [
            # Its X server is ours: it is there sooner, and chosen to collide with none.
            "--use-display=yes",
            "--daemon=no",
            # Not PATH,auth=none: 3.1 makes a file of that whole name. Not auto: 6 would listen on abstract sockets too.
            f"--bind={directory}/xpra.sock",
            f"--socket-dir={directory}/run",
            "--socket-permissions=600",
            "--html=on",
            "--mdns=no",
            "--systemd-run=no",
            # Several browsers at once.
            "--sharing=yes",
            "--notifications=no",
            "--webcam=no",
            "--printing=no",
            "--speaker=disabled",
            "--microphone=disabled",
            "--dbus-launch=",
            "--dbus-control=no",
            "--file-transfer=no",
            "--start-new-commands=no",
            # Nothing but HTTP and its own protocol on the socket.
            "--ssh-upgrade=no",
            "--rfb-upgrade=0",
            "--exit-with-children=no",
            # Starts a process that looks at OpenGL: half a second, and nothing here asks for the answer.
            "--opengl=noprobe",
        ]
        options += ["--pulseaudio=no"] if self.version < (4, 0) else ["--audio=no", "--splash=no", "--http-scripts=no"]
        return [self.path, {"seamless": "start", "desktop": "start-desktop"}[kind], "{display}", *options]


def x_command(xvfb: str, width: int, height: int, dpi: int, authority: Path) -> list[str]:
    """Return the command of a display's X server: no TCP port, no abstract socket, and nobody without the cookie."""
    screen = f"{width}x{height}x24+32"
    extensions = [word for name in ("GLX", "Composite", "RANDR", "RENDER") for word in ("+extension", name)]
    options = ["-screen", "0", screen, "-dpi", str(dpi), "-nolisten", "tcp", "-nolisten", "local", "-noreset"]
    return [xvfb, "{display}", *extensions, *options, "-auth", str(authority)]


async def resize(environment: dict[str, str], number: int, size: tuple[int, int]) -> None:
    """Give an X server of ours another size.

    Xvfb has an output named `screen` and knows its first size only; a mode that is made for it serves (randrproto 7.2).

    Raises
    ------
    XpraError
        It did not work, or xrandr is missing.
    """
    width, height = size
    mode = f"{width}x{height}"
    xrandr = shutil.which("xrandr")
    if xrandr is None:
        raise XpraError("To change a display's size the machine needs the package x11-xserver-utils.")
    environment = environment | {"DISPLAY": f":{number}"}
    # The clock in MHz and the blanking mean nothing there, and must not be zero.
    timings = (width, width + 1, width + 2, width + 3, height, height + 1, height + 2, height + 3)
    # The mode may be there: only the last command has to succeed.
    await _output(xrandr, "--newmode", mode, "60", *map(str, timings), environment=environment)
    await _output(xrandr, "--addmode", "screen", mode, environment=environment)
    code, text = await _output(xrandr, "--output", "screen", "--mode", mode, environment=environment)
    if code:
        raise XpraError(f"The X server refused the size: {text.strip()}")


async def find() -> tuple[Xpra, str]:
    """Find Xpra and the X server, and return both.

    Raises
    ------
    XpraError
        Something is missing; all of it is named.
    """
    path, xvfb = shutil.which("xpra"), shutil.which("Xvfb")
    missing = []
    version: tuple[int, int] | None = None
    if path is None:
        missing.append("xpra")
    else:
        version = await _version(path)
        if not await _has_pillow(path):
            # Only recommended by Debian's package, and without it every connection dies.
            missing.append("python3-pil")
    if xvfb is None:
        missing.append("xvfb")
    if path and not any((directory / "index.html").is_file() for directory in CLIENT_DIRECTORIES):
        # A package of its own from 4 on.
        missing.append("xpra-html5")
    if missing:
        raise XpraError(f"Displays need packages that this machine lacks: {', '.join(missing)}.")
    assert path and xvfb and version
    return Xpra(path, version), xvfb


async def _output(*command: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
    except OSError as error:
        raise XpraError(f"{command[0]} could not be started: {error.strerror}.") from error
    try:
        async with asyncio.timeout(QUERY_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise XpraError(f"{shlex.join(command)} did not answer.") from None
    return process.returncode or 0, out.decode(errors="replace")


async def _version(path: str) -> tuple[int, int]:
    _code, text = await _output(path, "--version")
    found = re.search(r"\bv?(\d+)\.(\d+)", text)
    if not found:
        raise XpraError(f"{path} --version did not name a version: {text.strip()[-200:]}")
    version = int(found[1]), int(found[2])
    if version < (3, 1):
        raise XpraError(f"Xpra {found[1]}.{found[2]} is too old: displays need 3.1 or newer.")
    return version


async def _has_pillow(path: str) -> bool:
    """Ask the interpreter in Xpra's first line."""
    with open(path, "rb") as file:
        first = file.readline(200)
    interpreter = shlex.split(first[2:].decode(errors="replace")) if first.startswith(b"#!") else []
    if not interpreter or "python" not in interpreter[0] + interpreter[-1]:
        return True
    code, _text = await _output(*interpreter, "-c", "import PIL.Image")
    return code == 0
