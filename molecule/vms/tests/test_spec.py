"""What is wrong with a spec is told in one sentence, before anything starts."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

import commands
import spec
from errors import SpecError


def a_host(**changes: Any) -> dict[str, Any]:
    return {"name": "hub", "os": "bookworm"} | changes


@pytest.mark.parametrize(
    ("hosts", "found", "remedy"),
    [
        ([a_host(memory=1024)], "'memory'", "memory_mb"),
        ([a_host(os="buster")], "'buster'", "bookworm, trixie"),
        ([a_host(), a_host()], "'hub'", "once"),
        ([a_host(), a_host(name="campus", aliases=["hub"])], "'hub'", "once"),
        ([a_host(name="Hub_1")], "'Hub_1'", "letters"),
        ([a_host(name="localhost")], "'localhost'", "host name"),
        ([a_host(memory_mb=64)], "64", "256"),
        ([a_host(memory_mb="lots")], "'lots'", "whole number"),
        ([a_host(publish=[0])], "0", "65535"),
        ([a_host(publish=[True])], "True", "whole number"),
        ([a_host(publish=[80, 80])], "'80'", "once"),
        ([a_host(publish=[{"guest": 80, "hots": 8080}])], "'hots'", "guest, host"),
        ([a_host(aliases=["hub.example..org"])], "'hub.example..org'", "hub.example.org"),
        ([a_host(packages="slapd")], "packages", "list"),
        ([a_host(packages=["slapd", "--help"])], "'--help'", "slapd"),
        ([{"name": "hub"}], "'os'", "add it"),
        ([], "hosts", "1 to"),
    ],
)
def test_a_wrong_spec_is_refused(hosts: list[Any], found: str, remedy: str) -> None:
    with pytest.raises(SpecError) as error:
        spec.parse({"name": "test", "hosts": hosts})
    message = str(error.value)
    assert found in message
    assert remedy in message
    assert "\n" not in message


def test_addresses_and_names_follow_the_order() -> None:
    hosts = [a_host(), a_host(name="campus", aliases=["ldap.example.org"])]
    parsed = spec.parse({"name": "test", "hosts": hosts})
    assert parsed.hosts_lines == "10.0.2.11 hub\n10.0.2.12 ldap.example.org campus\n"


def test_ssh_is_always_published() -> None:
    parsed = spec.parse({"name": "test", "hosts": [a_host(publish=[443, {"guest": 80, "host": 8080}])]})
    assert parsed.hosts[0].ports == (spec.Port(22), spec.Port(443), spec.Port(80, 8080))


def test_a_taken_port_stops_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        parsed = spec.parse({"name": "test", "hosts": [a_host(publish=[{"guest": 80, "host": taken}])]})
        with pytest.raises(SpecError, match=f"port {taken} .* is taken .* give another"):
            commands._listen(parsed)


def test_a_wrong_spec_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, state = tmp_path / "spec.json", tmp_path / "state"
    file.write_text(json.dumps({"name": "test", "hosts": [a_host(os="buster")]}))
    assert commands.main(["up", f"--spec={file}", f"--state={state}"]) == 2
    assert "'buster'" in capsys.readouterr().err
    assert not state.exists()


def test_down_of_nothing_is_fine(tmp_path: Path) -> None:
    assert commands.main(["down", f"--state={tmp_path / 'state'}"]) == 0
