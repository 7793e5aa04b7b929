"""Whatever ends, and however: it is noticed, said why, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_xpra import runtime, supervisor
from jupyter_xpra.supervisor import alive
from jupyter_xpra.tests.staged_server import Server, assert_nothing_left

#: Leaves its session and its parents behind, as a daemon does, and has no window.
DAEMON = "(setsid sh -c 'exec sleep 987' </dev/null >/dev/null 2>&1 &)"
#: The promise is a second, on a machine that does nothing else. Who only asked now and then would need longer.
NOTICED_SECONDS = 3.0

as_root = pytest.mark.skipif(os.getuid() != 0, reason="becomes another user, or mounts")


async def with_a_daemon(server: Server) -> tuple[dict[str, Any], int]:
    """Start a display with a window and a daemon in it; return it and its number."""
    display = await server.create(command=["sh", "-c", f"{DAEMON}; exec xterm"], name="to be killed")
    async with asyncio.timeout(10):
        while "sleep" not in server.pids(display):
            await asyncio.sleep(0.05)
    return display, server.number(display)


@pytest.mark.parametrize(
    ("victim", "cause", "said"),
    [
        ("xpra", "xpra", "Xpra ended unexpectedly (signal SIGKILL)"),
        ("Xvfb", "x-server", "The X server ended unexpectedly (signal SIGKILL)"),
        ("python", "supervisor", "What supervised the display was ended from outside"),
    ],
)
async def test_killed(server: Server, victim: str, cause: str, said: str) -> None:
    display, number = await with_a_daemon(server)
    async with server.events() as events, server.events() as another_browser:
        killed = time.monotonic()
        os.kill(next(pid for name, pid in server.pids(display).items() if name.startswith(victim)), signal.SIGKILL)
        told = await events.wait_state(display["id"], "failed")
        await another_browser.wait_state(display["id"], "failed")
        assert time.monotonic() - killed < NOTICED_SECONDS
    assert told["cause"] == cause and said in told["reason"]
    await assert_nothing_left(server, display, number)
    # Stays in the list for its reason and its log, until the user has seen them.
    path = f"xpra/api/displays/{display['id']}"
    listed = (await server.request("GET", path))[1]
    assert listed["state"] == "failed" and "xpra is ready" in listed["log"]
    assert (await server.request("GET", f"xpra/{display['id']}/"))[0] == 409
    await server.delete(display)
    assert (await server.request("GET", path))[0] == 404


async def test_all_killed_at_once(server: Server) -> None:
    display, number = await with_a_daemon(server)
    async with server.events() as events:
        for name, pid in server.pids(display).items():
            if name != "sleep":
                os.kill(pid, signal.SIGKILL)
        await events.wait_state(display["id"], "failed")
    await assert_nothing_left(server, display, number)
    await server.delete(display)


async def test_supervisor_that_does_not_listen(server: Server) -> None:
    display, number = await with_a_daemon(server)
    pid = next(pid for name, pid in server.pids(display).items() if name.startswith("python"))
    os.kill(pid, signal.SIGSTOP)
    await server.delete(display)
    await assert_nothing_left(server, display, number, seconds=0)


async def test_who_knocks_and_runs_away_ends_nothing(server: Server) -> None:
    display, _number = await with_a_daemon(server)
    path = str(server.displays_directory / display["id"] / "control.sock")
    pid = next(pid for name, pid in server.pids(display).items() if name.startswith("python"))
    # Gone before there is an answer.
    os.kill(pid, signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
    os.kill(pid, signal.SIGCONT)
    with socket.socket(socket.AF_UNIX) as another:
        another.settimeout(10)
        another.connect(path)
        assert json.loads(await asyncio.to_thread(another.recv, 100)) == {"event": "busy"}
    assert (await server.request("GET", f"xpra/api/displays/{display['id']}"))[1]["state"] == "running"
    await server.delete(display)


async def test_program_that_is_closed_ends_its_display(server: Server) -> None:
    display = await server.create(command="xterm")
    number = server.number(display)
    async with server.events() as events:
        os.kill(server.pids(display)["xterm"], signal.SIGTERM)
        told = await events.wait_state(display["id"], "failed")
        assert told["cause"] == "program" and "xterm ended with an error (exit code 15)" in told["reason"]
    await server.delete(display)
    await assert_nothing_left(server, display, number)


async def test_launcher_that_ends_before_its_program(server: Server) -> None:
    display = await server.create(command=["sh", "-c", "xterm -e sleep 3 & exit 0"])
    number = server.number(display)
    async with server.events() as events:
        assert (await events.wait_state(display["id"], "ended"))["cause"] == "closed"
    await assert_nothing_left(server, display, number)


async def test_killed_server_finds_its_displays_again(own_server: Server) -> None:
    own_server.start()
    display, number = await with_a_daemon(own_server)
    dead = await own_server.create(name="dies meanwhile")
    dead_number, dead_pids = own_server.number(dead), own_server.pids(dead)
    before = own_server.pids(display)
    own_server.kill()
    os.kill(dead_pids["xpra"], signal.SIGKILL)
    await asyncio.sleep(0.5)
    assert own_server.pids(display) == before

    own_server.start()
    found = {other["id"]: other for other in await own_server.displays()}
    assert found[display["id"]]["state"] == "running" and found[display["id"]]["name"] == "to be killed"
    assert found[display["id"]]["default"]
    assert (await own_server.request("GET", found[display["id"]]["url"]))[0] == 200
    assert found[dead["id"]]["state"] == "failed" and "Xpra ended unexpectedly" in found[dead["id"]]["reason"]
    await assert_nothing_left(own_server, dead, dead_number)
    async with own_server.events() as events:
        os.kill(before["xpra"], signal.SIGKILL)
        await events.wait_state(display["id"], "failed")
    await assert_nothing_left(own_server, display, number)


async def test_killed_with_its_supervisor(own_server: Server) -> None:
    """What is left then has no parent that knows it: the next server ends it."""
    own_server.start()
    display, number = await with_a_daemon(own_server)
    pids = own_server.pids(display)
    own_server.kill()
    os.kill(next(pid for name, pid in pids.items() if name.startswith("python")), signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert not alive(pids["xpra"]) and not alive(pids["Xvfb"])
    own_server.start()
    assert [other["state"] for other in await own_server.displays()] == ["failed"]
    await assert_nothing_left(own_server, display, number)


async def test_two_servers_share_nothing(own_server: Server) -> None:
    own_server.start()
    display = await own_server.create()
    second = Server(own_server.directory)
    second.start()
    try:
        assert await second.displays() == []
        other = await second.create()
        assert own_server.number(display) != second.number(other)
        assert [entry["id"] for entry in await own_server.displays()] == [display["id"]]
    finally:
        second.kill(signal.SIGTERM)
    assert (await own_server.request("GET", display["url"]))[0] == 200


async def test_orphan_ends(own_server: Server) -> None:
    own_server.settings["DisplayManager"]["orphan_timeout"] = 1
    own_server.start()
    display, number = await with_a_daemon(own_server)
    own_server.kill()
    await assert_nothing_left(own_server, display, number)


async def test_server_that_ends_takes_its_displays_along(own_server: Server) -> None:
    own_server.start()
    display, number = await with_a_daemon(own_server)
    own_server.kill(signal.SIGTERM)
    await assert_nothing_left(own_server, display, number, seconds=0)
    assert list(own_server.displays_directory.iterdir()) == []


async def test_idle_display_ends(own_server: Server) -> None:
    own_server.settings["DisplayManager"]["idle_timeout"] = 5
    own_server.start()
    display, number = await with_a_daemon(own_server)
    async with own_server.events() as events:
        told = await events.wait_state(display["id"], "failed")
    assert (told["cause"], told["reason"]) == ("idle", "Nobody used the display for 5 seconds.")
    await assert_nothing_left(own_server, display, number)


@pytest.fixture
def small_disk(own_server: Server) -> Iterator[Path]:
    """Give the server a runtime directory of 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", own_server.runtime], check=True)
    yield own_server.runtime
    own_server.stop()
    subprocess.run(["umount", own_server.runtime], check=True)


