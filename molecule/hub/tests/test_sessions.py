"""Sessions: what each is given, what it may not do, and what no other user reaches of it."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import Browserless, Kernel, Service, StartError, WebSocketRefusedError, new_kernel, wait_for

Say = Callable[[str], str]


def unit(user: str, server: str = "") -> str:
    """Name a session's unit."""
    return f"jupyter-{user}:{server}.service" if server else f"jupyter-{user}.service"


def uid(hub: Any, user: str) -> str:
    """Return the number of an account."""
    return str(hub.check_output(f"id -u {user}"))


def properties(hub: Any, name: str) -> dict[str, str]:
    """Return what systemd knows of a unit."""
    lines = hub.check_output(f"systemctl show '{name}'").splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def refused(hub: Any, user: str, command: str) -> bool:
    """Tell whether a user's local shell may not do what root may, with the same words."""
    allowed = hub.run(command)
    assert allowed.rc == 0, f"The test asks for what nobody has: {allowed.stderr}"
    result = hub.run(f"cd / && sudo -u {user} sh -c {shlex.quote(command)}")
    assert result.rc == 0 or "ermission denied" in result.stderr, result.stderr
    return bool(result.rc != 0)


# -- what a session is given ----------------------------------------------------------------------------------------


def test_session_runs_as_its_user_within_limits(hub: Any, alice: Browserless) -> None:
    found = properties(hub, unit("alice"))
    assert found["ActiveState"] == "active"
    assert hub.check_output(f"ps -o user= -p {found['MainPID']}") == "alice"
    assert found["Slice"] == "jupyter.slice"
    assert int(found["MemoryMax"]) <= 2 * 2**30
    assert found["MemorySwapMax"] == "0"
    assert int(found["TasksMax"]) <= 4096
    assert found["CPUQuotaPerSecUSec"] != "infinity"
    assert found["NoNewPrivileges"] == "yes"


def test_limit_of_memory_is_the_kernels_too(hub: Any, alice: Browserless) -> None:
    found = properties(hub, unit("alice"))
    group = f"/sys/fs/cgroup{found['ControlGroup']}"
    assert hub.check_output(f"cat {group}/memory.max") == found["MemoryMax"]
    assert hub.check_output(f"cat {group}/pids.max") == found["TasksMax"]


def test_session_listens_on_no_port(hub: Any, alice: Browserless) -> None:
    processes = set(hub.check_output("pgrep -u alice").split())
    listeners = hub.check_output("ss -Hlntp")
    assert processes
    assert not [pid for pid in processes if f"pid={pid}," in listeners]


def test_only_the_user_and_the_proxy_reach_the_socket(hub: Any, alice: Browserless) -> None:
    directory = f"/run/jupyterhub-sessions/{uid(hub, 'alice')}"
    modes = hub.check_output(f"stat -c '%U %G %a' {directory} {directory}/server.sock").splitlines()
    assert modes == ["alice chp 2710", "alice chp 660"]


# -- what another local user reaches --------------------------------------------------------------------------------

CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.mark.parametrize("path", ["/run/jupyterhub-sessions/{uid}/server.sock", "/run/chp/api.sock"])
def test_other_user_cannot_connect(hub: Any, alice: Browserless, path: str) -> None:
    path = path.format(uid=uid(hub, "alice"))
    assert refused(hub, "bob", f"python3 -c {shlex.quote(CONNECT)} {path}")


def test_user_connects_to_the_own_socket(hub: Any, alice: Browserless) -> None:
    # Otherwise the test above would pass with a command that can never work.
    path = f"/run/jupyterhub-sessions/{uid(hub, 'alice')}/server.sock"
    assert not refused(hub, "alice", f"python3 -c {shlex.quote(CONNECT)} {path}")


@pytest.mark.parametrize(
    "path",
    [
        "/run/jupyterhub-sessions",
        "/run/jupyterhub-sessions/{uid}",
        "/run/jupyter-{uid}",
        "/run/jupyterhub/environment",
        "/etc/jupyterhub",
        "/var/lib/jupyterhub",
    ],
)
def test_other_user_cannot_list(hub: Any, alice: Browserless, path: str) -> None:
    assert refused(hub, "bob", f"ls {path.format(uid=uid(hub, 'alice'))}")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/chp.env",
        "/etc/jupyterhub/jupyterhub_config.py",
        "/etc/jupyterhub/metrics_token",
        "/etc/nginx/tls/key.pem",
        "/run/jupyterhub/environment/{uid}.env",
    ],
)
def test_other_user_cannot_read(hub: Any, alice: Browserless, path: str) -> None:
    assert refused(hub, "bob", f"cat {path.format(uid=uid(hub, 'alice'))} >/dev/null")


