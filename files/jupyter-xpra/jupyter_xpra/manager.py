"""The user's displays: which there are, how they are started, adopted, watched and ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, Integer, List, TraitError, Tuple, Unicode, default, validate
from traitlets.config import LoggingConfigurable

from . import display as checks
from . import runtime, xpra
from .display import Display, DisplayError
from .session import Session, SessionError

EVENT_SCHEMA = "https://events.jupyter.org/jupyter_xpra/display/v1"
#: A program that ends with an error so soon after its start is reported as the answer to the start.
PROGRAM_SECONDS = 0.5
LOG_LINES = 20
#: Read by programs that use X's resources, beside what the user has (X(7)).
XRESOURCES = Path(__file__).with_name("Xresources")
IDLE_CHECKS_SECONDS = 5.0
SCREENSHOT_SECONDS = 10.0
#: What the registry keeps of a display.
RECORDED = [
    "id",
    "name",
    "kind",
    "url",
    "command",
    "size",
    "largest",
    "program",
    "layouts",
    "started",
    "default",
    "number",
]
#: A directory that did not become a display's within this time is nobody's.
ABANDONED_SECONDS = 60.0


class DisplayManager(LoggingConfigurable):
    """Keep the user's displays."""

    directory = Unicode(
        help="Where displays keep their sockets and files, for the user only: on the local disk, with a short path."
    ).tag(config=True)
    programs = List(
        Dict(),
        help="""Programs on offer: dictionaries with `name`, `title`, `command` (a list of words), and, if wanted,
        `icon` (a URL or an SVG), `kind` (`seamless` or `desktop`) and `environment` (a dictionary).""",
    ).tag(config=True)
    desktop_command = List(
        Unicode(), ["openbox"], help="Window manager or desktop of the kind `desktop`: its end is the display's."
    ).tag(config=True)
    max_displays = Integer(5, min=1, help="Most displays a user has at a time.").tag(config=True)
    default_size = Tuple(
        Integer(), Integer(), default_value=(1920, 1080), help="Width and height of a screen in pixels."
    ).tag(config=True)
    max_size = Tuple(
        Integer(), Integer(), default_value=(7680, 4320), help="Largest width and height of a screen in pixels."
    ).tag(config=True)
    dpi = Integer(96, min=30, help="Resolution of the screens, in dots per inch.").tag(config=True)
    idle_timeout = Integer(
        0, min=0, help="End a display when nobody has done anything in it for so many seconds; 0 for never."
    ).tag(config=True)
    start_timeout = Integer(60, min=1, help="How many seconds a display may take to start.").tag(config=True)
    grace_timeout = Integer(
        5, min=0, help="How many seconds programs have to save and to end when their display is ended."
    ).tag(config=True)
    orphan_timeout = Integer(
        300,
        min=0,
        help="How many seconds displays outlive a Jupyter server that was killed, for the next one to take over.",
    ).tag(config=True)
    end_with_server = Bool(True, help="End the displays when the Jupyter server is ended as it should be.").tag(
        config=True
    )

    @default("directory")
    def _default_directory(self) -> str:
        return str(runtime.default_directory())

    @validate("programs")
    def _check_programs(self, proposal: Any) -> list[dict[str, Any]]:
        names = set()
        for program in proposal["value"]:
            name = program.get("name")
            known = {"name", "title", "command", "icon", "kind", "environment"}
            if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or name in names:
                raise TraitError(f"DisplayManager.programs: {name!r} must be a name of its own of letters and digits")
            names.add(name)
            if unknown := set(program) - known:
                raise TraitError(f"DisplayManager.programs: {name}: unknown {', '.join(sorted(unknown))}")
            command = program.get("command")
            if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
                raise TraitError(f"DisplayManager.programs: {name}: `command` must be a list of words")
            if program.get("kind", "seamless") not in checks.KINDS:
                raise TraitError(f"DisplayManager.programs: {name}: `kind` must be one of {', '.join(checks.KINDS)}")
        value: list[dict[str, Any]] = proposal["value"]
        return value

    def __init__(
        self,
        base_url: str = "/",
        root_dir: str = "",
        emit: Callable[[dict[str, Any]], None] = lambda data: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_url = base_url
        self.root_dir = root_dir or str(Path.home())
        #: When a user last did something in any display.
        self.last_activity: datetime | None = None
        self._emit = emit
        self._displays: dict[str, Display] = {}
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, asyncio.Event] = {}
        self._found: tuple[xpra.Xpra, str] | None = None
        self._using = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None
        #: Set once the displays that still run have been taken over.
        self.opened = asyncio.Event()
        self._inherited = {name: os.environ.get(name) for name in ("DISPLAY", "XAUTHORITY", "XENVIRONMENT")}

    # -- life of the manager --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take over the displays that still run, and remove what is left of others."""
        try:
            await self._open()
        finally:
            self.opened.set()

    async def _open(self) -> None:
        base = Path(self.directory)
        try:
            runtime.make_private(base)
        except OSError as error:
            self.log.error("Displays cannot be had: %s: %s", base, error.strerror or error)
            return
        for entry in sorted(base.iterdir()):
            if re.fullmatch(r"[0-9a-f]{8}", entry.name):
                await self._take_over(entry)
            elif owner := re.search(r"-(\d+)(\.sock)?$", entry.name):
                if not Path(f"/proc/{owner[1]}").exists():
                    entry.unlink(missing_ok=True)
            elif entry.is_dir() and time.time() - entry.stat().st_mtime > ABANDONED_SECONDS:
                runtime.remove(entry)
        self._update_authority()
        self._publish_default()
        if self.idle_timeout:
            self._idle = asyncio.create_task(self._end_idle())

    async def _take_over(self, directory: Path) -> None:
        session = Session(directory, lambda message: self._on_message(directory.name, message), self.grace_timeout)
        try:
            record = json.loads((directory / "display.json").read_text())
            display = Display(**record)
            # JSON knows no tuples.
            display.size = (display.size[0], display.size[1])
            display.largest = (display.largest[0], display.largest[1])
            display.url = self._url(display.id)
        except (OSError, ValueError, TypeError):
            display = None
        try:
            hello = await session.connect()
        except SessionError as error:
            if str(error) == "busy":
                # Another server of this user has it.
                return
            number = display.number if display else 0
            await asyncio.to_thread(runtime.sweep, directory.name, number)
            if display:
                self._bury(display, directory)
            runtime.remove(directory)
            return
        if display is None:
            # A start that was cut off.
            await session.stop("stopped", "Its start was cut off.")
            runtime.remove(directory)
            return
        self._sessions[display.id] = session
        self._displays[display.id] = display
        display.state, display.number = hello["state"], hello["number"] or display.number
        display.clients, display.last_activity = 0, datetime.now(UTC)
        self.log.info("Took over the display %s (%s)", display.id, display.name)
        self._announce("created", display)

    def _bury(self, display: Display, directory: Path) -> None:
        """Keep the record of a display that ended while nobody was there, with the reason."""
        cause, reason = "supervisor", "The display ended while the Jupyter server was away."
        with contextlib.suppress(OSError, ValueError, KeyError):
            end = json.loads((directory / "end.json").read_text())
            cause, reason = end["cause"], end["reason"]
        display.state, display.cause, display.reason, display.default = "failed", cause, reason, False
        display.log = self._log_tail(directory)
        self._displays[display.id] = display

    async def close(self) -> None:
        """End the displays, or let go of them."""
        if self._idle:
            self._idle.cancel()
        sessions = list(self._sessions.items())
        if self.end_with_server:
            await asyncio.gather(*(self._end(id_, "stopped", "The Jupyter server was ended.") for id_, _ in sessions))
        else:
            for _id, session in sessions:
                session.release()

    # -- what there is --------------------------------------------------------------------------------------------

    def list(self) -> list[dict[str, Any]]:
        """Describe the displays, the oldest first."""
        return [display.model() for display in self._displays.values()]

    def get(self, display_id: str) -> dict[str, Any]:
        """Describe one display."""
        return self._display(display_id).model()

    def _display(self, display_id: str) -> Display:
        try:
            return self._displays[display_id]
        except KeyError:
            raise DisplayError(404, f"There is no display {display_id}. It may have ended.", "unknown") from None

    def _running(self, display_id: str) -> Display:
        display = self._display(display_id)
        if display.state != "running":
            raise DisplayError(409, f"The display {display.name} is not running.", "state")
        return display

    async def status(self) -> dict[str, Any]:
        """Tell what can be had here: programs, kinds, limits, and what is missing."""
        version, problem = None, ""
        try:
            (found, _xvfb) = await self._find()
            version = ".".join(map(str, found.version))
        except xpra.XpraError as error:
            problem = str(error)
        return {
            "xpra": version,
            "problem": problem,
            "kinds": [kind for kind in checks.KINDS if kind != "desktop" or shutil.which(self.desktop_command[0])],
            "programs": [self._offer(program) for program in self.programs],
            "layouts": sorted(checks.known_layouts()),
            "limits": {
                "displays": self.max_displays,
                "idle_timeout": self.idle_timeout,
                "smallest": dict(zip(("width", "height"), checks.SMALLEST_SIZE, strict=True)),
                "largest": dict(zip(("width", "height"), self.max_size, strict=True)),
            },
            "default_size": dict(zip(("width", "height"), self.default_size, strict=True)),
        }

    def _offer(self, program: dict[str, Any]) -> dict[str, Any]:
        path = program.get("environment", {}).get("PATH")
        return {
            "name": program["name"],
            "title": program.get("title", program["name"]),
            "icon": program.get("icon", ""),
            "kind": program.get("kind", "seamless"),
            "available": shutil.which(program["command"][0], path=path) is not None,
        }

    async def _find(self) -> tuple[xpra.Xpra, str]:
        # Asked again until it is there: an administrator who installs it need not restart anything.
        if self._found is None or not Path(self._found[0].path).exists():
            self._found = await xpra.find()
        return self._found

    # -- create ---------------------------------------------------------------------------------------------------

    def _wanted(self, wish: dict[str, Any]) -> tuple[Display, dict[str, str]]:
        """Check a wish, and return the display that is to be, and the environment of its program."""
        known = {"name", "kind", "command", "program", "size", "layouts"}
        if unknown := set(wish) - known:
            raise DisplayError(400, f"A display has no {', '.join(map(repr, sorted(unknown)))}.", "unknown-field")
        program: dict[str, Any] = {}
        if wish.get("program") is not None:
            if wish.get("command"):
                raise DisplayError(400, "Ask for a program or for a command, not for both.", "command")
            offered = {offer["name"]: offer for offer in self.programs}
            if wish["program"] not in list(offered):
                raise DisplayError(400, f"The program {wish['program']!r} is not on offer.", "program")
            program = offered[wish["program"]]
        environment = program.get("environment", {})
        kind = checks.check_kind(wish.get("kind") or program.get("kind", "seamless"))
        command = program.get("command") or wish.get("command") or []
        if command:
            command = checks.check_command(command, environment.get("PATH"))
        if kind == "desktop":
            checks.check_command(self.desktop_command)
        id_ = secrets.token_hex(4)
        names = {display.name for display in self._displays.values()}
        if wish.get("name") is not None:
            name = checks.check_name(wish["name"])
        else:
            main = command or (self.desktop_command if kind == "desktop" else ["Display"])
            title = program.get("title") or Path(main[0]).name
            name = next(name for name in _numbered(title) if name not in names)
        size = checks.check_size(wish["size"], self.max_size) if wish.get("size") is not None else self.default_size
        layouts = checks.check_layouts(wish.get("layouts") or [])
        display = Display(id_, name, kind, self._url(id_), command, size, program.get("name"), layouts, largest=size)
        return display, environment

    def _url(self, display_id: str) -> str:
        return f"{self.base_url.rstrip('/')}/xpra/{display_id}/"

    async def create(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Start a display, and describe it once it runs.

        Parameters
        ----------
        wish
            `name`, `kind`, `size`, `layouts`, and either `program`, a name of the list, or `command`; all optional.

        Raises
        ------
        DisplayError
            400: the wish is none that can be granted; 409: there are too many, or the disk is full; 422: it started and
            ended at once; 503: a package is missing.
        """
        display, environment = self._wanted(wish)
        alive = sum(known.state in {"starting", "running"} for known in self._displays.values())
        if alive >= self.max_displays:
            message = f"You have {alive} display{'s' * (alive > 1)}, and no more can be had at a time. Stop one first."
            raise DisplayError(409, message, "too-many")
        self._displays[display.id] = display
        self._starting[display.id] = asyncio.Event()
        try:
            await self._start(display, environment)
        except BaseException as error:
            await self._end(display.id, "stopped", "Its start was cut off.")
            if display.id in self._displays:
                display.state, display.reason = "failed", getattr(error, "message", display.reason)
                self._forget(display)
            raise
        finally:
            self._starting.pop(display.id, None)
        return display.model()

    async def _start(self, display: Display, environment: dict[str, str]) -> None:
        started = self._starting[display.id]
        try:
            found, xvfb = await self._find()
        except xpra.XpraError as error:
            raise DisplayError(503, str(error), "packages") from error
        if display.id not in self._displays:
            raise DisplayError(422, "The display was stopped.", "stopped")
        self._announce("created", display)
        base = Path(self.directory)
        temporary, directory = base / f".{display.id}", base / display.id
        if len(os.fsencode(directory / "control.sock")) > runtime.SOCKET_PATH_BYTES:
            message = f"{base} is too long a path for sockets: the administrator should set DisplayManager.directory."
            raise DisplayError(503, message, "directory")
        sockets = None
        try:
            runtime.make_private(base)
            temporary.mkdir(mode=0o700)
            for name in ("run", "config"):
                (temporary / name).mkdir(mode=0o700)
            runtime.write_private(temporary / "Xauthority", runtime.cookie_entry(None, runtime.new_cookie()))
            runtime.write_private(temporary / "log", b" " * 4096)
            runtime.write_private(temporary / "log", b"")
            self._save(display, temporary)
            sockets = Session.listen(temporary)
            # Whoever sees it under its name can ask whose it is.
            temporary.rename(directory)
        except OSError as error:
            for sock in sockets or ():
                sock.close()
            runtime.remove(temporary)
            runtime.remove(directory)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                message = f"The disk is full: there is no room for a display in {base}. Delete some files first."
                raise DisplayError(409, message, "disk-full") from error
            raise DisplayError(409, f"{base} cannot be used: {error.strerror or error}.", "directory") from error
        session = Session(directory, lambda message: self._on_message(display.id, message), self.grace_timeout)
        self._sessions[display.id] = session
        plan = {
            "xvfb": xpra.x_command(xvfb, *display.size, self.dpi, directory / "Xauthority"),
            "xpra": found.command(display.kind, directory),
            "xpra_environment": self._xpra_environment(directory),
            "program": self.desktop_command if display.kind == "desktop" else display.command,
            "besides": display.command if display.kind == "desktop" else [],
            "environment": self._program_environment(directory) | environment,
            "title": display.name,
            "cwd": self.root_dir,
            "socket": str(directory / "xpra.sock"),
            "ends_with_program": True,
            "grace_seconds": self.grace_timeout,
            "orphan_seconds": self.orphan_timeout,
        }
        try:
            async with asyncio.timeout(self.start_timeout):
                await session.start(*sockets, plan)
                await started.wait()
                if display.state == "running" and plan["program"]:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(session.gone.wait(), PROGRAM_SECONDS)
        except TimeoutError:
            message = f"The display did not start within {self.start_timeout} seconds."
            raise DisplayError(422, message, "timeout", self._log_tail(directory)) from None
        except (OSError, SessionError) as error:
            raise DisplayError(422, f"The display could not be started: {error}.", "supervisor") from error
        if display.state != "running":
            await session.gone.wait()
            raise DisplayError(422, display.reason, display.cause, display.log)

    def _xpra_environment(self, directory: Path) -> dict[str, str]:
        """Return the environment of Xpra and of the X server: nothing of the user, no file outside the directory."""
        kept = ("PATH", "LANG", "LANGUAGE", "USER", "LOGNAME", "TZ")
        environment = {name: value for name, value in os.environ.items() if name in kept or name.startswith("LC_")}
        # Debian's configuration starts a whole desktop session.
        empty = str(directory / "config")
        for name in ("XPRA_SYSTEM_CONF_DIRS", "XPRA_DEFAULT_CONF_DIRS", "XPRA_USER_CONF_DIRS"):
            environment[name] = empty
        run = str(directory / "run")
        return environment | {
            "HOME": run,
            "XDG_RUNTIME_DIR": run,
            "TMPDIR": run,
            "XAUTHORITY": str(directory / "Xauthority"),
            # Else it starts one, or tries to.
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            runtime.MARK: directory.name,
        }

    def _program_environment(self, directory: Path) -> dict[str, str]:
        """Return the environment of a display's programs: the user's, on this display."""
        # A program that finds another desktop would open there.
        left_out = {"WAYLAND_DISPLAY", "SESSION_MANAGER", "DESKTOP_SESSION", "XDG_SESSION_TYPE"}
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        return environment | {
            "XAUTHORITY": str(directory / "Xauthority"),
            # Locked by a hard link, which homes on the network may not have.
            "ICEAUTHORITY": str(directory / "ICEauthority"),
            "XENVIRONMENT": self._resources(),
            runtime.MARK: directory.name,
        }

    def _resources(self) -> str:
        return self._inherited["XENVIRONMENT"] or str(XRESOURCES)

    # -- change and end -------------------------------------------------------------------------------------------

    async def update(self, display_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change the name, the layouts or the size of a display, or make it the default."""
        display = self._display(display_id)
        if unknown := set(changes) - {"name", "layouts", "size", "default"}:
            raise DisplayError(
                400, f"Of a display {', '.join(map(repr, sorted(unknown)))} cannot be changed.", "unknown-field"
            )
        name = checks.check_name(changes["name"]) if "name" in changes else display.name
        layouts = checks.check_layouts(changes["layouts"]) if "layouts" in changes else display.layouts
        size = checks.check_size(changes["size"], self.max_size) if "size" in changes else display.size
        if "default" in changes:
            if changes["default"] is not True:
                raise DisplayError(400, "Make another display the default one instead.", "default")
            self._running(display_id)
        if size != display.size:
            self._running(display_id)
            await self._resize(display, size)
        if "default" in changes:
            self._choose(display)
        display.name, display.layouts, display.size = name, layouts, size
        self._save(display)
        self._announce("updated", display)
        return display.model()

    async def _resize(self, display: Display, size: tuple[int, int]) -> None:
        width, height = size
        if width > display.largest[0] or height > display.largest[1]:
            largest = f"{display.largest[0]} × {display.largest[1]}"
            message = f"A display can become smaller, but this one was started with {largest}."
            raise DisplayError(409, message, "size")
        try:
            await xpra.resize(self._xpra_environment(self._sessions[display.id].directory), display.number, size)
        except xpra.XpraError as error:
            raise DisplayError(409, str(error), "size") from error

    async def delete(self, display_id: str) -> None:
        """End a display, and return when nothing of it is left."""
        self._display(display_id)
        await self._end(display_id, "stopped", "The display was stopped.")

    async def _end(self, display_id: str, cause: str, reason: str) -> None:
        session = self._sessions.get(display_id)
        if session:
            await session.stop(cause, reason)
        elif display := self._displays.get(display_id):
            display.state = "ended" if display.state == "failed" and cause == "stopped" else display.state
            self._forget(display)

    async def _end_idle(self) -> None:
        while True:
            await asyncio.sleep(min(IDLE_CHECKS_SECONDS, self.idle_timeout / 4))
            now = datetime.now(UTC)
            for display in list(self._displays.values()):
                idle = (now - display.last_activity).total_seconds()
                if display.state == "running" and idle > self.idle_timeout:
                    self.log.info("The display %s (%s) is idle", display.id, display.name)
                    minutes, seconds = divmod(self.idle_timeout, 60)
                    time_ = f"{self.idle_timeout} seconds" if seconds else f"{minutes} minute{'s' * (minutes > 1)}"
                    await self._end(display.id, "idle", f"Nobody used the display for {time_}.")

    # -- what the sessions say ------------------------------------------------------------------------------------

    async def _on_message(self, display_id: str, message: dict[str, Any]) -> None:
        session, event = self._sessions[display_id], message["event"]
        display = self._displays[display_id]
        if event == "running":
            display.state, display.number = "running", message["number"]
            # However long the start took.
            display.last_activity = datetime.now(UTC)
            self._save(display)
            self._update_authority()
            if not any(other.default for other in self._displays.values()):
                display.default = True
                self._publish_default()
                self._save(display)
            self._announce("updated", display)
            self._started(display_id)
        elif event == "ending":
            display.cause, display.reason = message["cause"], message["reason"]
            display.log = self._log_tail(session.directory)
            display.state = "ended" if display.cause in {"closed", "stopped"} else "failed"
            if display.default:
                display.default = False
                self._publish_default()
            self._announce("updated", display)
            self._started(display_id)
        elif event == "gone":
            display.log = self._log_tail(session.directory)
            await asyncio.to_thread(runtime.remove, session.directory)
            del self._sessions[display_id]
            self._update_authority()
            if display.state == "ended" or display_id in self._starting:
                self._forget(display)
            else:
                # Stays in the list for its reason, until it is deleted.
                self._announce("updated", display)

    def _started(self, display_id: str) -> None:
        if display_id in self._starting:
            self._starting[display_id].set()

    def _forget(self, display: Display) -> None:
        if self._displays.pop(display.id, None):
            self._announce("removed", display)

    def _announce(self, action: str, display: Display) -> None:
        try:
            self._emit({"action": action, "display": display.model()})
        except Exception:
            self.log.exception("The event of the display %s was not sent", display.id)

    def _save(self, display: Display, directory: Path | None = None) -> None:
        """Write the registry's record of a display."""
        record = {name: getattr(display, name) for name in RECORDED}
        if directory is None:
            if display.id not in self._sessions:
                return
            try:
                self._save(display, self._sessions[display.id].directory)
            except OSError as error:
                self.log.warning("The record of the display %s was not written: %s", display.id, error)
            return
        runtime.write_private(directory / "display.json", json.dumps(record).encode())

    @staticmethod
    def _log_tail(directory: Path) -> str:
        try:
            lines = (directory / "log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_LINES:])

    # -- kernels and terminals ------------------------------------------------------------------------------------

    def _update_authority(self) -> None:
        """Write the cookies of all running displays, each for its number, into the file that kernels are given."""
        base = Path(self.directory)
        entries = b""
        for display in self._displays.values():
            if display.state == "running" and display.number:
                with contextlib.suppress(OSError):
                    cookie = (base / display.id / "Xauthority").read_bytes()[-16:]
                    entries += runtime.cookie_entry(display.number, cookie)
        with contextlib.suppress(OSError):
            if entries:
                runtime.write_private(base / f"Xauthority-{os.getpid()}", entries)
            else:
                (base / f"Xauthority-{os.getpid()}").unlink(missing_ok=True)

    def _choose(self, display: Display) -> None:
        """Make a display the default one, which from then on does not end with its program."""
        for other in self._displays.values():
            if other.default and other is not display:
                other.default = False
                self._save(other)
                self._announce("updated", other)
        display.default = True
        self._sessions[display.id].send(do="keep")
        self._publish_default()

    def _publish_default(self) -> None:
        """Have kernels and terminals that are started from now on find the default display."""
        display = next((display for display in self._displays.values() if display.default), None)
        values = self.x_environment(display) if display else self._inherited
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def x_environment(self, display: Display) -> dict[str, str]:
        """Return what programs need to open on a display."""
        return {
            "DISPLAY": f":{display.number}",
            "XAUTHORITY": f"{self.directory}/Xauthority-{os.getpid()}",
            "XENVIRONMENT": self._resources(),
        }

    async def use(self, wanted: str = "") -> dict[str, Any]:
        """Make a display the default one and tell how to reach it; without a name the default, or a new one.

        Parameters
        ----------
        wanted
            Id or name of a display.
        """
        async with self._using:
            # Two at once get the same new display.
            return await self._use(wanted)

    async def _use(self, wanted: str) -> dict[str, Any]:
        running = [display for display in self._displays.values() if display.state == "running"]
        if wanted:
            found = [display for display in running if wanted in {display.id, display.name}]
            if not found:
                names = ", ".join(display.name for display in running) or "none"
                raise DisplayError(404, f"There is no display {wanted!r}. Running: {names}.", "unknown")
            display = found[0]
        else:
            default_ = [display for display in running if display.default]
            display = default_[0] if default_ else self._display((await self.create({}))["id"])
        self._choose(display)
        self._save(display)
        self._announce("updated", display)
        return display.model() | {"environment": self.x_environment(display)}

    # -- what the proxy and the panel ask -------------------------------------------------------------------------

    def socket(self, display_id: str) -> str:
        """Return the socket of a running display."""
        return str(self._sessions[self._running(display_id).id].directory / "xpra.sock")

    def connected(self, display_id: str, change: int) -> None:
        """Count the browsers that show a display."""
        if display := self._displays.get(display_id):
            display.clients += change
            self._announce("updated", display)

    def used(self, display_id: str) -> None:
        """Note that a user did something in a display."""
        self.last_activity = datetime.now(UTC)
        if display := self._displays.get(display_id):
            display.last_activity = self.last_activity

    async def usage(self, display_id: str) -> dict[str, Any]:
        """Tell the memory of a display in bytes, and the programs in it."""
        session = self._sessions[self._running(display_id).id]
        memory, programs = await asyncio.to_thread(session.usage)
        return {"memory": memory, "programs": programs}

    async def thumbnail(self, display_id: str) -> bytes:
        """Return a picture of a display as PNG.

        Raises
        ------
        DisplayError
            404: there is nothing to be seen, as no window is open, or no browser has shown one yet.
        """
        session = self._sessions[self._running(display_id).id]
        found, _xvfb = await self._find()
        picture = session.directory / "run" / f"{secrets.token_hex(4)}.png"
        process = await asyncio.create_subprocess_exec(
            found.path,
            "screenshot",
            str(picture),
            f"socket://{session.directory}/xpra.sock",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._xpra_environment(session.directory),
        )
        try:
            async with asyncio.timeout(SCREENSHOT_SECONDS):
                await process.wait()
            return picture.read_bytes()
        except TimeoutError:
            process.kill()
            await process.wait()
        except OSError:
            pass
        finally:
            picture.unlink(missing_ok=True)
        raise DisplayError(404, "There is nothing to be seen in this display.", "no-picture")


def _numbered(title: str) -> Iterator[str]:
    yield title
    number = 2
    while True:
        yield f"{title} {number}"
        number += 1
