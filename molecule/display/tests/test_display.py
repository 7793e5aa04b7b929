"""Displays in a session, without a browser: how they end, what they leave, and who does not reach them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from displays import Display, Displays
from testing import Browserless, Service, new_kernel, wait_for, websocket_status

MARK = "JUPYTER_XPRA_DISPLAY"


def uid(hub: Any, user: str) -> str:
    """Return the number of an account."""
    return str(hub.check_output(f"id -u {user}"))


def directory(hub: Any, display: Display) -> str:
    """Return where one of alice's displays has its sockets."""
    return f"/run/jupyter-{uid(hub, 'alice')}/jupyter-xpra/{display['id']}"


def number(hub: Any, display: Display) -> int:
    """Return the number of the X display."""
    record = json.loads(hub.check_output(f"cat {directory(hub, display)}/display.json"))
    return int(record["number"])


def processes(hub: Any, display: Display) -> dict[str, str]:
    """Return all processes of a display: names by process id."""
    found = hub.check_output(f"grep -lszxF {MARK}={display['id']} /proc/[0-9]*/environ || true").split()
    names = {}
    for path in found:
        pid = path.split("/")[2]
        # It may have ended since.
        name = hub.run(f"cat /proc/{pid}/comm")
        if name.rc == 0:
            names[pid] = name.stdout.strip()
    return names


def pid(hub: Any, display: Display, name: str) -> str:
    """Return the process id of one of a display's programs."""
    return next(pid for pid, other in processes(hub, display).items() if other == name)


def in_session(hub: Any, user: str, command: str) -> Any:
    """Run a command as a user where alice's session has its files, its private /tmp for one."""
    main = hub.check_output("systemctl show -P MainPID jupyter-alice.service")
    account = f"--reuid={uid(hub, user)} --regid={uid(hub, user)} --clear-groups"
    return hub.run(f"cd / && nsenter --mount --target {main} setpriv {account} sh -c {shlex.quote(command)}")


# -- what there is --------------------------------------------------------------------------------------------------


def test_programs_of_the_administrator_are_offered(displays: Displays) -> None:
    status = displays.ask("GET", "status")
    assert status["problem"] == ""
    assert {program["title"]: program["available"] for program in status["programs"]} == {
        "Terminal": True,
        "Files": True,
        "gnuplot": True,
        "Geomview": True,
        "OpenGL gears": True,
    }
    assert status["kinds"] == ["seamless", "desktop"]


def test_program_that_fails_says_why(displays: Displays) -> None:
    wish = {"command": ["sh", "-c", "echo no such model >&2; exit 3"]}
    answer = displays.user.request("POST", f"{displays.path}/displays", json=wish)
    assert answer.status_code == 422
    assert "exit code 3" in answer.json()["message"] and "no such model" in answer.json()["log"]
    assert displays.list() == []


def test_opengl_is_that_of_mesa(displays: Displays) -> None:
    with new_kernel(displays.user) as kernel:
        kernel.output("%display")
        status, out = kernel.shell("glxinfo -B")
    assert status == 0, out
    assert "direct rendering: Yes" in out and "llvmpipe" in out


# -- how they end ---------------------------------------------------------------------------------------------------


def test_stop_leaves_nothing(hub: Any, displays: Displays, terminal: Display) -> None:
    x = number(hub, terminal)
    names = set(processes(hub, terminal).values())
    assert {"Xvfb", "xpra", "xterm"} <= names
    files = f"ls -d {directory(hub, terminal)} /tmp/.X11-unix/X{x} /tmp/.X{x}-lock"
    assert in_session(hub, "root", files).rc == 0
    abstract = f"@/tmp/.X11-unix/X{x}"
    assert abstract in hub.check_output("cat /proc/net/unix")
    displays.delete(terminal)
    assert processes(hub, terminal) == {}
    assert in_session(hub, "root", files).stdout == ""
    assert abstract not in hub.check_output("cat /proc/net/unix")
    assert displays.list() == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("xpra", "Xpra ended unexpectedly (signal SIGKILL)."),
        ("Xvfb", "The X server ended unexpectedly (signal SIGKILL)."),
    ],
)
def test_kill_is_told_and_leaves_nothing(
    hub: Any, displays: Displays, terminal: Display, program: str, reason: str
) -> None:
    x = number(hub, terminal)
    hub.check_output(f"kill -9 {pid(hub, terminal, program)}")
    failed = displays.wait_state(terminal, "failed")
    assert failed["reason"] == reason
    wait_for("the processes to end", lambda: processes(hub, terminal) == {})
    assert in_session(hub, "root", f"ls {directory(hub, terminal)} /tmp/.X11-unix/X{x} /tmp/.X{x}-lock").stdout == ""


def test_restart_of_the_proxy_ends_no_display(hub: Any, displays: Displays, terminal: Display) -> None:
    before = processes(hub, terminal)
    hub.check_output("systemctl restart chp nginx")
    user, path = displays.user, terminal["url"]
    wait_for("the display to be reached again", lambda: websocket_status(user, path, ["binary"]) == 101)
    assert set(before) <= set(processes(hub, terminal))