def test_other_user_cannot_read_what_the_hub_keeps(hub: Any, alice: Browserless) -> None:
    kept = hub.check_output("find /etc/jupyterhub /var/lib/jupyterhub -type f ! -name '*-journal'").splitlines()
    # Where there is a database server, the hub's own machine has no file of the database.
    database = hub.check_output("cat /etc/jupyterhub/secrets.json")
    expected = {"/etc/jupyterhub/secrets.json", "/var/lib/jupyterhub/cookie_secret"}
    expected |= {"/var/lib/jupyterhub/jupyterhub.sqlite"} if "sqlite:" in database else set()
    assert expected <= set(kept)
    assert [path for path in kept if not refused(hub, "bob", f"cat '{path}' >/dev/null")] == []


@pytest.mark.parametrize("file", ["environ", "cwd/", "root/", "fd/"])
def test_other_user_cannot_look_into_the_process(hub: Any, alice: Browserless, file: str) -> None:
    pid = properties(hub, unit("alice"))["MainPID"]
    command = f"ls /proc/{pid}/{file}" if file.endswith("/") else f"cat /proc/{pid}/{file} >/dev/null"
    assert refused(hub, "bob", command)


def test_tokens_are_not_on_command_lines(hub: Any, alice: Browserless) -> None:
    environment = hub.check_output(f"cat /run/jupyterhub/environment/{uid(hub, 'alice')}.env")
    token = next(line for line in environment.splitlines() if line.startswith("JUPYTERHUB_API_TOKEN="))
    secret = token.partition("=")[2].strip("'\"")
    assert len(secret) > 20
    assert secret not in hub.check_output("ps -eo args")
    assert secret not in hub.check_output(f"systemctl show '{unit('alice')}'")


# -- what the code of a session reaches -----------------------------------------------------------------------------

LOOK = """
import json, os, pathlib, socket, subprocess

def attempt(action):
    try:
        return str(action())
    except Exception as error:
        return type(error).__name__

def connect(path):
    socket.socket(socket.AF_UNIX).connect(path)

def write(directory):
    path = pathlib.Path(directory, "cygnet-test-of-writing")
    path.write_text("x")
    path.unlink()

runtime = os.environ["XDG_RUNTIME_DIR"]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "uid": os.getuid(),
    "homes": sorted(os.listdir("/home")),
    "hidden": {path: attempt(lambda: os.listdir(path)) for path in ("/root", "/run/user", "/etc/jupyterhub")},
    "other_home": attempt(lambda: os.listdir("/home/alice")),
    "tmp": os.listdir("/tmp") + os.listdir("/var/tmp"),
    "write": {
        path: attempt(lambda: write(path))
        for path in ("/", "/etc", "/usr", "/opt/cygnet/jupyterlab", "/var/lib", "/run", "/home", "/dev/shm",
                     "/tmp", os.path.expanduser("~"), runtime)
    },
    "runtime": [runtime, oct(os.stat(runtime).st_mode & 0o777), os.stat(runtime).st_uid],
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "devices": sorted(path.name for path in pathlib.Path("/dev").iterdir() if path.is_block_device()),
    "special": [name for name in ("mem", "kmsg", "fuse", "kvm", "net", "tty0") if os.path.exists("/dev/" + name)],
    "foreign": sorted({
        str(path.stat().st_uid) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()
    } - {str(os.getuid())}),
    "alice": attempt(lambda: connect("/run/jupyterhub-sessions/ALICE/server.sock")),
    "proxy": attempt(lambda: connect("/run/chp/api.sock")),
    "systemd": subprocess.run(["systemctl", "stop", "jupyter-alice.service"], capture_output=True).returncode,
    "sudo": subprocess.run(["su", "-c", "id", "alice"], capture_output=True, stdin=subprocess.DEVNULL).returncode,
    "language": os.environ.get("LANG"),
}))
"""


@pytest.fixture(scope="module")
def inside(hub: Any, users: dict[str, Browserless]) -> dict[str, Any]:
    """What code in bob's session finds while alice's session runs."""
    for user in users.values():
        user.ensure()
    hub.check_output("touch /tmp/cygnet-of-the-machine /var/tmp/cygnet-of-the-machine")
    with new_kernel(users["bob"]) as kernel:
        found: dict[str, Any] = json.loads(kernel.output(LOOK.replace("ALICE", uid(hub, "alice"))))
    hub.check_output("rm /tmp/cygnet-of-the-machine /var/tmp/cygnet-of-the-machine")
    return found


