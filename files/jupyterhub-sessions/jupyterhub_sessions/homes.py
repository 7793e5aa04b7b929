"""Where a session's files are, and whether that place answers.

A home on the network (EOS) may be away, and then a look at it waits for minutes in the kernel, which nothing can end.
So the hub has it looked at by another process, under the user's id and for a limited time, before a session depends on
it.

Beside a home on the network a session has a directory on the machine's own disk, for what needs locks, sockets or
speed: databases (history, signatures), caches, and packages that the user installs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import units
from .i18n import gettext as _

#: The choice of a session whose home on the network does not answer.
TEMPORARY_HOME = "temporary"
#: Name of the directory that is the home then.
TEMPORARY_DIRECTORY = "temporary-home"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
# Both lines are of GNU's stat in the language C.
_MISSING = "No such file or directory"
_DENIED = "Permission denied"


class HomeError(Exception):
    """The home cannot be used; the message is for the student."""


def _directory_of(account: pwd.struct_passwd, name: str, parent: int) -> int:
    """Open a directory of the user's, made now if it is not there.

    Raises
    ------
    OSError
        There is something else in its place.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=parent)
    directory = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    # Made just now.
    if os.fstat(directory).st_uid == os.geteuid():
        os.fchown(directory, account.pw_uid, account.pw_gid)
    return directory


@dataclass(frozen=True)
class Home:
    """Where a session's files are.

    Parameters
    ----------
    path
        $HOME, below which notebooks are.
    mount
        What the session may write to besides: the root of the network's file system, None for a home on this machine.
    local
        The user's directory on the machine's own disk, None where the home is there anyway.
    temporary
        Whether this stands in for a home on the network that does not answer.
    """

    path: Path
    mount: Path | None = None
    local: Path | None = None
    temporary: bool = False

    def environment(self, runtime_directory: str) -> dict[str, str]:
        """Return the variables that lead programs to the home, and to the local disk with what belongs there.

        Parameters
        ----------
        runtime_directory
            $XDG_RUNTIME_DIR of the session.
        """
        if self.local is None:
            return {}
        local = self.local
        variables = {
            "HOME": str(self.path),
            # For the notices of the session.
            "JUPYTERHUB_SESSIONS_LOCAL": str(local),
            "IPYTHONDIR": f"{local}/ipython",
            "JUPYTERLAB_WORKSPACES_DIR": f"{local}/state/jupyterlab-workspaces",
            # Named one by one, as Jupyter looks at $HOME first.
            "JUPYTER_DATA_DIR": f"{local}/data/jupyter",
            "JUPYTER_RUNTIME_DIR": f"{runtime_directory}/jupyter",
            "PYTHONUSERBASE": f"{local}/python",
            "XDG_CACHE_HOME": f"{local}/cache",
            "XDG_DATA_HOME": f"{local}/data",
            "XDG_STATE_HOME": f"{local}/state",
            "npm_config_cache": f"{local}/cache/npm",
        }
        if self.temporary:
            variables["JUPYTERHUB_SESSIONS_HOME"] = TEMPORARY_HOME
        return variables

    def prepare(self, account: pwd.struct_passwd) -> None:
        """Make the directories on the local disk; called by root."""
        if self.local is None:
            return
        # The user owns what is below it, and may put a link there at any moment: root goes by open directories alone.
        parent = os.open(self.local.parent, os.O_DIRECTORY)
        try:
            local = _directory_of(account, self.local.name, parent)
        finally:
            os.close(parent)
        try:
            if self.temporary:
                os.close(_directory_of(account, self.path.name, local))
        finally:
            os.close(local)
        # Its age tells `remove_unused` when the user was last here.
        os.utime(self.local)