def test_memory_limit_of_the_session_holds_for_programs(hub: Any, displays: Displays, terminal: Display) -> None:
    unit = "jupyter-alice.service"
    before = hub.check_output(f"systemctl show -P MainPID {unit}")
    limit = int(hub.check_output(f"systemctl show -P MemoryMax {unit}"))
    # Random bytes, lest the pages are shared.
    hog = "import os, time\nkept = []\ntime.sleep(2)\nwhile True: kept.append(os.urandom(2**25))"
    display = displays.create(command=["python3", "-c", hog])
    failed = displays.wait_state(display, "failed", 180)
    assert "signal SIGKILL" in failed["reason"] and failed["cause"] == "program"
    # The server is that of before, and the other display goes on.
    assert hub.check_output(f"systemctl show -P MainPID {unit}") == before
    assert displays.wait_state(terminal, "running")
    group = hub.check_output(f"systemctl show -P ControlGroup {unit}")
    assert limit * 0.8 < int(hub.check_output(f"cat /sys/fs/cgroup{group}/memory.peak")) <= limit


def test_idle_display_ends(hub: Any, bob: Browserless) -> None:
    # The administrator's number of minutes is in the same place, but of all users.
    settings = json.dumps({"DisplayManager": {"idle_timeout": 8}})
    with new_kernel(bob) as kernel:
        kernel.output(
            "import os, pathlib\n"
            "path = pathlib.Path.home() / '.jupyter/jupyter_xpra_config.json'\n"
            f"path.parent.mkdir(exist_ok=True); path.write_text({settings!r})"
        )
    try:
        bob.stop()
        bob.ensure()
        displays = Displays(bob)
        display = displays.create(program="terminal")
        failed = displays.wait_state(display, "failed")
        assert failed["reason"] == "Nobody used the display for 8 seconds."
        wait_for("the processes to end", lambda: processes(hub, display) == {})
    finally:
        hub.check_output("rm ~bob/.jupyter/jupyter_xpra_config.json")
        bob.stop()


# -- who does not reach them ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def private(users: dict[str, Browserless]) -> Iterator[Display]:
    """Have a display of alice's that others try to reach."""
    users["alice"].ensure()
    displays = Displays(users["alice"])
    displays.delete_all()
    display = displays.create(program="terminal")
    yield display
    displays.delete(display)


@pytest.mark.parametrize(
    "path", ["xpra/{id}/", "xpra/{id}/js/Client.js", "xpra/api/displays", "xpra/api/displays/{id}/thumbnail"]
)
def test_other_student_is_refused_over_http(
    alice: Browserless, bob: Browserless, service: Service, private: Display, path: str
) -> None:
    path = f"/user/alice/{path.format(**private)}"
    # The picture is there as soon as a browser has shown the display.
    assert alice.request("GET", path).status_code == 200 or path.endswith("thumbnail")
    assert bob.request("GET", path).status_code in {403, 404}
    assert service.get(path).status_code == 403 or 'id="login_submit"' in service.get(path).text


def test_other_student_is_refused_at_the_websocket(alice: Browserless, bob: Browserless, private: Display) -> None:
    assert websocket_status(alice, private["url"], ["binary"]) == 101
    assert websocket_status(bob, private["url"], ["binary"]) == 403
    assert websocket_status(bob, "/user/alice/api/events/subscribe") in {302, 403}


def test_other_student_cannot_stop_it(alice: Browserless, bob: Browserless, private: Display) -> None:
    answer = bob.request("DELETE", f"/user/alice/xpra/api/displays/{private['id']}")
    assert answer.status_code in {403, 404}
    assert Displays(alice).wait_state(private, "running")


CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.mark.parametrize("name", ["xpra.sock", "control.sock"])
def test_other_student_is_refused_at_the_socket(hub: Any, private: Display, name: str) -> None:
    command = f"python3 -c {shlex.quote(CONNECT)} {directory(hub, private)}/{name}"
    assert in_session(hub, "alice", command).rc == 0
    refused = in_session(hub, "bob", command)
    assert refused.rc != 0 and "Permission denied" in refused.stderr


def test_other_student_is_refused_by_x(hub: Any, alice: Browserless, bob: Browserless, private: Display) -> None:
    command = f"DISPLAY=:{number(hub, private)} xdpyinfo"
    with new_kernel(alice) as kernel:
        kernel.output("%display")
        status, out = kernel.shell(command)
        assert status == 0 and "name of display" in out, out
    # Another session does not see the socket, and its abstract name leads nowhere.
    with new_kernel(bob) as kernel:
        status, out = kernel.shell(command)
        assert status != 0 and "unable to open display" in out
    # Who would reach the socket has not the cookie.
    assert in_session(hub, "alice", f"XAUTHORITY={directory(hub, private)}/Xauthority {command}").rc == 0
    for user in "bob", "alice":
        refused = in_session(hub, user, f"XAUTHORITY=/dev/null {command}")
        assert refused.rc != 0 and "no authorization protocol specified" in refused.stderr.lower()


def test_nothing_of_it_listens_on_the_network(hub: Any, private: Display) -> None:
    pids = list(processes(hub, private))
    listeners = hub.check_output("ss -Hlntup")
    assert pids and not [pid for pid in pids if f"pid={pid}," in listeners]
    # Nor on an abstract socket, which has no permissions: the one that keeps the X server's number takes no connection.
    sockets = [line.split() for line in hub.check_output("ss -Hxlp").splitlines() if "LISTEN" in line]
    names = [line[4] for line in sockets if any(f"pid={pid}," in " ".join(line) for pid in pids)]
    assert len(names) == 3 and not [name for name in names if name.startswith("@")]
