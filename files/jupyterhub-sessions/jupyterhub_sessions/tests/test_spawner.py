"""Names of units keep users and their servers apart; a session's unit is as it was chosen."""

from __future__ import annotations

import ast
import getpass
import itertools
import string
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import utcnow

from jupyterhub_sessions import notices, stacks, units
from jupyterhub_sessions.choices import KINDS, Choice, Profile
from jupyterhub_sessions.form import FormSpawner, Session
from jupyterhub_sessions.spawner import SystemdSessionSpawner, unit_name


@pytest.mark.parametrize(
    ("user", "server", "name"),
    [
        ("alice", "", "jupyter-alice.service"),
        ("alice", "b", "jupyter-alice:b.service"),
        ("a.b-c_d", "", "jupyter-a.b-c_d.service"),
        ("alice@example.org", "", r"jupyter-alice\x40example.org.service"),
        ("ф", "", r"jupyter-\xd1\x84.service"),
        (r"DOMAIN\alice", "", r"jupyter-DOMAIN\x5calice.service"),
    ],
)
def test_unit_name(user: str, server: str, name: str) -> None:
    assert unit_name(user, server) == name


def test_unit_names_never_meet() -> None:
    words = ["a", "b", "a-b", "a.b", "a@b", r"a\x40b", "a-b-a"]
    pairs = list(itertools.product(words, ["", "a", "b", "b-a"]))
    assert len({unit_name(*pair) for pair in pairs}) == len(pairs)


def test_unit_name_has_only_characters_of_unit_names() -> None:
    allowed = set(string.ascii_letters + string.digits + ":_.-\\")
    assert set(unit_name("я/ %@\n", "b")) <= allowed


# -- what was chosen ------------------------------------------------------------------------------------------------

VIEW = stacks.Stack("lcg-107", "LCG 107", setup="/no/such/setup.sh", session=True)


@pytest.fixture
def spawner(tmp_path: Path) -> SystemdSessionSpawner:
    """Have a spawner of whoever runs the test, without a hub."""
    user = SimpleNamespace(name=getpass.getuser(), settings={}, url="/user/a/", id=1)
    orm: Any = SimpleNamespace(name="", server=None, display_name="", state={}, user_options={})
    directories = {"session_dir": f"{tmp_path}/sessions", "environment_dir": f"{tmp_path}/environment"}
    return SystemdSessionSpawner(user=user, orm_spawner=orm, cmd=["jupyterhub-singleuser"], **directories)


def test_kind_decides_what_runs(spawner: SystemdSessionSpawner) -> None:
    spawner.desktop_cmd = ["/opt/desktop"]
    assert spawner._command()[0] == "jupyterhub-singleuser"
    spawner.choice = Choice(KINDS["desktop"], VIEW)
    assert spawner._command() == ["/opt/desktop", f"--socket={spawner.socket}", "--socket-mode=0660"]


def test_stack_is_that_of_the_terminals(spawner: SystemdSessionSpawner) -> None:
    spawner.stack_shell = ["/opt/bin/use-stack"]
    spawner.choice = Choice(KINDS["lab"], VIEW)
    (setting,) = [word for word in spawner._command() if word.startswith("--ServerApp.terminado_settings=")]
    assert ast.literal_eval(setting.partition("=")[2]) == {"shell_command": ["/opt/bin/use-stack", "lcg-107"]}


def test_stack_is_that_of_a_desktop_s_terminals(
    spawner: SystemdSessionSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FormSpawner, "get_env", lambda _self: {}, raising=False)
    spawner.desktop_shell = "/opt/bin/stack-shell"
    spawner.choice = Choice(KINDS["desktop"])
    assert "JUPYTERHUB_SESSIONS_STACK" not in spawner.get_env() and "stack-shell" not in spawner.get_env()["SHELL"]
    spawner.choice = Choice(KINDS["desktop"], VIEW)
    assert spawner.get_env()["SHELL"] == "/opt/bin/stack-shell"
    assert spawner.get_env()["JUPYTERHUB_SESSIONS_STACK"] == "lcg-107"
    # There the shell is also the kernels', whatever their stack.
    spawner.choice = Choice(KINDS["lab"], VIEW)
    assert "stack-shell" not in spawner.get_env()["SHELL"]


@pytest.mark.parametrize("kind", KINDS)
async def test_stack_that_disappeared_since_the_form(spawner: SystemdSessionSpawner, kind: str) -> None:
    spawner.choice = Choice(KINDS[kind], VIEW)
    with pytest.raises(SpawnException) as caught:
        await spawner.find_stack()
    assert "LCG 107 is not available" in caught.value.message


def test_time_is_limited_by_the_unit(spawner: SystemdSessionSpawner) -> None:
    assert "RuntimeMaxSec" not in spawner._properties()
    spawner.choice = Choice(KINDS["lab"], None, Profile("short", memory_mb=512, cpus=0.5, hours=1.5))
    assert spawner._properties()["RuntimeMaxSec"] == "5400"
    spawner.choice = Choice(KINDS["lab"], None, Profile("short", memory_mb=512, cpus=0.5, hours=1.5, max_hours=3))
    assert spawner._properties()["RuntimeMaxSec"] == "10800"