def fill(path: Path) -> None:
    """Write a file until there is no space left."""
    with open(path, "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)


@as_root
async def test_full_disk(own_server: Server, small_disk: Path) -> None:
    own_server.start()
    fill(small_disk / "filler")
    async with own_server.events() as events:
        status, body = await own_server.request("POST", "xpra/api/displays", {})
        assert status == 409 and "The disk is full" in body["message"]
        actions = [(await events.next())["action"] for _ in range(2)]
        assert actions == ["created", "removed"]
    assert await own_server.displays() == []
    assert [path.name for path in small_disk.rglob("*") if path.is_dir()] == ["jupyter-xpra"]
    (small_disk / "filler").unlink()
    display = await own_server.create(command="xterm")
    # Gets full while it runs: what is written is lost, the display is not.
    fill(small_disk / "filler")
    path = f"xpra/api/displays/{display['id']}"
    assert (await own_server.request("PATCH", path, {"name": "other"}))[0] == 200
    await own_server.delete(display)


def test_noisy_program_does_not_fill_the_disk(tmp_path: Path) -> None:
    plan = {"directory": str(tmp_path), "control": os.open(os.devnull, os.O_RDONLY), "ends_with_program": False}
    # A socket in place of the control socket: nobody is to connect.
    import socket

    listener = socket.socket(socket.AF_UNIX)
    one = supervisor.Supervisor(plan | {"control": listener.detach()})
    for _ in range(40):
        os.write(one.children_output, b"x" * 32768)
        one.copy_output()
    os.write(one.children_output, b"the last words")
    one.copy_output()
    log = (tmp_path / "log").read_bytes()
    assert len(log) <= supervisor.LOG_BYTES + 65536 and log.endswith(b"the last words")
    signal.set_wakeup_fd(-1)


# -- who can reach it -------------------------------------------------------------------------------------------------


def sockets_of(pids: set[int], *options: str) -> list[str]:
    out = subprocess.run(["ss", "--no-header", "--processes", *options], capture_output=True, text=True, check=True)
    return [line for line in out.stdout.splitlines() if any(f"pid={pid}," in line for pid in pids)]


async def test_listens_on_private_sockets_only(server: Server) -> None:
    display, number = await with_a_daemon(server)
    pids = set(server.pids(display).values())
    # The abstract name of the X server is taken (UNCONN) and not listened at.
    listening = [line for line in sockets_of(pids, "--listening", "--unix") if " LISTEN " in line]
    directory = server.displays_directory / display["id"]
    # The directory got its name when the socket was there.
    paths = {word.replace("/.", "/") for line in listening for word in line.split() if word.startswith(("/", "@"))}
    assert paths == {f"/tmp/X11-unix/X{number}", f"{directory}/xpra.sock", f"{directory}/control.sock"}
    assert sockets_of(pids, "--listening", "--tcp") == [] and sockets_of(pids, "--udp", "--all") == []
    for path in (server.displays_directory, directory):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (directory / "Xauthority").stat().st_mode & 0o777 == 0o600
    # Nobody can take the abstract name, which Debian 12's clients try first.
    import socket

    with socket.socket(socket.AF_UNIX) as squatter, pytest.raises(OSError, match="in use"):
        squatter.bind(f"\0/tmp/.X11-unix/X{number}")
    await server.delete(display)


@as_root
async def test_another_user_opens_neither_x_nor_xpra(server: Server) -> None:
    display = await server.create()
    number, directory = server.number(display), server.displays_directory / display["id"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    environment = {"PATH": os.environ["PATH"], "DISPLAY": f":{number}"}

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment | variables, capture_output=True, text=True, check=False, timeout=30
        )

    authority = {"XAUTHORITY": str(directory / "Xauthority")}
    assert run("xdpyinfo", **authority).returncode == 0
    refused = run(*nobody, "xdpyinfo", **authority)
    assert refused.returncode != 0 and "unable to open display" in refused.stderr
    # Not the same user without the cookie either.
    assert run("xdpyinfo", XAUTHORITY="/dev/null").returncode != 0
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for name in ("xpra.sock", "control.sock"):
        denied = run(*nobody, shutil.which("python3") or "", "-c", connect, str(directory / name))
        assert "Permission denied" in denied.stderr or "PermissionError" in denied.stderr
    await server.delete(display)


def test_what_is_marked_is_found(tmp_path: Path) -> None:
    marked = subprocess.Popen(["sleep", "60"], env={runtime.MARK: "0000beef"})
    other = subprocess.Popen(["sleep", "60"], env={runtime.MARK: "0000beef0"})
    try:
        deadline = time.monotonic() + 5
        while runtime.marked("0000beef") != [marked.pid] and time.monotonic() < deadline:
            time.sleep(0.01)
        runtime.sweep("0000beef", 0)
        assert marked.wait(5) == -signal.SIGKILL and other.poll() is None
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()


def test_registry_that_cannot_be_read_harms_nobody(own_server: Server) -> None:
    for name, content in (("0badc0de", "{"), ("0badcafe", json.dumps({"id": "x"}))):
        directory = own_server.displays_directory / name
        directory.mkdir(parents=True)
        (directory / "display.json").write_text(content)
    own_server.start()
    assert asyncio.run(own_server.displays()) == []
    assert not (own_server.displays_directory / "0badc0de").exists()
