"""What a student may start: each kind and stack runs as chosen, what is not on offer is refused with the reason, and
what nobody uses is ended.
"""

from __future__ import annotations

import html
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from testing import ACCOUNTS, SESSION_SECONDS, Browserless, Service, new_kernel, notices, wait_for

Say = Callable[[str], str]
MIB = 2**20
SITE = ("site.yml", "--tags=jupyterhub", "--limit=localhost,hub")
IDLE_S = 60
WHERE = "import numpy, os; print(os.environ.get('CYGNET_STACK', 'local'), numpy.__file__)"


def unit_property(hub: Any, user: str, name: str) -> str:
    """Return a property of a session's unit."""
    return str(hub.check_output("systemctl show --property=%s --value -- %s", name, f"jupyter-{user}.service"))


def start(user: Browserless, **options: str) -> None:
    """Start a session by an address, as a link does."""
    user.stop()
    query = urlencode({f"opt-{name}": value for name, value in options.items()})
    answer = user.request("GET", f"/hub/spawn?{query}")
    assert answer.status_code == 200, answer.text
    wait_for(f"the session with {options}", user.running, SESSION_SECONDS)


@pytest.fixture
def teacher(service: Service) -> Iterator[Browserless]:
    """Log a teacher in."""
    user = Browserless(service, "tanya", ACCOUNTS["tanya"]["password"])
    user.login()
    yield user
    user.stop()


@pytest.fixture
def student(users: dict[str, Browserless]) -> Iterator[Browserless]:
    """Lend a student without a session."""
    yield users["alice"]
    users["alice"].stop()


@pytest.mark.parametrize(("kind", "page"), [("lab", "/lab"), ("notebook", "/tree")])
def test_kind_opens_its_page(student: Browserless, kind: str, page: str) -> None:
    start(student, kind=kind)
    answer = student.request("GET", student.base())
    assert answer.status_code == 200 and answer.url.partition("?")[0].endswith(f"/user/alice{page}"), answer.url


def test_desktop_is_its_user_s_alone(student: Browserless, users: dict[str, Browserless], hub: Any) -> None:
    start(student, kind="desktop")
    assert "jupyter-xpra-desktop" in unit_property(hub, "alice", "ExecStart")
    assert student.request("GET", student.base()).status_code == 200
    assert users["bob"].request("GET", student.base()).status_code in {403, 404}


@pytest.mark.parametrize("stack", ["local", "lcg-106", "lcg-107"])
def test_session_is_in_its_stack(student: Browserless, stack: str) -> None:
    start(student, stack=stack)
    student.enter()
    with new_kernel(student) as kernel:
        name, file = kernel.output(WHERE).split()
    assert name == stack and (stack == "local") != file.startswith("/cvmfs/"), (name, file)


def test_terminals_of_a_desktop_are_in_its_stack(student: Browserless, hub: Any) -> None:
    start(student, kind="desktop", stack="lcg-107")
    pid = wait_for("the desktop", lambda: hub.run("pgrep -u alice -o -x xfce4-session").stdout.strip())
    variables = hub.check_output("tr '\\0' '\\n' < /proc/%s/environ", pid).splitlines()
    (terminal,) = [value for name, _sign, value in (line.partition("=") for line in variables) if name == "SHELL"]
    # As a terminal does it, with what a terminal has.
    command = shlex.join(["env", "-i", *variables, terminal, "-c", f"python3 -c {shlex.quote(WHERE)}"])
    stack, file = hub.check_output(f"runuser -u alice -- {command}").split()
    assert stack == "lcg-107" and file.startswith("/cvmfs/")
    # The desktop itself is the machine's.
    assert not any(line.startswith(("PYTHONHOME=", "CYGNET_STACK=", "LD_LIBRARY_PATH=")) for line in variables)


def test_size_is_that_of_the_unit(student: Browserless, hub: Any) -> None:
    start(student, profile="large")
    assert unit_property(hub, "alice", "MemoryMax") == str(2048 * MIB)
    assert unit_property(hub, "alice", "CPUQuotaPerSecUSec") == "2s"
    assert unit_property(hub, "alice", "RuntimeMaxUSec") == "4h"
    home = html.unescape(student.request("GET", "/hub/home").text)
    assert "Large" in home and 'class="memory"' in home and 'class="ends"' in home


