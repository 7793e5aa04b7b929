"""What runs in the VM starts, finds and ends programs, and leaves nothing behind; here it runs on this machine."""

import getpass
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent
from candidates import Agent
from vm import VmError

USER = getpass.getuser()
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="starts programs as users")


class Local:
    """In the place of the VM."""

    def command(self, *words: str) -> list[str]:
        # The network of this machine is to stay as it is.
        *options, program = words
        return [sys.executable, *options[1:], program.replace("narrow(0, 0)", "pass")]


@pytest.fixture
def asked() -> Iterator[Agent]:
    with Agent(Local()) as asked:  # type: ignore[arg-type]
        yield asked


def running(mark: str) -> list[int]:
    return agent.marked(f"BENCH_PROGRAM={mark}")


@root_only
def test_program_and_its_daemon_are_found_weighed_and_ended(asked: Agent) -> None:
    program = "setsid sh -c \"trap '' TERM; sleep 1000; true\" & echo $HOME > $TMPDIR/home; sleep 1000; true"
    asked.ask("start", "test-program", USER, ["sh", "-c", program], {})
    deadline = time.monotonic() + 10
    while len(asked.ask("of_program", "test-program")) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = asked.ask("of_program", "test-program")
    assert sorted(pids) == sorted(running("test-program")) and len(pids) == 4
    assert Path("/run/bench/test-program/home").read_text() == "/run/bench/test-program\n"
    assert 4 * 20 < asked.ask("memory_kib", pids) < 4 * 5000
    asked.ask("stop", "test-program")
    assert running("test-program") == [] and not Path("/run/bench/test-program").exists()
    assert asked.ask("memory_kib", pids) == 0


@root_only
def test_nothing_is_left_when_nobody_asks_any_more() -> None:
    with Agent(Local()) as asked:  # type: ignore[arg-type]
        asked.ask("start", "test-left", USER, ["sleep", "100"], {})
        assert len(running("test-left")) == 1
    assert running("test-left") == []


@root_only
def test_port_is_waited_for(asked: Agent) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = f"import socket, time; time.sleep(0.3); s = socket.create_server(('127.0.0.1', {port})); time.sleep(100)"
    asked.ask("start", "test-port", USER, ["python3", "-c", program], {})
    asked.ask("wait_listening", "test-port", port, 20)
    socket.create_connection(("127.0.0.1", port)).close()
    asked.ask("stop", "test-port")


@root_only
def test_end_before_the_port_is_told_with_the_log(asked: Agent) -> None:
    asked.ask("start", "test-end", USER, ["sh", "-c", "echo out of luck; exit 7"], {})
    with pytest.raises(VmError, match="status 7: out of luck"):
        asked.ask("wait_listening", "test-end", 1, 20)
    asked.ask("stop", "test-end")


def test_error_does_not_end_it(asked: Agent) -> None:
    with pytest.raises(VmError, match="no-such-order"):
        asked.ask("no-such-order")
    assert asked.ask("memory_kib", []) == 0


def test_end_is_told_with_its_reason() -> None:
    class Broken(Local):
        def command(self, *words: str) -> list[str]:
            return [sys.executable, "-c", "import sys; sys.exit('Permission denied')"]

    with Agent(Broken()) as asked, pytest.raises(VmError, match="Permission denied"):  # type: ignore[arg-type]
        asked.ask("sent_bytes")


def test_line_is_on_the_device_of_the_default_route(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text("Iface\tDestination\nbr0\t0002000A\nvec0\t00000000\n")
    (tmp_path / "net/dev").write_text(
        "Inter-|\n face |bytes\n  lo: 5 5 0 0 0 0 0 0 5 5\nvec0: 1 2 3 4 5 6 7 8 900 10\n"
    )
    calls: list[str] = []
    monkeypatch.setattr(agent, "_PROC", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, **_options: calls.append(" ".join(command)))
    assert agent.sent_bytes() == 900
    agent.narrow(10, 50)
    assert len(calls) == 3 and all(re.match("tc qdisc (add|del) dev vec0 ", call) for call in calls)
    assert "netem delay 50ms" in calls[1] and "tbf rate 10mbit" in calls[2]
    calls.clear()
    agent.narrow(0, 0)
    assert calls == ["tc qdisc del dev vec0 root"]


def test_x_servers_are_found_by_their_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = "/usr/bin/Xtigervnc"
    commands = {
        "1": "perl /usr/bin/vncserver :7",
        "2": f"{server} :1 -geometry 1x1",
        "3": "Xvfb :9",
        "4": f"{server} :2",
    }
    for pid, command in commands.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_text(command.replace(" ", "\0"))
    monkeypatch.setattr(agent, "_PROC", tmp_path)
    assert agent.x_displays("Xtigervnc", [1, 2, 3, 5]) == [":1"]


def test_programs_are_known_to_both_sides() -> None:
    programs = json.loads((Path(agent.__file__).with_name("programs.json")).read_text())
    assert {"terminal", "scrolling", "gears", "model"} == set(programs)