def test_inside_only_the_own_home_is_visible(inside: dict[str, Any]) -> None:
    assert inside["homes"] == ["bob"]
    assert inside["other_home"] == "FileNotFoundError"
    assert set(inside["hidden"].values()) == {"[]"}


def test_inside_temporary_files_of_others_are_not_visible(inside: dict[str, Any]) -> None:
    assert "cygnet-of-the-machine" not in inside["tmp"]


def test_inside_the_system_is_read_only(inside: dict[str, Any]) -> None:
    written = {path for path, result in inside["write"].items() if result == "None"}
    assert written == {"/dev/shm", "/tmp", "/home/bob", inside["runtime"][0]}


def test_inside_the_runtime_directory_is_private(hub: Any, inside: dict[str, Any]) -> None:
    path, mode, owner = inside["runtime"]
    assert (mode, str(owner)) == ("0o700", uid(hub, "bob"))
    assert path.startswith("/run/")


def test_inside_there_are_no_privileges(inside: dict[str, Any]) -> None:
    assert set(inside["capabilities"]) == {"0" * 16}
    assert inside["no_new_privileges"] == "1"
    assert inside["sudo"] != 0


def test_inside_there_are_no_devices(inside: dict[str, Any]) -> None:
    assert inside["devices"] == []
    assert inside["special"] == []


def test_inside_no_process_of_others_is_visible(inside: dict[str, Any]) -> None:
    assert inside["foreign"] == []


def test_inside_no_socket_of_others_opens(inside: dict[str, Any]) -> None:
    assert inside["alice"] == inside["proxy"] == "PermissionError"


def test_inside_no_session_of_others_can_be_stopped(hub: Any, inside: dict[str, Any]) -> None:
    assert inside["systemd"] != 0
    assert properties(hub, unit("alice"))["ActiveState"] == "active"


# -- what another user reaches over HTTP ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "lab", "api/contents", "api/kernels", "api/terminals"])
def test_other_user_is_refused_over_http(alice: Browserless, bob: Browserless, path: str) -> None:
    assert alice.request("GET", f"/user/alice/{path}").status_code == 200
    assert bob.request("GET", f"/user/alice/{path}").status_code in {403, 404}


@pytest.mark.parametrize("path", ["lab", "api/kernels"])
def test_stranger_gets_no_further_than_the_login(service: Service, alice: Browserless, path: str) -> None:
    answer = service.get(f"/user/alice/{path}")
    assert answer.status_code == 403 or 'id="login_submit"' in answer.text


def test_other_user_is_refused_at_the_kernels_websocket(alice: Browserless, bob: Browserless) -> None:
    with new_kernel(alice) as kernel:
        assert kernel.output("print(6 * 7)") == "42"
        with pytest.raises(WebSocketRefusedError) as refusal:
            Kernel(bob, kernel.identifier, owner="alice").connect()
        assert refusal.value.status in {302, 403}


def test_other_user_can_neither_start_nor_stop_a_session(alice: Browserless, bob: Browserless) -> None:
    for method in ("POST", "DELETE"):
        assert bob.request(method, "/hub/api/users/alice/server").status_code in {403, 404}
    assert alice.running()


def test_request_forged_on_another_page_is_refused(alice: Browserless) -> None:
    answer = alice.api("kernels", "POST", json={"name": "python3"}, headers={"X-XSRFToken": "forged"})
    assert answer.status_code == 403


def test_every_request_with_a_body_is_answered(alice: Browserless) -> None:
    # A proxy that had the session close each connection lost one to two of a hundred such answers.
    document = {"type": "file", "format": "text", "content": "x" * 1000}
    answers = [alice.api("contents/answered.txt", "PUT", json=document).status_code for _ in range(150)]
    alice.api("contents/answered.txt", "DELETE")
    assert set(answers) == {200, 201}


# -- several sessions of one user -----------------------------------------------------------------------------------