def test_reason_when_the_time_is_over(spawner: SystemdSessionSpawner) -> None:
    state = units.UnitState("loaded", "failed", "timeout", 143, "")
    spawner.session = Session(ends=time.time() - 1, latest=time.time() - 1)
    assert "its time was over" in spawner._reason(state)
    # A stop that took too long has the same result.
    spawner.session = Session(ends=time.time() + 1800, latest=time.time() + 3600)
    assert "unexpectedly" in spawner._reason(state)


def test_what_a_session_is_outlives_the_hub(spawner: SystemdSessionSpawner) -> None:
    spawner.choice = Choice(KINDS["notebook"], VIEW, Profile("a", "Title", memory_mb=512, cpus=1))
    spawner.mem_limit = 512 * 2**20
    spawner.session = spawner.described(5.0)
    assert spawner.session.ends == 0.0
    state = spawner.get_state()
    spawner.session = Session()
    spawner.load_state(state)
    assert spawner.session == Session("notebook", "LCG 107", "Title", 512)


# -- its time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "ends", "more"),
    [(1.0, 3.0, True), (2.0, 4.0, True), (3.5, 5.0, False), (0.0, 2.0, True)],
)
def test_time_is_extended_up_to_the_most(spawner: SystemdSessionSpawner, now: float, ends: float, more: bool) -> None:
    spawner.choice = Choice(KINDS["lab"], None, Profile("a", memory_mb=512, cpus=1, hours=2, max_hours=5))
    session = spawner.described(0.0)
    assert (session.ends, session.extendable) == (2 * 3600, True)
    session = session.extended(now * 3600)
    assert (session.ends, session.extendable) == (ends * 3600, more)
    # Never less than there was.
    assert session.extended(0.0).ends == ends * 3600


async def test_session_whose_time_is_over_is_ended(
    spawner: SystemdSessionSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    async def show(_unit: str) -> units.UnitState:
        return units.UnitState("loaded", "active", "success", 0, "")

    async def stop(unit: str) -> None:
        stopped.append(unit)

    monkeypatch.setattr(units, "show", show)
    monkeypatch.setattr(units, "stop", stop)
    for session in (Session(), Session(ends=time.time() + 60, latest=time.time() + 60)):
        spawner.session = session
        assert await spawner.poll() is None and not stopped
    spawner.session = Session(ends=time.time() - 1, latest=time.time() + 3600)
    assert await spawner.poll() == 0
    assert stopped == [spawner.unit_name] and "its time was over" in spawner.stopped_reason


@pytest.mark.parametrize(
    ("idle_s", "since_s", "said"), [(0, 9999, False), (600, 590, False), (600, 610, True), (600, None, False)]
)
async def test_reason_when_nobody_used_it(
    spawner: SystemdSessionSpawner, monkeypatch: pytest.MonkeyPatch, idle_s: int, since_s: int | None, said: bool
) -> None:
    async def stop(_unit: str) -> None:
        pass

    monkeypatch.setattr(units, "stop", stop)
    monkeypatch.setattr(SystemdSessionSpawner, "ready", True)
    spawner.idle_seconds = idle_s
    spawner.orm_spawner.last_activity = since_s and utcnow(with_tz=False) - timedelta(seconds=since_s)
    await spawner.stop()
    assert ("nobody used it" in spawner.stopped_reason) is said


@pytest.mark.parametrize(("idle_s", "interval_s"), [(0, None), (3, "1"), (60, "10"), (86400, "300")])
def test_session_knows_when_it_is_idle(
    spawner: SystemdSessionSpawner, monkeypatch: pytest.MonkeyPatch, idle_s: int, interval_s: str | None
) -> None:
    monkeypatch.setattr(FormSpawner, "get_env", lambda _self: {}, raising=False)
    spawner.idle_seconds = idle_s
    env = spawner.get_env()
    assert env.get("JUPYTERHUB_ACTIVITY_INTERVAL") == interval_s
    assert env.get("JUPYTERHUB_SESSIONS_IDLE_S") == (str(idle_s) if idle_s else None)


async def test_session_is_told_its_end(
    spawner: SystemdSessionSpawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner.ends_dir = str(tmp_path)
    spawner._tell_end()
    assert list(tmp_path.iterdir()) == []
    now = time.time()
    spawner.session = Session(ends=now + 300, latest=now + 900)
    spawner._tell_end()
    (file,) = tmp_path.iterdir()
    # The hub's own umask is 0077.
    assert file.stat().st_mode & 0o777 == 0o644
    monkeypatch.setenv("JUPYTERHUB_SESSIONS_ENDS", str(file))
    (notice,) = await notices.Notices().current()
    assert (notice.id, notice.url) == ("session-ending", "/hub/home")
    spawner._remove_files()
    assert await notices.Notices().current() == []


async def test_memory_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = "/jupyter.slice/jupyter-a.service\n"

    async def run(*_command: str) -> str:
        return group

    monkeypatch.setattr(units, "_run", run)
    monkeypatch.setattr(units, "CONTROL_GROUPS", tmp_path)
    # Ended meanwhile.
    assert await units.memory_in_use("jupyter-a.service") is None
    directory = tmp_path / "jupyter.slice/jupyter-a.service"
    directory.mkdir(parents=True)
    (directory / "memory.current").write_text("1000\n")
    (directory / "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 200\n")
    assert await units.memory_in_use("jupyter-a.service") == 700
    group = "\n"
    assert await units.memory_in_use("jupyter-a.service") is None
