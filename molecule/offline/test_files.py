"""The module that brings files into their state: all or none, and nothing in a check."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "playbooks/library/files.py"
OWNER = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def run(*files: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """Run the module as Ansible does, and return its answer."""
    arguments = {
        "files": [OWNER | {key: str(value) for key, value in file.items()} for file in files],
        "_ansible_check_mode": check,
        "_ansible_diff": True,
    }
    done = subprocess.run(
        [sys.executable, MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_files_and_directories_are_made_once(tmp_path: Path) -> None:
    wanted = [
        {"path": tmp_path / "etc", "state": "directory", "mode": "0700"},
        {"path": tmp_path / "etc/text", "content": "лебедь\n"},
        {"path": tmp_path / "etc/binary", "content_base64": base64.b64encode(b"\0\xff").decode(), "mode": "0600"},
    ]
    first = run(*wanted)
    assert first["changed"] and first["paths"] == [str(entry["path"]) for entry in wanted]
    assert (tmp_path / "etc/text").read_text() == "лебедь\n"
    assert (tmp_path / "etc/binary").read_bytes() == b"\0\xff"
    modes = [oct((tmp_path / name).stat().st_mode & 0o7777) for name in ("etc", "etc/text", "etc/binary")]
    assert modes == ["0o700", "0o644", "0o600"]
    second = run(*wanted)
    assert not second["changed"] and second["paths"] == []


def test_mode_alone_is_mended(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("as it is")
    file.chmod(0o666)
    assert run({"path": file, "content": "as it is", "mode": "0640"})["changed"]
    assert file.stat().st_mode & 0o7777 == 0o640


def test_content_that_is_to_stay_stays(tmp_path: Path) -> None:
    secret = {"path": tmp_path / "secret", "content": "first", "keep": True}
    assert run(secret)["changed"]
    assert not run(secret | {"content": "second"})["changed"]
    assert (tmp_path / "secret").read_text() == "first"


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_absent(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "gone"
    if kind == "file":
        path.touch()
    else:
        (path / "below").mkdir(parents=True)
    assert run({"path": path, "state": "absent"})["changed"]
    assert not path.exists()
    assert not run({"path": path, "state": "absent"})["changed"]


def test_refused_content_leaves_all_as_it_was(tmp_path: Path) -> None:
    answer = run(
        {"path": tmp_path / "one", "content": "new"},
        {"path": tmp_path / "two", "content": "bad", "validate": "grep -q good %s"},
    )
    assert answer["failed"] and f"{tmp_path}/two was refused" in answer["msg"]
    assert list(tmp_path.iterdir()) == []
    assert run({"path": tmp_path / "two", "content": "good", "validate": "grep -q good %s"})["changed"]


def test_check_changes_nothing_on_a_machine_without_anything(tmp_path: Path) -> None:
    answer = run(
        {"path": tmp_path / "etc", "state": "directory"},
        {"path": tmp_path / "etc/file", "content": "new\n", "validate": "/no/such/program %s"},
        check=True,
    )
    assert answer["changed"] and list(tmp_path.iterdir()) == []
    assert answer["diff"][1]["after"] == "new\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"content_base64": "%"}, "is no Base64"),
        ({"content": "a", "content_base64": "YQ=="}, "both content and content_base64"),
        ({"mode": "rw"}, "is no octal number"),
    ],
)
def test_bad_input(tmp_path: Path, wrong: dict[str, str], said: str) -> None:
    answer = run({"path": tmp_path / "file"} | wrong)
    assert answer["failed"] and said in answer["msg"]


def test_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    answer = run({"path": tmp_path / "no/file", "content": ""})
    assert answer["failed"] and str(tmp_path / "no/file") in answer["msg"]


def test_what_is_not_listed_is_removed(tmp_path: Path) -> None:
    wanted = [
        {"path": tmp_path / "kernels", "state": "directory", "only": True},
        {"path": tmp_path / "kernels/new", "state": "directory"},
        {"path": tmp_path / "kernels/new/kernel.json", "content": "{}"},
    ]
    for old in ("old", "new"):
        (tmp_path / "kernels" / old).mkdir(parents=True)
        (tmp_path / "kernels" / old / "more").touch()
    assert run(*wanted, check=True)["changed"] and (tmp_path / "kernels/old/more").exists()
    assert str(tmp_path / "kernels/old") in run(*wanted)["paths"]
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == ["new"]
    # Below a directory that is listed, all stays.
    assert (tmp_path / "kernels/new/more").exists()
    assert not run(*wanted)["changed"]
