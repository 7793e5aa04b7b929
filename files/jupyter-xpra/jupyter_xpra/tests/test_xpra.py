"""What is asked of the machine before a display is started."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from jupyter_xpra import xpra
from jupyter_xpra.display import check_command, known_layouts
from jupyter_xpra.runtime import cookie_entry
from jupyter_xpra.tests.staged_server import Server


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory in place of $PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


async def test_everything_that_is_missing_is_named(programs: Path) -> None:
    with pytest.raises(xpra.XpraError, match="lacks: xpra, xvfb"):
        await xpra.find()


async def test_pillow_and_client_are_missing(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An interpreter that finds no package at all.
    write_program(programs / "python", f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    write_program(programs / "xpra", f"#!{programs}/python\nprint('xpra v6.5-r0')\n")
    write_program(programs / "Xvfb", "")
    monkeypatch.setattr(xpra, "CLIENT_DIRECTORIES", (tmp_path,))
    with pytest.raises(xpra.XpraError, match="lacks: python3-pil, xpra-html5"):
        await xpra.find()


@pytest.mark.parametrize(
    ("printed", "version"),
    [("xpra v3.1.3", (3, 1)), ("xpra v6.5-r0", (6, 5)), ("\nWarning: running as root\nxpra v4.4.6-r1", (4, 4))],
)
async def test_version(programs: Path, printed: str, version: tuple[int, int]) -> None:
    write_program(programs / "xpra", f"#!/bin/sh\necho '{printed}'\n")
    write_program(programs / "Xvfb", "")
    found, xvfb = await xpra.find()
    assert found == xpra.Xpra(str(programs / "xpra"), version) and xvfb == str(programs / "Xvfb")


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo xpra v2.5", "too old"), ("echo broken", "did not name a version"), ("exec sleep 30", "did not answer")],
)
async def test_xpra_that_is_of_no_use(programs: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    monkeypatch.setattr(xpra, "QUERY_SECONDS", 0.5)
    write_program(programs / "xpra", f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    with pytest.raises(xpra.XpraError, match=said):
        await xpra.find()


def test_options_by_version() -> None:
    old = xpra.Xpra("xpra", (3, 1)).command("seamless", Path("/d"))
    new = xpra.Xpra("xpra", (6, 5)).command("desktop", Path("/d"))
    assert old[:3] == ["xpra", "start", "{display}"] and new[:3] == ["xpra", "start-desktop", "{display}"]
    assert "--pulseaudio=no" in old and "--audio=no" not in old
    assert "--audio=no" in new and "--pulseaudio=no" not in new
    # Neither a TCP port nor an abstract socket.
    for command in (old, new):
        assert [word for word in command if word.startswith("--bind")] == ["--bind=/d/xpra.sock"]


async def test_missing_packages_reach_the_user(own_server: Server) -> None:
    empty = own_server.directory / "bin"
    empty.mkdir()
    own_server.environment["PATH"] = str(empty)
    own_server.start()
    status, body = await own_server.request("GET", "xpra/api/status")
    assert status == 200 and body["xpra"] is None and "lacks: xpra, xvfb" in body["problem"]
    status, body = await own_server.request("POST", "xpra/api/displays", {})
    assert status == 503 and "lacks: xpra, xvfb" in body["message"] and body["cause"] == "packages"
    assert await own_server.displays() == []


async def test_settings_are_read_from_the_extensions_own_file(own_server: Server) -> None:
    # Those of the command line would come before it.
    del own_server.settings["DisplayManager"]
    (own_server.directory / "config").mkdir()
    settings = {"DisplayManager": {"programs": [{"name": "viewer", "command": ["xterm"]}], "max_displays": 2}}
    (own_server.directory / "config/jupyter_xpra_config.json").write_text(json.dumps(settings))
    own_server.start()
    _, status = await own_server.request("GET", "xpra/api/status")
    assert [program["name"] for program in status["programs"]] == ["viewer"] and status["limits"]["displays"] == 2


async def test_path_that_is_too_long_for_sockets(own_server: Server) -> None:
    own_server.settings["DisplayManager"]["directory"] = str(own_server.directory / ("x" * 90))
    own_server.start()
    status, body = await own_server.request("POST", "xpra/api/displays", {})
    assert status == 503 and "too long a path for sockets" in body["message"]


@pytest.mark.parametrize(
    ("programs_", "said"),
    [
        ([{"name": "a b", "command": ["x"]}], "'a b' must be a name of its own"),
        ([{"name": "a", "command": ["x"]}, {"name": "a", "command": ["x"]}], "'a' must be a name of its own"),
        ([{"name": "a", "command": "x"}], "`command` must be a list"),
        ([{"name": "a", "command": ["x"], "kind": "tab"}], "`kind` must be one of seamless, desktop"),
        ([{"name": "a", "command": ["x"], "cmd": 1}], "unknown cmd"),
    ],
)
def test_bad_programs_are_named_to_the_administrator(programs_: list[dict[str, object]], said: str) -> None:
    from traitlets import TraitError

    from jupyter_xpra.manager import DisplayManager

    with pytest.raises(TraitError, match=said):
        DisplayManager(programs=programs_)


def test_layouts_and_commands() -> None:
    assert {"us", "ru", "de(nodeadkeys)"} <= known_layouts() and "pc105" not in known_layouts()
    assert check_command("sh -c 'exit 0'") == ["sh", "-c", "exit 0"]


def test_cookie_is_read_by_x(tmp_path: Path) -> None:
    import subprocess

    file = tmp_path / "Xauthority"
    file.write_bytes(cookie_entry(137, b"\x01" * 16))
    listed = subprocess.run(["xauth", "-f", file, "list"], capture_output=True, text=True, check=True).stdout
    assert listed.split()[1:] == ["MIT-MAGIC-COOKIE-1", "01" * 16] and ":137" in listed
