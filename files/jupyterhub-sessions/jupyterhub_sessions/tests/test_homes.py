"""Homes on the network: found, made, out of reach; and what a user has on the local disk."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_sessions import units
from jupyterhub_sessions.homes import Home, HomeError, NetworkHomes, remove_unused

# Of this process, so that directories can be handed over without root.
ALICE = pwd.struct_passwd(("alice", "x", os.getuid(), os.getgid(), "", "/home/alice", "/bin/sh"))
DAY = 86400


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what would run under another id under ours."""

    async def run_as(
        command: Sequence[str], seconds: float, environment: Mapping[str, str], **ids: int
    ) -> units.Finished:
        assert ids == {"uid": ALICE.pw_uid, "gid": ALICE.pw_gid}
        return await units.run(command, seconds, environment)

    monkeypatch.setattr(units, "run_as", run_as)


def homes(root: Path, **settings: Any) -> NetworkHomes:
    return NetworkHomes(f"{root}/eos/{{initial}}/{{user}}", root / "local", **settings)


async def test_home_is_found(tmp_path: Path) -> None:
    (tmp_path / "eos/a/alice").mkdir(parents=True)
    home = await homes(tmp_path).find(ALICE)
    assert home == Home(
        tmp_path / "eos/a/alice", Path(*tmp_path.parts[:2]), tmp_path / "local" / str(ALICE.pw_uid), temporary=False
    )


async def test_home_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "eos").mkdir()
    log = tmp_path / "log"
    command = ["sh", "-c", f'mkdir -p "$1" && echo "$2 $3" >>{log}', "make", "{home}", "{user}", "{uid}"]
    for _session in range(2):
        home = await homes(tmp_path, make_command=command).find(ALICE)
        assert home.path.is_dir()
    assert log.read_text() == f"alice {ALICE.pw_uid}\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "no home directory"),
        (["true"], "could not be made. Please"),
        (["sh", "-c", "echo quota reached >&2; exit 3"], "could not be made: quota reached"),
        (["/no/such/program"], "could not be made: .*No such file"),
        (["sleep", "60"], "the storage did not answer in time"),
    ],
)
async def test_home_that_cannot_be_made(tmp_path: Path, command: list[str], said: str) -> None:
    (tmp_path / "eos").mkdir()
    with pytest.raises(HomeError, match=said):
        await homes(tmp_path, make_command=command, seconds=0.5).find(ALICE)


async def test_storage_that_is_not_mounted_is_no_missing_home(tmp_path: Path) -> None:
    # What the automounter answers when it cannot mount.
    command = ["mkdir", "-p", "{home}"]
    with pytest.raises(HomeError, match="not connected"):
        await homes(tmp_path, make_command=command).find(ALICE)
    assert not (tmp_path / "eos").exists()


async def test_storage_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_as(_command: Sequence[str], seconds: float, environment: Mapping[str, str], **_ids: int) -> Any:
        return await units.run(["sleep", "60"], seconds, environment)

    monkeypatch.setattr(units, "run_as", run_as)
    with pytest.raises(HomeError, match="did not answer within 1 seconds"):
        await homes(tmp_path, seconds=0.6).find(ALICE)


@pytest.mark.parametrize(
    ("error", "said"),
    [("Permission denied", "does not let you into"), ("Input/output error", "reports an error")],
)
async def test_home_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, said: str) -> None:
    async def run_as(command: Sequence[str], *_: Any, **_ids: int) -> units.Finished:
        return units.Finished(1, "directory\n", f"stat: cannot statx '{command[-1]}': {error}\n")

    monkeypatch.setattr(units, "run_as", run_as)
    with pytest.raises(HomeError, match=said):
        await homes(tmp_path).find(ALICE)


def test_local_disk_has_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    home = Home(Path("/eos/user/a/alice"), Path("/eos"), homes(tmp_path).local(ALICE))
    home.prepare(ALICE)
    assert home.local is not None and home.local.stat().st_mode & 0o777 == 0o700
    variables = home.environment("/run/jupyter-1")
    assert variables.pop("HOME") == "/eos/user/a/alice"
    assert {value for value in variables.values() if not value.startswith(str(home.local))} == {
        "/run/jupyter-1/jupyter"
    }


def test_home_of_this_machine_changes_nothing() -> None:
    assert Home(Path("/home/alice")).environment("/run/jupyter-1") == {}


def test_temporary_home(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    home = homes(tmp_path).temporary(ALICE)
    home.prepare(ALICE)
    assert home.path.is_dir() and home.mount is None
    assert home.environment("/run")["JUPYTERHUB_SESSIONS_HOME"] == "temporary"


def test_root_follows_no_link_of_the_user(tmp_path: Path) -> None:
    """Else the user could have any directory of the machine handed over."""
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    home = homes(tmp_path).temporary(ALICE)
    assert home.local is not None
    home.local.mkdir(parents=True)
    home.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="temporary-home"):
        home.prepare(ALICE)


def test_unused_directories_are_removed(tmp_path: Path) -> None:
    now = 1000.0 * DAY
    for name, age in (("1", 91), ("2", 89), ("3", 200), ("4", 200)):
        (tmp_path / name / "temporary-home").mkdir(parents=True)
        if name == "3":
            (tmp_path / name / "temporary-home" / "thesis.ipynb").touch()
        os.utime(tmp_path / name, (now - age * DAY, now - age * DAY))
    assert {path.name for path in remove_unused(tmp_path, 90, now)} == {"1", "4"}
    assert {path.name for path in tmp_path.iterdir()} == {"2", "3"}


def test_visit_keeps_the_directory(tmp_path: Path) -> None:
    local = homes(tmp_path).local(ALICE)
    local.mkdir(parents=True)
    os.utime(local, (0, 0))
    homes(tmp_path).touch(ALICE)
    assert remove_unused(tmp_path / "local", 90, local.stat().st_mtime + DAY) == []
