"""What a user may choose for a session, and what comes of it: the rules alone, without JupyterHub.

The same rules hold for the form, for addresses with `opt-…`, and for the hub's API.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .homes import TEMPORARY_HOME
from .i18n import N_, decimal
from .i18n import gettext as _
from .stacks import Stack

#: The stack of a session that takes none: the users' own environment on the server.
LOCAL = "local"


class ChoiceError(Exception):
    """A choice is refused; the message is for the student."""


def missing(stack: Stack) -> str:
    """Say why a stack cannot be used."""
    return _("%(stack)s is not available: %(repository)s does not answer, or does not have %(path)s any more.") % {
        "stack": stack.display_name,
        "repository": stack.repository,
        "path": stack.path,
    }


@dataclass(frozen=True)
class Kind:
    """A kind of session.

    Parameters
    ----------
    name
        In options and addresses.
    title, note
        For people; to be translated.
    page
        Where it opens, below the session's address.
    """

    name: str
    title: str
    note: str
    page: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("lab", "JupyterLab", N_("Notebooks, files and terminals side by side"), "/lab"),
        Kind("notebook", N_("Notebook"), N_("One notebook at a time, and nothing else"), "/tree"),
        Kind("desktop", N_("Desktop"), N_("Programs with windows, without a notebook"), "/"),
    )
}


@dataclass(frozen=True)
class Profile:
    """A size of sessions.

    Parameters
    ----------
    name
        In options and addresses.
    title
        For people; the name where it is empty.
    memory_mb
        Most memory in MiB.
    cpus
        Most processor time, in CPUs.
    hours
        Hours after which the session ends, unless the user extends it; 0 for no end.
    max_hours
        Hours up to which it can be extended; 0 for not at all.
    groups
        Unix groups whose members may take it; none for everybody.
    """

    name: str
    title: str = ""
    memory_mb: int = 0
    cpus: float = 0.0
    hours: float = 0.0
    max_hours: float = 0.0
    groups: tuple[str, ...] = ()

    @property
    def most_hours(self) -> float:
        """Hours that a session can last; 0 for no end."""
        return max(self.hours, self.max_hours) if self.hours else 0.0

    @property
    def note(self) -> str:
        """Say what it offers."""
        parts = [
            _("%(memory)s of memory") % {"memory": gib(self.memory_mb * 2**20)},
            _("%(cpus)s CPU") % {"cpus": decimal(self.cpus)},
        ]
        if self.most_hours > self.hours:
            hours = {"hours": decimal(self.hours), "most": decimal(self.most_hours)}
            parts.append(_("%(hours)s h, can be extended to %(most)s h") % hours)
        elif self.hours:
            parts.append(_("up to %(hours)s h") % {"hours": decimal(self.hours)})
        return " · ".join(parts)


@dataclass(frozen=True)
class Choice:
    """What a session is to be; no profile is the hub's own limits."""

    kind: Kind
    stack: Stack | None = None
    profile: Profile | None = None


@dataclass(frozen=True)
class Offer:
    """What one user may choose just now.

    Parameters
    ----------
    kinds
        The kinds of session; the first is taken where none is chosen.
    stacks
        The stacks, besides the users' own environment.
    profiles
        The sizes that the user may have, in order.
    others
        Those of other people.
    temporary_home
        Whether a session may have a temporary home.
    """

    kinds: Sequence[Kind]
    stacks: Sequence[Stack] = ()
    profiles: Sequence[Profile] = ()
    others: Sequence[Profile] = ()
    temporary_home: bool = False

    @property
    def open(self) -> bool:
        """Tell whether there is anything to choose."""
        return len(self.kinds) > 1 or len(self.stacks) > 0 or len(self.profiles) > 1

    def check(self, options: Mapping[str, Any]) -> Choice:
        """Return what comes of options; what they leave open is the first on offer.

        Raises
        ------
        ChoiceError
            Something is not on offer; the message says what was found, and what is.
        """
        for name, value in options.items():
            if name not in {"kind", "stack", "profile", "home"} or not isinstance(value, str):
                raise ChoiceError(_("A session has no choice %(choice)s.") % {"choice": f"{name}={value}"})
        if "home" in options:
            self._check_home(options["home"])
        kinds = {kind.name: kind for kind in self.kinds}
        kind = options.get("kind", self.kinds[0].name)
        if kind not in kinds:
            message = _("There is no kind of session “%(given)s” here. You may choose: %(known)s.")
            raise ChoiceError(message % {"given": kind, "known": ", ".join(kinds)})
        stacks = {stack.name: stack for stack in self.stacks}
        stack = options.get("stack", LOCAL)
        if stack not in {LOCAL, *stacks}:
            message = _("There is no software stack “%(given)s” here. You may choose: %(known)s.")
            raise ChoiceError(message % {"given": stack, "known": ", ".join([LOCAL, *stacks])})
        return Choice(kinds[kind], stacks.get(stack), self._profile(options.get("profile")))

    def _check_home(self, home: str) -> None:
        if home != TEMPORARY_HOME:
            raise ChoiceError(_("A session has no choice %(choice)s.") % {"choice": f"home={home}"})
        if not self.temporary_home:
            raise ChoiceError(_("There is no temporary home here: homes are on this server anyway."))

    def _profile(self, name: str | None) -> Profile | None:
        own = {profile.name: profile for profile in self.profiles}
        others = {profile.name: profile for profile in self.others}
        if name is None:
            if others and not own:
                raise ChoiceError(_("There is no size of session for you here. Please ask the support."))
            return next(iter(own.values()), None)
        if name in others:
            message = _("The size “%(given)s” is for members of %(groups)s alone. You may choose: %(known)s.")
            groups = ", ".join(others[name].groups)
            raise ChoiceError(message % {"given": name, "groups": groups, "known": ", ".join(own) or "–"})
        if name not in own:
            message = _("There is no size “%(given)s” here. You may choose: %(known)s.")
            raise ChoiceError(message % {"given": name, "known": ", ".join(own) or "–"})
        return own[name]


# -- what is free -----------------------------------------------------------------------------------------------------


def gib(size: float) -> str:
    """Write a number of bytes for people."""
    if size < 2**30:
        return _("%(size)s MiB") % {"size": f"{size / 2**20:.0f}"}
    return _("%(size)s GiB") % {"size": decimal(round(size / 2**30, 1))}


@dataclass(frozen=True)
class Machine:
    """What a machine has, and what of it is free.

    Parameters
    ----------
    memory, memory_free
        Bytes that programs can have.
    cpus, cpus_free
        Processors; free are those that nothing waited for in the last minute.
    """

    memory: int
    memory_free: int
    cpus: int
    cpus_free: float

    @classmethod
    def read(cls, meminfo: Path = Path("/proc/meminfo"), loadavg: Path = Path("/proc/loadavg")) -> Machine:
        """Look at this machine (proc(5))."""
        sizes = {name: int(rest.split()[0]) * 1024 for name, _colon, rest in _lines(meminfo)}
        cpus = os.cpu_count() or 1
        load = float(loadavg.read_text().split()[0])
        return cls(sizes["MemTotal"], sizes["MemAvailable"], cpus, max(0.0, cpus - load))


def _lines(file: Path) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in file.read_text().splitlines() if ":" in line]
