"""Software stacks: entered in an environment of their own, and told apart by whether they answer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jupyterhub_sessions import stacks


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a view with a setup script, a prefix, one that is gone, and a kernel of no stack."""
    view = tmp_path / "view"
    view.mkdir()
    (view / "setup.sh").write_text("export PYTHONHOME=/of/the/view VIEW=1\nPATH=/of/the/view:$PATH\n")
    kernel = tmp_path / "prefix/share/jupyter/kernels/bash"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["echo", "-f", "{connection_file}"], "language": "bash"}))
    specifications = {
        "view": {"setup": f"{view}/setup.sh", "argv": ["sh", "-c", "echo $VIEW $0 $PATH", "{connection_file}"]},
        "prefix": {"prefix": f"{tmp_path}/prefix", "kernel": "bash"},
        "gone": {"setup": "/cvmfs/gone.example.org/setup.sh", "argv": ["true"]},
        "python3": None,
    }
    for name, stack in specifications.items():
        place = tmp_path / "stacks/kernels" / name
        place.mkdir(parents=True)
        metadata = {"stack": stack} if stack else {}
        (place / "kernel.json").write_text(
            json.dumps({"argv": [], "display_name": name.title(), "language": "python", "metadata": metadata})
        )
    monkeypatch.setattr(stacks, "DIRECTORY", tmp_path / "stacks")
    return tmp_path


def use_stack(
    directory: Path, *arguments: str, program: str = "main", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program as it is installed."""
    return subprocess.run(
        [sys.executable, "-c", f"from jupyterhub_sessions.stacks import {program}; {program}()", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"JUPYTERHUB_SESSIONS_STACKS": f"{directory}/stacks", "PYTHONPATH": ":".join(sys.path)}
        | variables,
    )


def test_environment_is_the_stack_alone(directory: Path) -> None:
    done = use_stack(
        directory, "view", "env", VIRTUAL_ENV="/of/the/session", PATH=f"/of/the/session:{os.environ['PATH']}"
    )
    variables = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert variables["PATH"] == f"/of/the/view:{stacks.PATH}" and variables["PYTHONHOME"] == "/of/the/view"
    assert not {"VIRTUAL_ENV", "PYTHONPATH"} & variables.keys()


def test_prefix_comes_first(directory: Path) -> None:
    assert use_stack(directory, "prefix", "sh", "-c", "echo $PATH").stdout == f"{directory}/prefix/bin:{stacks.PATH}\n"


def test_options_are_the_command_s(directory: Path) -> None:
    assert use_stack(directory, "view", "echo", "--kernel", "-x").stdout == "--kernel -x\n"


@pytest.mark.parametrize(
    ("name", "out"), [("view", f"1 /run/k.json /of/the/view:{stacks.PATH}\n"), ("prefix", "-f /run/k.json\n")]
)
def test_kernel(directory: Path, name: str, out: str) -> None:
    assert use_stack(directory, "--kernel", name, "/run/k.json").stdout == out


def test_setup_that_fails_starts_nothing(directory: Path) -> None:
    (directory / "view/setup.sh").write_text("return 3")
    done = use_stack(directory, "view", "echo", "started")
    assert done.returncode == 1 and done.stdout == "" and "setup.sh failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "true"], "There is no stack 'nothing' here. Known are: gone, prefix, view."),
        (["gone", "true"], "gone.example.org does not answer"),
        (["view", "no-such-program"], "no-such-program: "),
    ],
)
def test_what_cannot_be_entered(directory: Path, arguments: list[str], said: str) -> None:
    done = use_stack(directory, *arguments)
    assert done.returncode != 0 and said in done.stderr


@pytest.mark.parametrize("login", [[], ["-l"]])
@pytest.mark.parametrize(
    ("stack", "out", "err"),
    [
        ("view", "1 view /bin/bash\n", ""),
        # The machine's own, for somebody who otherwise sees a window that closes.
        ("gone", " /bin/bash\n", "gone.example.org does not answer"),
        ("nothing", " /bin/bash\n", "There is no stack 'nothing' here."),
    ],
)
def test_shell_of_a_desktop(directory: Path, login: list[str], stack: str, out: str, err: str) -> None:
    words = [*login, "-c", "echo $VIEW $CYGNET_STACK $SHELL"]
    variables = {"JUPYTERHUB_SESSIONS_STACK": stack, "SHELL": "/opt/bin/stack-shell"}
    done = use_stack(directory, *words, program="shell", **variables)
    assert done.returncode == 0 and done.stdout.lstrip() == out.lstrip()
    assert err in done.stderr and ("not in a software stack" in done.stderr) == bool(err)


def test_shell_of_a_desktop_has_a_prompt(directory: Path) -> None:
    master, terminal = os.openpty()
    environment = os.environ | {
        "JUPYTERHUB_SESSIONS_STACKS": f"{directory}/stacks",
        "JUPYTERHUB_SESSIONS_STACK": "view",
        "PYTHONPATH": ":".join(sys.path),
    }
    words = [sys.executable, "-c", "from jupyterhub_sessions.stacks import shell; shell()"]
    process = subprocess.Popen(
        words, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    os.write(master, b"echo $((VIEW + 41))\nexit\n")
    said = b""
    with contextlib.suppress(OSError):
        while part := os.read(master, 4096):
            said += part
    os.close(master)
    assert process.wait(20) == 0
    assert b"Shell in View (view)" in said and b"(view) " in said and b"42" in said


def test_list(directory: Path) -> None:
    lines = use_stack(directory).stdout.splitlines()
    assert lines == [
        "gone    Gone  (not available: gone.example.org does not answer)",
        "prefix  Prefix",
        "view    View",
    ]


# -- without waiting --------------------------------------------------------------------------------------------------


class Storage:
    """A file system that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.there = True
        self.looks = 0
        monkeypatch.setattr(os.path, "exists", self.exists)

    def exists(self, _path: str) -> bool:
        self.looks += 1
        self.answers.wait(10)
        return self.there


def test_silent_storage_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(monkeypatch)
    availability = stacks.Availability(keep=0.0, patience=0.1)
    begin = time.monotonic()
    for _turn in range(3):
        assert availability.wait(["/cvmfs/a", "/cvmfs/b"], 0.2) == {"/cvmfs/a": False, "/cvmfs/b": False}
    assert time.monotonic() - begin < 3
    # One look at each, however often it is asked.
    assert storage.looks == 2
    assert availability.known("/cvmfs/a") is False
    storage.answers.set()
    assert availability.wait(["/cvmfs/a"], 5) == {"/cvmfs/a": True}


def test_storage_that_goes_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(monkeypatch)
    storage.answers.set()
    availability = stacks.Availability(keep=0.0, patience=0.1)
    assert availability.known("/cvmfs/a") is None
    assert availability.wait(["/cvmfs/a"], 5)["/cvmfs/a"]
    storage.there = False
    assert not availability.wait(["/cvmfs/a"], 5)["/cvmfs/a"]
    storage.there = True
    assert availability.wait(["/cvmfs/a"], 5)["/cvmfs/a"]


def test_answer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(monkeypatch)
    storage.answers.set()
    availability = stacks.Availability(keep=60)
    for _turn in range(3):
        assert availability.wait(["/cvmfs/a"], 5)["/cvmfs/a"]
    assert storage.looks == 1
