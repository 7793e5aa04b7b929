"""Files that come into force together: put in place, taken back, and shown without secrets."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.rollout import File, run


def options(path: Path, **others: Any) -> dict[str, Any]:
    return {"path": str(path), "content": None, "content_base64": None, "mode": "0640", "present": True} | others


def state(path: Path) -> tuple[bytes, int] | None:
    return (path.read_bytes(), path.stat().st_mode & 0o7777) if path.exists() else None


@pytest.mark.parametrize("before", [None, (b"old", 0o600), (b"new", 0o600), (b"old", 0o640)])
@pytest.mark.parametrize("wanted", [{"content": "new"}, {"present": False}])
def test_put_and_taken_back(tmp_path: Path, before: tuple[bytes, int] | None, wanted: dict[str, Any]) -> None:
    path = tmp_path / "directory" / "file"
    if before:
        path.parent.mkdir()
        path.write_bytes(before[0])
        path.chmod(before[1])
    file = File.wanted(options(path, **wanted))
    after = (b"new", 0o640) if "content" in wanted else None
    assert file.changes == (before != after)
    file.put()
    assert state(path) == after
    assert not File.wanted(options(path, **wanted)).changes
    file.put(old=True)
    assert state(path) == before


def test_secret_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "keytab"
    path.write_bytes(b"old secret")
    path.chmod(0o600)
    file = File.wanted(options(path, content_base64=base64.b64encode(b"new secret").decode()))
    assert file.new == b"new secret" and file.changes
    shown = file.difference()
    assert "secret" not in f"{shown['before']}{shown['after']}"
    assert (shown["before"], shown["after"]) == ("mode 0600\n(not shown)\n", "mode 0640\n(not shown)\n")


def test_program_that_takes_too_long() -> None:
    done = run("sleep", "5", seconds=0.1)
    assert done.returncode == 124 and done.stderr == "sleep took longer than 0 s"