@pytest.mark.parametrize(
    ("options", "message", "values"),
    [
        (
            {"kind": "cluster"},
            "There is no kind of session “%(given)s” here. You may choose: %(known)s.",
            {"given": "cluster", "known": "lab, notebook, desktop"},
        ),
        (
            {"stack": "lcg-1"},
            "There is no software stack “%(given)s” here. You may choose: %(known)s.",
            {"given": "lcg-1", "known": "local, lcg-106, lcg-107"},
        ),
        (
            {"profile": "teaching"},
            "The size “%(given)s” is for members of %(groups)s alone. You may choose: %(known)s.",
            {"given": "teaching", "groups": "teachers", "known": "small, large"},
        ),
    ],
)
def test_refusals(
    student: Browserless, say: Say, options: dict[str, str], message: str, values: dict[str, str]
) -> None:
    student.stop()
    answer = student.request("GET", "/hub/spawn?" + urlencode({f"opt-{name}": of for name, of in options.items()}))
    assert answer.status_code == 400
    assert say(message) % values in html.unescape(answer.text)
    assert not student.running()


def test_member_of_the_group_gets_its_size(teacher: Browserless, hub: Any) -> None:
    start(teacher, profile="teaching")
    assert unit_property(hub, "tanya", "MemoryMax") == str(2560 * MIB)


@pytest.mark.destructive
def test_announcement_needs_no_restart(student: Browserless, play: Any, hub: Any) -> None:
    since = hub.check_output("systemctl show --property=ActiveEnterTimestampMonotonic jupyterhub.service")
    start(student, kind="lab")
    student.enter()
    play("playbooks/announce.yml", {"announcement": "Wartung & Pause"})
    try:
        assert "Wartung &amp; Pause" in student.request("GET", "/hub/home").text
        wait_for(
            "the notice in JupyterLab",
            lambda: any(name.startswith("announcement-") for name in notices(student)),
            120,
            5,
        )
    finally:
        play("playbooks/announce.yml", {"announcement": ""})
    assert "Wartung" not in student.request("GET", "/hub/home").text
    assert hub.check_output("systemctl show --property=ActiveEnterTimestampMonotonic jupyterhub.service") == since


@pytest.fixture
def soon_idle(play: Any) -> Iterator[None]:
    """Have sessions ended when nothing was done in them for a minute."""
    playbook, *options = SITE
    play(playbook, {"jupyterhub_idle_timeout_s": IDLE_S}, *options)
    yield
    play(playbook, {}, *options)


@pytest.mark.destructive
def test_idle_desktop_is_ended_and_busy_kernel_kept(
    soon_idle: None, student: Browserless, users: dict[str, Browserless], say: Say
) -> None:
    worker = users["bob"]
    start(worker, kind="lab")
    worker.enter()
    start(student, kind="desktop")
    assert student.request("GET", student.base()).status_code == 200
    with new_kernel(worker) as kernel:
        # It computes without a word, and nobody listens.
        with pytest.raises(TimeoutError):
            kernel.run("import time; time.sleep(900)", 5)
        kernel.disconnect()
        wait_for("the warning", lambda: "session-idle" in notices(student), 2 * IDLE_S, 2)
        assert student.request("POST", f"{student.base()}jupyterhub-sessions/notices/stay").status_code == 204
        stayed = time.monotonic()
        assert "session-idle" not in notices(student)

        def ended() -> bool:
            # What an open page asks for keeps nothing.
            student.request("GET", f"{student.base()}jupyterhub-sessions/notices")
            return not student.running()

        wait_for("the end of the idle session", ended, 4 * IDLE_S, 2)
        assert time.monotonic() - stayed > IDLE_S - 5
        home = html.unescape(student.request("GET", "/hub/home").text)
        assert say("Your session was ended because nobody used it. Saved files are kept.") in home
        assert worker.running() and "session-idle" not in notices(worker)
    worker.stop()