@dataclass(frozen=True)
class NetworkHomes:
    """Homes on the network.

    Parameters
    ----------
    template
        Path of a home; `{user}`, `{initial}` (the first letter) and `{uid}` are replaced.
    local_directory
        Where each user has a directory on the machine's own disk.
    make_command
        Program that makes a home which is not there, run by root, with the template's fields and `{home}`; empty for
        none.
    seconds
        How long the storage may take to answer.
    """

    template: str
    local_directory: Path
    make_command: Sequence[str] = ()
    seconds: float = 10.0

    def _fill(self, template: str, account: pwd.struct_passwd, **further: str) -> str:
        name = account.pw_name
        return template.format(user=name, initial=name[0], uid=account.pw_uid, **further)

    def local(self, account: pwd.struct_passwd) -> Path:
        """Return the user's directory on the local disk."""
        return self.local_directory / str(account.pw_uid)

    def touch(self, account: pwd.struct_passwd) -> None:
        """Keep the user's directory on the local disk from being taken for unused."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.local(account))

    def temporary(self, account: pwd.struct_passwd) -> Home:
        """Return the home on the local disk that stands in for one that does not answer."""
        local = self.local(account)
        return Home(local / TEMPORARY_DIRECTORY, local=local, temporary=True)

    async def missing(self, account: pwd.struct_passwd) -> bool:
        """Tell whether the user's home is not there.

        Raises
        ------
        HomeError
            It does not answer, or may not be entered.
        """
        # The part that all homes have in common: the automounter mounts it, or says that it is not there.
        root = Path(os.path.dirname(self.template.partition("{")[0]))
        return await self._look(account, root, Path(self._fill(self.template, account)))

    async def find(self, account: pwd.struct_passwd) -> Home:
        """Return the user's home, made now if it is not there.

        Raises
        ------
        HomeError
            It does not answer, may not be entered, or is not there and could not be made.
        """
        home = Path(self._fill(self.template, account))
        if await self.missing(account):
            await self._make(account, home)
            if await self.missing(account):
                raise HomeError(
                    _("Your home directory %(home)s could not be made. Please tell the support.") % {"home": home}
                )
        return Home(home, mount=Path(*home.parts[:2]), local=self.local(account))

    async def _look(self, account: pwd.struct_passwd, root: Path, home: Path) -> bool:
        """Tell whether the home is missing."""
        # The slash has the directory itself looked at, beyond a link or an automounter's place.
        command = ["stat", "--format=%F", "--", f"{root}/", f"{home}/"]
        try:
            done = await units.run_as(command, self.seconds, _ENVIRONMENT, uid=account.pw_uid, gid=account.pw_gid)
        except TimeoutError:
            raise HomeError(
                _("Your files are out of reach: the storage did not answer within %(seconds)s seconds.")
                % {"seconds": f"{self.seconds:.0f}"}
            ) from None
        if done.status == 0:
            return False
        lines = done.err.splitlines()
        of_home = [line for line in lines if f"'{home}/'" in line]
        if len(lines) > len(of_home) or not of_home:
            raise HomeError(_("Your files are out of reach: the storage is not connected at the moment."))
        if _MISSING in of_home[0]:
            return True
        if _DENIED in of_home[0]:
            raise HomeError(
                _("The storage does not let you into your home directory %(home)s. Please tell the support.")
                % {"home": home}
            )
        raise HomeError(_("Your files are out of reach: the storage reports an error at the moment."))

    async def _make(self, account: pwd.struct_passwd, home: Path) -> None:
        if not self.make_command:
            raise HomeError(
                _("You have no home directory %(home)s on the storage yet. Please ask the support for one.")
                % {"home": home}
            )
        command = [self._fill(word, account, home=str(home)) for word in self.make_command]
        try:
            done = await units.run(command, self.seconds, _ENVIRONMENT)
        except OSError as error:  # a time-out among them
            raise HomeError(
                _("Your home directory %(home)s could not be made: %(reason)s")
                % {"home": home, "reason": str(error) or _("the storage did not answer in time")}
            ) from error
        if done.status:
            reason = (done.err or done.out).strip().splitlines()[-1:]
            raise HomeError(
                _("Your home directory %(home)s could not be made: %(reason)s")
                % {"home": home, "reason": reason[0] if reason else f"exit code {done.status}"}
            )


def remove_unused(directory: Path, days: float, now: float) -> list[Path]:
    """Remove the local directories of users who have had no session for so long; return them.

    A whole user's at once, since half of an installed package is worse than none. A temporary home with files in it
    stays: nobody but its user can tell whether they are elsewhere too.

    Parameters
    ----------
    directory
        That of `NetworkHomes.local_directory`.
    days
        Time since a session was last seen running.
    now
        Seconds since the epoch.
    """
    removed = []
    for local in directory.glob("[0-9]*"):
        temporary = local / TEMPORARY_DIRECTORY
        unused = local.stat().st_mtime < now - days * 86400
        if unused and not (temporary.is_dir() and any(temporary.iterdir())):
            shutil.rmtree(local)
            removed.append(local)
    return removed
