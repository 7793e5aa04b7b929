"""Spawn each session as a transient systemd unit that listens on a unix socket only."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import re
import shlex
import shutil
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from jupyterhub.httpclient import fetch
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import url_path_join, utcnow
from systemdspawner import SystemdSpawner
from traitlets import Float, Integer, List, Unicode

from . import units
from .choices import ChoiceError
from .form import FormSpawner
from .homes import TEMPORARY_HOME, Home, HomeError, NetworkHomes, remove_unused
from .i18n import gettext as _

# Jupyter Server refuses a socket beside a port that is not its default one, and the single-user extension always
# sets the port of JUPYTERHUB_SERVICE_URL.
JUPYTER_SERVER_DEFAULT_PORT = 8888


def unit_name(user: str, server: str = "") -> str:
    """Name the unit of a user's server.

    The colon, which no account name can contain (passwd(5)), keeps the server `b` of the user `a` apart from the
    default server of a user `a-b`. Other characters that unit names do not allow are escaped as systemd-escape(1) does.
    """
    escaped = re.sub(r"[^A-Za-z0-9_.-]", lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), user)
    return f"jupyter-{escaped}:{server}.service" if server else f"jupyter-{escaped}.service"


class SystemdSessionSpawner(FormSpawner, SystemdSpawner):
    """Run a user's session as a systemd unit in a sandbox, reached through a unix socket.

    Differs from SystemdSpawner where a shared server needs it: the unit is named by user and server, nothing of a
    session listens on TCP, a start is over when the server answers or its unit has ended, and the reason of a failure
    reaches the student.
    """

    session_dir = Unicode("/run/jupyterhub-sessions", help="Where each session has the directory of its socket.").tag(
        config=True
    )
    environment_dir = Unicode(
        "/run/jupyterhub/environment",
        help="Where the sessions' environments are handed to systemd; only root may read it, as they hold tokens.",
    ).tag(config=True)
    ends_dir = Unicode(
        "/run/jupyterhub/ends", help="Where sessions read when their time is over, as it can be extended."
    ).tag(config=True)
    socket_group = Unicode("chp", help="Group that may open the sessions' sockets: the proxy's.").tag(config=True)
    pam_service = Unicode("jupyterhub", help="PAM service whose session part the unit runs.").tag(config=True)
    hidden_paths = List(
        Unicode(),
        ["/home", "/root", "/run/user", "/var/lib/jupyterhub", "/etc/jupyterhub"],
        help="Directories a session sees as empty, but for the user's own home.",
    ).tag(config=True)
    home_template = Unicode(
        help="Homes on the network, with {user}, {initial} and {uid}; empty: the account's own home on this machine."
    ).tag(config=True)
    home_command = List(Unicode(), help="Makes a home on the network that is not there; run by root.").tag(config=True)
    home_seconds = Float(10.0, help="Seconds that homes on the network may take to answer.").tag(config=True)
    local_directory = Unicode(
        "/var/lib/jupyterhub-local",
        help="Where the users of homes on the network have a directory on the machine's own disk.",
    ).tag(config=True)
    local_days = Float(90.0, help="Days without a session after which that is removed; 0 never removes one.").tag(
        config=True
    )
    desktop_cmd = List(
        Unicode(), ["jupyter-xpra-desktop"], help="What a session of the kind `desktop` runs in place of `cmd`."
    ).tag(config=True)
    stack_shell = List(
        Unicode(), ["use-stack"], help="Opens a shell in the software stack whose name is appended."
    ).tag(config=True)
    desktop_shell = Unicode(
        "stack-shell", help="Absolute path of the shell of a desktop in the software stack of its session."
    ).tag(config=True)
    path = Unicode("/usr/local/bin:/usr/bin:/bin", help="$PATH of the sessions.").tag(config=True)
    tasks_limit = Integer(1024, help="Most processes and threads of a session.").tag(config=True)
    idle_seconds = Integer(
        0,
        help="Seconds without activity after which the culler ends a session, as sessions tell their users; 0: never.",
    ).tag(config=True)
    stop_timeout = Integer(15, help="Seconds a session has to end by itself.").tag(config=True)
    failure_lines = Integer(20, help="Lines of the journal shown to the student when a start fails.").tag(config=True)

    #: When `_clean_up` last ran, in seconds since the epoch.
    _cleaned = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unit_name = unit_name(self.user.name, self.name)
        self.port = JUPYTER_SERVER_DEFAULT_PORT
        #: Why the last session ended, when not by the student's wish; shown on the page that offers to start again.
        self.stopped_reason = ""
        #: What the session wrote last, when it did not start.
        self.log_tail = ""
        #: Whether the session that runs, or ran last, has a temporary home.
        self.temporary_home = False
        #: Whether a start that failed may succeed with one.
        self.offers_temporary_home = False
        self._home: Home | None = None
        self._progress_events: list[dict[str, Any]] = []

    # -- state kept by the hub ------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Keep the reason of the last end and the kind of home besides the unit's name."""
        state: dict[str, Any] = super().get_state()
        if self.stopped_reason:
            state["stopped_reason"] = self.stopped_reason
        if self.temporary_home:
            state["temporary_home"] = True
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` kept."""
        super().load_state(state)
        self.stopped_reason = state.get("stopped_reason", "")
        self.temporary_home = state.get("temporary_home", False)

    # -- where things are -----------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        """Name of the session's files: lower case, since the hub keeps the host part of a URL in lower case."""
        uid = self._account().pw_uid
        return f"{uid}-{self.name}" if self.name else str(uid)

    @property
    def socket(self) -> Path:
        """Path of the session's socket, of at most 107 bytes (unix(7))."""
        return Path(self.session_dir) / self._key / "server.sock"

    @property
    def _environment_file(self) -> Path:
        return Path(self.environment_dir) / f"{self._key}.env"

    @property
    def _ends_file(self) -> Path:
        return Path(self.ends_dir) / self._key

    def _account(self) -> pwd.struct_passwd:
        """Return the Unix account of the user.

        Raises
        ------
        SpawnException
            There is no such account on this machine.
        """
        try:
            return pwd.getpwnam(self.user.name)
        except KeyError:
            raise SpawnException(
                _("There is no account %(user)s on the server. Please tell the administrators.")
                % {"user": self.user.name},
                reason="account",
            ) from None

    # -- where the files are --------------------------------------------------------------------------------------

    def has_network_homes(self) -> bool:
        """Tell whether homes are on the network, which may be away."""
        return bool(self.home_template)

    def _network_homes(self) -> NetworkHomes | None:
        if not self.home_template:
            return None
        return NetworkHomes(self.home_template, Path(self.local_directory), self.home_command, self.home_seconds)

    async def find_home(self) -> Home:
        """Return the home of the session that is about to start.

        Raises
        ------
        SpawnException
            There is none to be had just now; the message is for the student.
        """
        account = self._account()
        homes = self._network_homes()
        if homes is None:
            return Home(Path(account.pw_dir))
        if self.user_options.get("home") == TEMPORARY_HOME:
            return homes.temporary(account)
        try:
            return await homes.find(account)
        except HomeError as error:
            self.offers_temporary_home = True
            raise SpawnException(str(error), reason="home") from error

    # -- start ----------------------------------------------------------------------------------------------------

    async def find_stack(self) -> None:
        """Look once more for the stack that was chosen.

        Raises
        ------
        SpawnException
            It does not answer any more; the message is for the student.
        """
        if self.choice.stack is None:
            return
        self._report(15, _("Looking for %(stack)s") % {"stack": self.choice.stack.display_name})
        try:
            await self.look(self.choice.stack, self.stack_start_seconds)
        except ChoiceError as error:
            raise SpawnException(str(error), reason="stack") from error

    @property
    def _is_desktop(self) -> bool:
        return self.choice.kind.name == "desktop"

    def _command(self) -> list[str]:
        """Return what the unit runs."""
        words = self.desktop_cmd if self._is_desktop else self.cmd
        return [*(self._expand_user_vars(word) for word in words), *self.get_args()]

    def get_args(self) -> list[str]:
        """Tell the server to listen on the session's socket, which its group may open."""
        args = [self._expand_user_vars(word) for word in super().get_args()]
        if self._is_desktop:
            return [*args, f"--socket={self.socket}", "--socket-mode=0660"]
        args += [f"--ServerApp.sock={self.socket}", "--ServerApp.sock_mode=0660"]
        if self.choice.stack is not None:
            settings = {"shell_command": [*self.stack_shell, self.choice.stack.name]}
            args.append(f"--ServerApp.terminado_settings={settings!r}")
        return args

    def get_env(self) -> dict[str, str]:
        """Add the search path and the user's shell to JupyterHub's environment of the session."""
        env: dict[str, str] = super().get_env()
        shell = self._account().pw_shell
        env["SHELL"] = shell if os.access(shell, os.X_OK) and not shell.endswith(("nologin", "false")) else "/bin/bash"
        env["PATH"] = self.path
        # Private like /tmp, but on the disk: Debian 13 has /tmp in memory, where it counts against the session's limit.
        env["TMPDIR"] = "/var/tmp"  # noqa: S108
        env["XDG_RUNTIME_DIR"] = runtime = f"/run/jupyter-{self._key}"
        if self.choice.stack is not None:
            # For the kernels (kernels.py) and the desktop's terminals, which run $SHELL.
            env["JUPYTERHUB_SESSIONS_STACK"] = self.choice.stack.name
            if self._is_desktop:
                env["SHELL"] = self.desktop_shell
        if self.idle_seconds:
            env["JUPYTERHUB_SESSIONS_IDLE_S"] = str(self.idle_seconds)
            # What is done is reported often enough for it.
            env["JUPYTERHUB_ACTIVITY_INTERVAL"] = str(max(1, min(300, self.idle_seconds // 6)))
        if self.session.ends:
            env["JUPYTERHUB_SESSIONS_ENDS"] = str(self._ends_file)
        if self._home is not None:
            env |= self._home.environment(runtime)
        return env

    def _properties(self) -> dict[str, str | list[str]]:
        """Return the properties of the session's unit: systemd.exec(5), systemd.resource-control(5)."""
        home = self._home or Home(Path(self._account().pw_dir))
        directory = self._expand_user_vars(self.user_workingdir) if self.user_workingdir else home.path
        # Of homes on the network the whole file system, whose server says who may write where. systemd looks at paths
        # as root, which has no rights there; and what the automounter mounts later is as what is mounted already.
        own = [path for path in (home.mount or home.path, home.local) if path is not None]
        properties: dict[str, str | list[str]] = {
            # Left out: Type=exec. With a PAM session its start never ends: the PAM process keeps the pipe open by whose
            # end systemd knows that the program runs (seen with systemd 252).
            "Description": f"Jupyter session of {self.user.name}" + (f" ({self.name})" if self.name else ""),
            "WorkingDirectory": f"-{directory}",
            "EnvironmentFile": str(self._environment_file),
            "PAMName": self.pam_service,
            "RuntimeDirectory": f"jupyter-{self._key}",
            "RuntimeDirectoryMode": "0700",
            "TimeoutStopSec": str(self.stop_timeout),
            # A kernel that is killed for want of memory must not take its neighbours and the server along.
            "OOMPolicy": "continue",
            "TasksMax": str(self.tasks_limit),
            "PrivateTmp": "yes",
            "PrivateDevices": "yes",
            "ProtectSystem": "strict",
            "ReadWritePaths": [*(f"-{path}" for path in own), str(self.socket.parent)],
            "NoNewPrivileges": "yes",
            "CapabilityBoundingSet": "",
            "ProtectProc": "invisible",
            "ProtectClock": "yes",
            "ProtectControlGroups": "yes",
            "ProtectHostname": "yes",
            "ProtectKernelLogs": "yes",
            "ProtectKernelModules": "yes",
            "ProtectKernelTunables": "yes",
            "RestrictSUIDSGID": "yes",
            "RestrictRealtime": "yes",
            "LockPersonality": "yes",
        }
        hidden = [*self.hidden_paths, self.local_directory]
        properties["TemporaryFileSystem"] = [f"{path}:ro,mode=0755" for path in hidden if Path(path).is_dir()]
        bound = [str(path) for path in own if any(path.is_relative_to(hiding) for hiding in hidden)]
        if bound:
            properties["BindPaths"] = bound
        if self.mem_limit is not None:
            # Without the second line the limit would only move the session's memory to the swap space.
            properties |= {"MemoryMax": str(self.mem_limit), "MemorySwapMax": "0"}
        if self.cpu_limit is not None:
            properties["CPUQuota"] = f"{int(self.cpu_limit * 100)}%"
        if self.choice.profile is not None and self.choice.profile.hours:
            # What the hub ends earlier, unless it is extended, ends then even without the hub.
            properties["RuntimeMaxSec"] = f"{self.choice.profile.most_hours * 3600:.0f}"
        for name, value in self.unit_extra_properties.items():
            values = value if isinstance(value, list) else [value]
            properties[name] = [self._expand_user_vars(item) for item in values]
        return properties

    def _prepare_files(self) -> None:
        """Make the socket's directory and hand the environment to systemd."""
        account = self._account()
        directory = self.socket.parent
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        # The hub appends the port 80 to the address it hands the proxy, which takes it for a part of the file's name.
        Path(f"{self.socket}:80").symlink_to(self.socket.name)
        os.chown(directory, account.pw_uid, grp.getgrnam(self.socket_group).gr_gid)
        # The set-group-ID bit gives the socket the proxy's group, which the user is no member of; others see nothing.
        directory.chmod(0o2710)

        environment = self._environment_file
        environment.parent.mkdir(mode=0o700, exist_ok=True)
        environment.unlink(missing_ok=True)
        with open(environment, "x", opener=lambda path, flags: os.open(path, flags, 0o400)) as file:
            file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in sorted(self.get_env().items()))

        self._tell_end()

    def _tell_end(self) -> None:
        """Tell the session when its time is over, in one step, as it may read just now."""
        if not self.session.ends:
            return
        new = self._ends_file.with_name(f"{self._ends_file.name}.new")
        new.write_text(f"{self.session.ends:.0f} {self.session.latest:.0f}\n")
        new.chmod(0o644)
        new.rename(self._ends_file)

    def extend(self, now: float) -> None:
        """Give the session more time, and tell it."""
        super().extend(now)
        self._tell_end()

    def _remove_files(self) -> None:
        self._ends_file.unlink(missing_ok=True)
        shutil.rmtree(self.socket.parent, ignore_errors=True)
        self._environment_file.unlink(missing_ok=True)

    def _report(self, percent: int, message: str) -> None:
        self._progress_events.append({"progress": percent, "message": message})

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what the start is doing, for each page that waits for it; the hub ends it with the start."""
        seen = 0
        while True:
            for event in self._progress_events[seen:]:
                seen += 1
                yield event
            await asyncio.sleep(0.2)

    async def start(self) -> str:
        """Start the session and return its address once it answers.

        Raises
        ------
        SpawnException
            The unit could not be started, or ended before it answered; the message is for the student and carries the
            exit code and the last lines of the journal.
        """
        self.stopped_reason = self.log_tail = ""
        self.offers_temporary_home = False
        self._progress_events.clear()
        self._report(10, _("Preparing your session"))
        # Left over when the hub lost its database, or from a start that was cut off.
        await units.stop(self.unit_name)
        await self.find_stack()
        if self.home_template:
            self._report(20, _("Looking for your files"))
        self._home = await self.find_home()
        self.temporary_home = self._home.temporary
        self._home.prepare(self._account())
        self.session = self.described(time.time())
        self._prepare_files()
        self._report(30, _("Starting the server"))
        account = self._account()
        try:
            await units.start(
                self.unit_name,
                self._command(),
                uid=account.pw_uid,
                gid=account.pw_gid,
                slice_=self.slice or "jupyter.slice",
                properties=self._properties(),
            )
        except units.UnitError as error:
            self.log.error("%s could not be started: %s", self.unit_name, error)
            raise await self._failure() from error
        self._report(60, _("Waiting for the server to answer"))
        await self._wait_answering()
        if self.home_template and self.local_days:
            await self._clean_up()
        self._report(90, _("The server answers"))
        return f"http+unix://{quote(str(self.socket), safe='')}"

    async def _clean_up(self) -> None:
        """Remove what long-gone users left on the local disk, at most once a day: it needs no timer of its own."""
        now = time.time()
        if now < SystemdSessionSpawner._cleaned + 86400:
            return
        SystemdSessionSpawner._cleaned = now
        try:
            removed = await asyncio.to_thread(remove_unused, Path(self.local_directory), self.local_days, now)
        except OSError as error:
            self.log.error("The local directories of users could not be cleaned up: %s", error)
        else:
            for path in removed:
                self.log.info("Removed %s: no session for %s days", path, self.local_days)

    async def _wait_answering(self) -> None:
        """Return when the server answers; the hub's own time limit cancels the wait.

        Raises
        ------
        SpawnException
            The unit ended first.
        """
        url = url_path_join(f"http+unix://{quote(str(self.socket), safe='')}", self.server.base_url, "api")
        while True:
            # Asking systemd costs a process: do it once a second, and look at the socket more often.
            if not (await units.show(self.unit_name)).running:
                raise await self._failure()
            for _attempt in range(20):
                if self.socket.is_socket():
                    try:
                        await fetch(url, raise_for_status=False, allow_redirects=False)
                        return
                    except aiohttp.ClientError:
                        pass
                await asyncio.sleep(0.05)

    async def _failure(self) -> SpawnException:
        """Say why the start failed, with what the unit wrote last."""
        state = await units.show(self.unit_name)
        self.log_tail = log = await units.journal(state.invocation, self.failure_lines)
        message = _("Your session ended while it was starting (exit code %(code)s).") % {"code": state.exit_code}
        if state.result == "oom-kill":
            message = self._reason(state)
        failure = SpawnException(message, reason="session-ended", log_message=f"{message}\n{log}")
        # For the pages that are told the exception alone.
        failure.log_tail = log
        return failure

    # -- watch and stop -------------------------------------------------------------------------------------------

    def _reason(self, state: units.UnitState) -> str:
        """Say to the student why a unit ended, or nothing where it ended as it should."""
        if state.result == "oom-kill":
            limit = self.session.memory_mb or (self.mem_limit or 0) // 2**20
            if not limit:
                return _("Your session was ended because the server ran out of memory.")
            return _("Your session reached its memory limit of %(limit)s MiB and was ended.") % {"limit": limit}
        if state.result == "timeout" and 0 < self.session.latest <= time.time() + 60:
            return self._time_over()
        if state.result in {"success", ""}:
            return ""
        return _("Your session ended unexpectedly (exit code %(code)s).") % {"code": state.exit_code}

    def _is_idle(self) -> bool:
        """Tell whether nobody used the session for so long that the culler ends it."""
        last = self.orm_spawner.last_activity
        return bool(self.idle_seconds and last and (utcnow(with_tz=False) - last).total_seconds() >= self.idle_seconds)

    def _time_over(self) -> str:
        return _("Your session was ended because its time was over. Saved files are kept.")

    async def poll(self) -> int | None:
        """Return None while the unit runs, else the exit code of its server (0 when nothing is known of it)."""
        state = await units.show(self.unit_name)
        if state.running:
            homes = self._network_homes()
            if homes is not None:
                homes.touch(self._account())
            if not 0 < self.session.ends <= time.time():
                return None
            await units.stop(self.unit_name)
            self.stopped_reason = self._time_over()
            return 0
        self.stopped_reason = self._reason(state) or self.stopped_reason
        return state.exit_code

    async def memory_in_use(self) -> int | None:
        """Return the bytes that the session's programs use, without what Linux keeps of files for them."""
        return await units.memory_in_use(self.unit_name)

    async def stop(self, now: bool = False) -> None:
        """End every process of the session and remove its files."""
        if not self.ready:
            # A start that took too long: its page shows what the session wrote last.
            state = await units.show(self.unit_name)
            self.log_tail = self.log_tail or await units.journal(state.invocation, self.failure_lines)
        elif self._is_idle():
            self.stopped_reason = _("Your session was ended because nobody used it. Saved files are kept.")
        await units.stop(self.unit_name)
        self._remove_files()
