"""The session form: ask what to start, refuse what cannot be had, and remember what was chosen.

A part of a spawner. JupyterHub shows the form before a start, hands over what was chosen there, in an address (`opt-…`)
or through its API, and keeps it for the next start. Where there is nothing to choose, no form is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, Template
from jupyterhub.spawner import Spawner
from jupyterhub.utils import url_path_join
from sqlalchemy.orm import object_session
from tornado import web
from tornado.httputil import HTTPServerRequest, url_concat
from traitlets import Dict, Enum, Float, List, Unicode, default

from . import accounts, pages, stacks
from .choices import KINDS, LOCAL, Choice, ChoiceError, Machine, Offer, Profile, missing
from .homes import TEMPORARY_HOME


@dataclass(frozen=True)
class Session:
    """What a session that runs, or ran last, is: for people, and kept over a restart of the hub.

    Parameters
    ----------
    kind, stack, profile
        Titles of what was chosen; empty where there was no choice, or a stack was not taken.
    memory_mb
        Its limit of memory in MiB, 0 for none.
    ends
        When its time is over, in seconds since the epoch; 0 for never.
    latest
        When it is over at the latest, however often it is extended.
    term_s
        Seconds from now on that an extension gives.
    """

    kind: str = ""
    stack: str = ""
    profile: str = ""
    memory_mb: int = 0
    ends: float = 0.0
    latest: float = 0.0
    term_s: float = 0.0

    @property
    def extendable(self) -> bool:
        """Tell whether it can have more time, were it over now."""
        return bool(self.ends) and self.ends < self.latest

    def extended(self, now: float) -> Session:
        """Return it with as much time as it can have."""
        return replace(self, ends=max(self.ends, min(now + self.term_s, self.latest)))


class FormSpawner(Spawner):
    """Ask the user what to start."""

    kinds = List(
        Enum(tuple(KINDS)), ["lab"], minlen=1, help="Kinds of session on offer; the first is the default."
    ).tag(config=True)
    profiles = List(
        Dict(),
        help="Sizes on offer, each {name, title, memory_mb, cpus, hours, groups}; none: mem_limit and cpu_limit hold.",
    ).tag(config=True)
    place = Unicode(help="Name of the machine where sessions run, as people know it.").tag(config=True)
    stack_seconds = Float(2.0, help="Seconds that the form waits for software stacks to answer.").tag(config=True)
    stack_start_seconds = Float(25.0, help="Seconds that a start waits: a first look mounts the repository.").tag(
        config=True
    )

    #: What the session that starts is to be.
    choice = Choice(KINDS["lab"])
    #: What the session is that runs, or ran last.
    session = Session()

    @default("place")
    def _place(self) -> str:
        return socket.gethostname()

    # How it is done is another class's; JupyterHub wants these three of every spawner.

    async def start(self) -> str:
        """Start the session."""
        raise NotImplementedError

    async def poll(self) -> int | None:
        """Tell how the session ended."""
        raise NotImplementedError

    async def stop(self, now: bool = False) -> None:
        """Stop the session."""
        raise NotImplementedError

    # -- what there is --------------------------------------------------------------------------------------------

    def has_network_homes(self) -> bool:
        """Tell whether homes are on the network, which may be away: then a session may have a temporary one."""
        return False

    def belongs(self, groups: Iterable[str]) -> bool:
        """Tell whether the user is a member of one of the groups; may block."""
        return bool(accounts.in_groups(self.user.name, groups))

    async def offer(self) -> Offer:
        """Return what the user may choose."""
        profiles = [Profile(**{**fields, "groups": tuple(fields.get("groups", ()))}) for fields in self.profiles]
        may = await asyncio.gather(*(self._may_have(profile) for profile in profiles))
        own = [profile for profile, mine in zip(profiles, may, strict=True) if mine]
        others = [profile for profile in profiles if profile not in own]
        return Offer(
            kinds=[KINDS[name] for name in self.kinds],
            stacks=[stack for stack in stacks.stacks() if stack.session],
            profiles=own,
            others=others,
            temporary_home=self.has_network_homes(),
        )

    async def _may_have(self, profile: Profile) -> bool:
        if not profile.groups:
            return True
        # A directory that does not answer makes nobody wait for long, and nobody a member.
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.to_thread(self.belongs, profile.groups), 5.0)
        return False

    async def look(self, stack: stacks.Stack, seconds: float) -> None:
        """Look whether a stack is there.

        Raises
        ------
        ChoiceError
            It is not, or does not answer in time.
        """
        if not (await are_there([stack.path], seconds))[stack.path]:
            raise ChoiceError(missing(stack))

    # -- what is chosen -------------------------------------------------------------------------------------------

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return self.take_options

    @default("apply_user_options")
    def _apply_user_options(self) -> Any:
        return FormSpawner.apply_options

    def take_options(self, fields: Mapping[str, list[Any]]) -> Coroutine[Any, Any, dict[str, Any]]:
        """Take what a form or an address gives, each with a list of values; awaited, it has been checked.

        Raises
        ------
        tornado.web.HTTPError
            400, with what was found.
        """
        options = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
        # Here, as what is awaited runs in a context of its own.
        pages.asked.set(pages.Asked(self, options))
        return self._checked(options)

    async def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        try:
            choice = (await self.offer()).check(options)
            if choice.stack is not None:
                await self.look(choice.stack, self.stack_seconds)
        except ChoiceError as error:
            raise refusal(error) from error
        return options

    async def apply_options(self, options: dict[str, Any]) -> None:
        """Make the options of a start those of the session, whoever gave them.

        Raises
        ------
        tornado.web.HTTPError
            400, with what was found.
        """
        try:
            self.choice = choice = (await self.offer()).check(options)
        except ChoiceError as error:
            # The hub has kept them already, and would take them for the next start.
            self.forget_options()
            raise refusal(error) from error
        if "home" in options:
            # For this once: the next start looks for the real one again.
            self.forget_options("home")
        self.default_url = choice.kind.page
        if choice.profile is not None:
            self.mem_limit = choice.profile.memory_mb * 2**20
            self.cpu_limit = choice.profile.cpus

    def forget_options(self, *names: str) -> None:
        """Forget what was chosen: options by name, or all."""
        options = self.orm_spawner.user_options or {}
        self.orm_spawner.user_options = {name: options[name] for name in options if names and name not in names}
        self._commit()

    def _commit(self) -> None:
        # At once, as each handler that ends takes back what is not committed.
        database = object_session(self.orm_spawner)
        assert database
        database.commit()

    def described(self, now: float) -> Session:
        """Describe the session that starts now."""
        profile = self.choice.profile or Profile("")
        return Session(
            kind=self.choice.kind.name,
            stack=self.choice.stack.display_name if self.choice.stack else "",
            profile=profile.title or profile.name,
            memory_mb=(self.mem_limit or 0) // 2**20,
            ends=now + profile.hours * 3600 if profile.hours else 0.0,
            latest=now + profile.most_hours * 3600 if profile.hours else 0.0,
            term_s=profile.hours * 3600,
        )

    def extend(self, now: float) -> None:
        """Give the session more time, as far as it can have it, and keep that."""
        self.session = self.session.extended(now)
        self.orm_spawner.state = self.get_state()
        self._commit()

    # -- state kept by the hub ------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Keep what the session is."""
        state: dict[str, Any] = super().get_state()
        if self.session != Session():
            state["session"] = asdict(self.session)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` kept."""
        super().load_state(state)
        self.session = Session(**state.get("session", {}))

    # -- the pages ------------------------------------------------------------------------------------------------

    async def memory_in_use(self) -> int | None:
        """Return the bytes that the session's programs use, None where it is not known."""
        return None

    def _remembered(self, offer: Offer) -> dict[str, Any]:
        """Return the options of the last start: of this session or, where it had none, of the user's latest."""
        sessions = sorted(
            self.user.orm_user._orm_spawners,
            key=lambda orm: (orm.name == self.name, orm.started is not None, orm.started or orm.id),
            reverse=True,
        )
        for options in (orm.user_options for orm in sessions if orm.user_options):
            with contextlib.suppress(ChoiceError):
                offer.check(options)
                return dict(options)
        return {}

    async def get_options_form(self) -> str:
        """Return the form, or nothing where there is nothing to choose and nothing was refused."""
        offer = await self.offer()
        asked = pages.asked.get()
        if asked is None and not offer.open:
            try:
                offer.check(self.orm_spawner.user_options or {})
            except ChoiceError:
                # No longer on offer.
                self.forget_options()
            return ""
        options = self._remembered(offer) if asked is None else dict(asked.options)
        paths = [stack.path for stack in offer.stacks]
        there = await are_there(paths, self.stack_seconds)
        available = [LOCAL, *(stack.name for stack in offer.stacks if there[stack.path])]
        machine = Machine.read()
        return template().render(
            session_name=(asked.spawner if asked else self).display_name,
            offer=offer,
            local=LOCAL,
            available=available,
            chosen={
                "kind": _one_of(options.get("kind"), [kind.name for kind in offer.kinds]),
                "stack": _one_of(options.get("stack"), available),
                "profile": _one_of(options.get("profile"), [profile.name for profile in offer.profiles]),
            },
            temporary_home=offer.temporary_home and options.get("home") == TEMPORARY_HOME,
            place=self.place,
            machine=machine,
        )


async def are_there(paths: Iterable[str], seconds: float) -> dict[str, bool]:
    """Tell which paths are there; one that does not answer in this time is not.

    Without a thread that waits: however many students see the form while a file system is silent, nobody queues.
    """
    events = {path: stacks.AVAILABILITY.start(path) for path in paths}
    end = time.monotonic() + seconds
    while not all(event.is_set() for event in events.values()) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return {path: event.is_set() and bool(stacks.AVAILABILITY.known(path)) for path, event in events.items()}


def _one_of(value: Any, known: list[str]) -> str:
    """Return a value that is known, or the first that is."""
    return value if value in known else next(iter(known), "")


def refusal(error: ChoiceError) -> web.HTTPError:
    """Return the error of HTTP that shows why a choice is refused."""
    found = web.HTTPError(400, str(error))
    found.jupyterhub_message = str(error)  # type: ignore[attr-defined]
    return found


@functools.cache
def template() -> Template:
    """Return the template of the form's fields."""
    environment = Environment(
        autoescape=True, extensions=[pages.PagesExtension], loader=FileSystemLoader(pages.TEMPLATES)
    )
    return environment.get_template("form.html")


def redirect_with_options(path: str, request: HTTPServerRequest, user: Any, base_url: str) -> str | None:
    """Have links into everybody's own session, as nbgitpuller's, say which session: `JupyterHub.user_redirect_hook`.

    `/hub/user-redirect/git-pull?repo=…&opt-kind=lab` starts a session of that kind, and then pulls the repository.

    Returns
    -------
    str or None
        Where to go; None where the link says nothing of the session.
    """
    fields = parse_qsl(request.query, keep_blank_values=True)
    options = [(name, value) for name, value in fields if name.startswith("opt-")]
    if not options:
        return None
    rest = [(name, value) for name, value in fields if not name.startswith("opt-")]
    target = url_concat(url_path_join(user.url, path), rest)
    return str(url_concat(url_path_join(base_url, "hub", "spawn", user.escaped_name), [*options, ("next", target)]))