def test_named_session_runs_beside_the_default_one(hub: Any, alice: Browserless) -> None:
    alice.ensure("second")
    try:
        first, second = (properties(hub, unit("alice", name)) for name in ("", "second"))
        assert first["ActiveState"] == second["ActiveState"] == "active"
        assert first["MainPID"] != second["MainPID"]
        with new_kernel(alice) as one, new_kernel(alice, "second") as other:
            one.output("x = 1")
            assert other.output("print('x' in globals())") == "False"
        number = uid(hub, "alice")
        hub.check_output(f"test -S /run/jupyterhub-sessions/{number}/server.sock")
        hub.check_output(f"test -S /run/jupyterhub-sessions/{number}-second/server.sock")
    finally:
        alice.forget("second")
    assert properties(hub, unit("alice", "second"))["LoadState"] == "not-found"
    assert properties(hub, unit("alice"))["MainPID"] == first["MainPID"]
    assert alice.api("status").status_code == 200


def test_stop_leaves_nothing(hub: Any, bob: Browserless) -> None:
    number = uid(hub, "bob")
    left = f"ls -d /run/jupyterhub-sessions/{number} /run/jupyterhub/environment/{number}.env /run/jupyter-{number}"
    assert len(hub.check_output(left).split()) == 3
    # Has left the session's process group and ignores the polite signal, as a daemon may.
    stubborn = (
        "import subprocess; subprocess.Popen(['setsid', 'sh', '-c', 'trap \"\" TERM HUP; while :; do sleep 1; done'])"
    )
    with new_kernel(bob) as kernel:
        kernel.output(stubborn)
        assert "trap" in hub.check_output("ps -u bob -o args=")
        bob.stop()
    assert hub.run(left).stdout == ""
    assert properties(hub, unit("bob"))["LoadState"] == "not-found"
    assert hub.run("ps -u bob -o args=").stdout == ""


# -- accounts of all kinds ------------------------------------------------------------------------------------------


@pytest.fixture
def newcomer(hub: Any, service: Service) -> Iterator[Browserless]:
    """Lend an account of a student who has never been here: it has no home yet."""
    name, password = "newcomer", secrets.token_hex(12)
    hub.check_output(f"useradd --no-create-home --gid students --shell /bin/bash {name}")
    hub.check_output(f"echo {name}:{password} | chpasswd")
    user = Browserless(service, name, password)
    try:
        user.login()
        yield user
    finally:
        user.stop()
        hub.check_output(f"userdel {name}; rm -rf /home/{name}")


@pytest.mark.destructive
def test_first_session_finds_a_new_and_private_home(hub: Any, newcomer: Browserless) -> None:
    assert hub.run("test -e /home/newcomer").rc != 0
    newcomer.start()
    assert hub.check_output("stat -c '%U %a' /home/newcomer") == "newcomer 700"
    with new_kernel(newcomer) as kernel:
        assert kernel.output("import os; print(os.getcwd())") == "/home/newcomer"
    assert refused(hub, "bob", "ls /home/newcomer")


@pytest.mark.destructive
def test_failed_start_says_why_on_the_page(hub: Any, newcomer: Browserless, say: Say) -> None:
    # The configuration of the user's own stops the server: the commonest way to lock oneself out.
    hub.check_output(
        "install -d -o newcomer -m 0700 /home/newcomer /home/newcomer/.jupyter && "
        "echo 'import sys; print(\"a swan bit me\", file=sys.stderr, flush=True); sys.exit(7)' "
        "> /home/newcomer/.jupyter/jupyter_server_config.py"
    )
    with pytest.raises(StartError):
        newcomer.start()
    answer = newcomer.request("GET", "/hub/spawn-pending/newcomer")
    assert answer.status_code >= 400
    assert say("The session could not be started") in answer.text
    assert say("Your session ended while it was starting (exit code %(code)s).") % {"code": 7} in answer.text
    assert "a swan bit me" in answer.text

    hub.check_output("rm -r /home/newcomer/.jupyter")
    newcomer.start()
    assert newcomer.api("status").status_code == 200


@pytest.mark.destructive
def test_account_that_vanished_is_named_on_the_page(hub: Any, newcomer: Browserless, say: Say) -> None:
    hub.check_output("usermod --login renamed newcomer")
    try:
        newcomer.request_start()
        answer = newcomer.request("GET", "/hub/spawn-pending/newcomer")
        sentence = say("There is no account %(user)s on the server. Please tell the administrators.")
        assert sentence % {"user": "newcomer"} in answer.text
    finally:
        hub.check_output("usermod --login newcomer renamed")


def test_session_that_ended_by_itself_is_noticed(hub: Any, bob: Browserless) -> None:
    hub.check_output(f"systemctl kill --signal=KILL '{unit('bob')}'")
    wait_for("the hub to see that bob's session is gone", bob.stopped)
    bob.start()
    assert bob.api("status").status_code == 200
