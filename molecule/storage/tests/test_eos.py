"""Homes on EOS on the machine: whose they are, and what becomes of them while the server is away."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from testing import PROJECT, UNDONE_BY, Vms, reboot, taken_away, wait_for

pytestmark = pytest.mark.destructive

SITE = ("site.yml", "--tags=eos")
FILES = "/etc/eos/user.json /etc/eos/eos.keytab /etc/auto.eos /etc/auto.master.d/eos.autofs"
#: What anybody waits for a silent server: the time of a request, and once more where the library asks twice.
SILENT_SECONDS = 40.0
BACK_SECONDS = 60.0
#: What a session's unit has that concerns mounts: spawner.py.
SANDBOX = (
    "ProtectSystem=strict", "ReadWritePaths=/eos", "PrivateTmp=yes", "PrivateDevices=yes", "NoNewPrivileges=yes",
    "CapabilityBoundingSet=", "ProtectProc=invisible", "ProtectControlGroups=yes", "ProtectKernelTunables=yes",
    "RestrictSUIDSGID=yes", "LockPersonality=yes", "TemporaryFileSystem=/home:ro,mode=0755",
)  # fmt: skip


def home(user: str) -> str:
    """Name a user's home."""
    return f"/eos/user/{user[0]}/{user}"


def as_user(hub: Any, user: str, command: str) -> Any:
    """Run a shell command as a student in the own home, if that can be entered; return what it did."""
    command = f"cd {home(user)}; {command}"
    return hub.run(f"runuser -u {user} -- env --ignore-environment PATH=/usr/bin:/bin bash -c {shlex.quote(command)}")


def output(hub: Any, user: str, command: str) -> str:
    """Run a shell command that must succeed; return what it printed."""
    done = as_user(hub, user, command)
    assert done.rc == 0, done.stderr
    return str(done.stdout).strip()


def mounted(hub: Any) -> bool:
    """Tell whether EOS is mounted, without mounting it."""
    return bool(hub.run("grep -q ' /eos/user fuse' /proc/mounts").rc == 0)


def expire(hub: Any) -> None:
    """Let the automounter unmount what nobody uses, as it does after a while."""
    hub.check_output("systemctl kill --kill-whom=main --signal=USR1 autofs.service")
    wait_for("EOS to be unmounted", lambda: not mounted(hub), 30)


def there(hub: Any) -> bool:
    """Tell whether a student gets at the own files."""
    return bool(as_user(hub, "alice", "touch here && ls here").rc == 0)


@contextmanager
def away(hub: Any, campus: Any, how: str) -> Iterator[None]:
    """Take the server away for a while; afterwards all is well again without a restart of anything."""
    with taken_away(campus, how, "eos"):
        yield
    wait_for("EOS to be back", lambda: there(hub), BACK_SECONDS)


@pytest.fixture(autouse=True, scope="module")
def _unused(hub: Any) -> None:
    """End the sessions of other tests: what they have open stays mounted."""
    hub.check_output("systemctl stop 'jupyter-*'")


@pytest.fixture(autouse=True)
def _here(hub: Any) -> None:
    wait_for("EOS", lambda: there(hub), BACK_SECONDS)


# -- files ----------------------------------------------------------------------------------------------------------


def test_student_who_looks_has_it_mounted(hub: Any) -> None:
    expire(hub)
    assert output(hub, "alice", "echo swan >lake; cat lake; pwd; stat --format=%U%a lake") == (
        "swan\n/eos/user/a/alice\nalice700"
    )
    assert mounted(hub)


def test_files_are_as_programs_expect(hub: Any) -> None:
    program = """
import os, shutil
shutil.rmtree("files", ignore_errors=True)
os.makedirs("files/sub")
os.chdir("files")
for number in range(50):
    with open("saved", "w") as file:
        file.write(f"{number}")
    assert open("saved").read() == f"{number}"
with open("new", "w") as file:
    file.write("new")
os.replace("new", "saved")
assert open("saved").read() == "new" and os.listdir(".").count("new") == 0
with open("saved", "a") as file:
    file.write("er")
assert open("saved").read() == "newer" and os.path.getsize("saved") == 5
os.truncate("saved", 2)
assert open("saved").read() == "ne"
try:
    open("saved", "x")
    raise SystemExit("an exclusive open took what was there")
except FileExistsError:
    pass
os.rename("sub", "renamed")
assert os.path.isdir("renamed")
open("привет мир.ipynb", "w").write("я")
assert "привет мир.ipynb" in os.listdir(".")
with open("gone", "w+") as file:
    file.write("data")
    file.flush()
    os.unlink("gone")
    file.seek(0)
    assert file.read() == "data"
os.chmod("saved", 0o600)
with open("large", "wb") as file:
    for block in range(40):
        file.write(bytes([block]) * 2**20)
with open("large", "rb") as file:
    assert all(file.read(2**20) == bytes([block]) * 2**20 for block in range(40))
    file.seek(7 * 2**20 - 1)
    assert file.read(2) == bytes([6, 7])
for name in ("question?", "line\\nbreak"):
    try:
        open(name, "w")
        raise SystemExit(f"{name!r} is a file, though XRootD would take it for another one")
    except OSError:
        pass
print("all is well")
"""
    assert output(hub, "alice", f"python3 -c {shlex.quote(program)}") == "all is well"
    output(hub, "alice", "rm -r files")


# -- whose ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["bob", "tanya", "root"])
@pytest.mark.parametrize(
    "attempt",
    [
        "cat {home}/lake",
        "ls {home}/lake",
        "stat {home}",
        "ls {home}/",
        "echo no >{home}/lake",
        "echo no >{home}/new",
        "echo no >>{home}/lake",
        "rm {home}/lake",
        "mv {home}/lake {home}/other",
        "mkdir {home}/directory",
        "truncate --size=0 {home}/lake",
    ],
)
def test_nobody_else_gets_at_a_home(hub: Any, user: str, attempt: str) -> None:
    output(hub, "alice", "echo swan >lake")
    # Also when the kernel has just learnt of the file.
    output(hub, "alice", "cat lake")
    done = as_user(hub, user, attempt.format(home=home("alice")))
    assert done.rc != 0, done.stdout
    assert output(hub, "alice", "cat lake; ls -d new directory other 2>/dev/null || true") == "swan"


def test_home_is_made_by_the_administrators_key(hub: Any, campus: Any) -> None:
    campus.check_output("rm -rf /var/lib/campus/eos%s", home("tanya"))
    assert as_user(hub, "tanya", f"test -d {home('tanya')}").rc != 0
    variables = yaml.safe_load((PROJECT / "inventories/demo/group_vars/eos.yml").read_text())
    command = (
        "env XrdSecPROTOCOL=sss XrdSecSSSKT=/etc/eos/admin.keytab timeout 20"
        f" xrdfs root://{variables['eos_server']}:1094 mkdir -p {home('tanya')}"
    )
    for _ in range(2):
        hub.check_output(command)
    assert output(hub, "tanya", "echo larina >poem; cat poem") == "larina"
    assert as_user(hub, "alice", f"cat {home('tanya')}/poem").rc != 0
    # Students cannot make homes with it.
    assert as_user(hub, "alice", "cat /etc/eos/admin.keytab /etc/eos/eos.keytab").stdout == ""


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["unmounted", "mounted"])
def test_sandbox_reads_and_writes(hub: Any, before: str) -> None:
    if before == "unmounted":
        expire(hub)
    options = " ".join(f"-p {option}" for option in SANDBOX)
    # What is mounted anew while the session runs is there too.
    script = f"cd /; for i in 1 2; do echo $i >{home('alice')}/probe && cat {home('alice')}/probe; sleep 5; done"
    unit = f"systemd-run --quiet --collect --pipe --wait --uid=alice {options} bash -c {shlex.quote(script)}"
    unmount = threading.Timer(3, lambda: hub.run("umount /eos/user"))
    unmount.start()
    try:
        assert hub.check_output(unit).split() == ["1", "2"]
    finally:
        unmount.join()


def test_restart_of_the_automounter_leaves_open_files(hub: Any) -> None:
    script = f"cd {home('alice')}; exec 3>kept; echo one >&3; sleep 8; echo two >&3"
    hub.check_output(f"runuser -u alice -- bash -c {shlex.quote(script)} & sleep 3; systemctl restart autofs; wait $!")
    assert output(hub, "alice", "cat kept").split() == ["one", "two"]


def test_dead_client_leaves_no_dead_mount(hub: Any) -> None:
    assert mounted(hub)
    hub.check_output("kill -KILL $(pgrep --full '[m]ount.eos user /eos/user --serve')")
    wait_for("EOS", lambda: there(hub), BACK_SECONDS)


# -- the server away ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", UNDONE_BY)
def test_open_file_is_saved_when_the_server_is_back(hub: Any, campus: Any, how: str) -> None:
    program = """
import sys, time
file = open("open", "w")
file.write("1" * 300000)
file.flush()
print("begun", flush=True)
sys.stdin.readline()
file.write("2" * 300000)
begin = time.monotonic()
try:
    file.close()
except OSError as error:
    print(error)
print("closed", flush=True)
"""
    hub.check_output("mkfifo -m 666 /run/go; (sleep 1; exec 9<>/run/go; sleep 100) </dev/null >/dev/null 2>&1 &")
    shell = f"cd {home('alice')}; python3 -c {shlex.quote(program)} <>/run/go >/tmp/open.log 2>&1"
    output(hub, "alice", "touch cat")
    hub.check_output(f"runuser -u alice -- bash -c {shlex.quote(shell)} </dev/null >/dev/null 2>&1 & sleep 3")
    try:
        assert "begun" in hub.check_output("cat /tmp/open.log")
        with away(hub, campus, how):
            hub.check_output("timeout 5 sh -c 'echo go >/run/go'")
            begin = time.monotonic()
            new, known = (as_user(hub, "alice", f"{do} {home('alice')}/{do}") for do in ("touch", "cat"))
            waited = time.monotonic() - begin
            assert new.rc != 0 and known.rc != 0
            assert "No such file" not in new.stderr + known.stderr
            assert waited < SILENT_SECONDS, waited
        wait_for("the program to end", lambda: "closed" in hub.check_output("cat /tmp/open.log"), BACK_SECONDS)
        assert (
            output(hub, "alice", 'python3 -c \'print(open("open").read() == "1" * 300000 + "2" * 300000)\'') == "True"
        )
    finally:
        hub.run("pkill --uid alice python3; rm -f /run/go /tmp/open.log")


def test_what_was_written_is_sent_after_its_program_gave_up(hub: Any, campus: Any) -> None:
    output(hub, "alice", "rm -f late; touch late")
    with away(hub, campus, "stop"):
        pass
    script = f"cd {home('alice')}; exec 3>late; sleep 4; echo written >&3"
    hub.check_output(f"runuser -u alice -- bash -c {shlex.quote(script)} </dev/null >/dev/null 2>&1 & sleep 2")
    with away(hub, campus, "stop"):
        # Longer than a program waits.
        time.sleep(60)
        assert hub.run("pgrep --uid alice --full late").rc != 0
    wait_for("what was written", lambda: as_user(hub, "alice", "cat late").stdout == "written\n", BACK_SECONDS)


def test_mount_while_the_server_is_away_is_good_when_it_is_back(hub: Any, campus: Any) -> None:
    expire(hub)
    with away(hub, campus, "stop"):
        done = as_user(hub, "alice", f"ls {home('alice')}/")
        assert done.rc != 0 and "timed out" in done.stderr


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keytabs(tmp_path_factory: pytest.TempPathFactory, hub: Any) -> Path:
    """Have keytabs that are none, or of no use."""
    directory = tmp_path_factory.mktemp("keytabs")
    good = hub.check_output("cat /etc/eos/eos.keytab")
    word = next(word for word in good.split() if word.startswith("k:"))
    for name, content in {
        "wrong": good.replace(word, "k:" + "0123456789abcdef" * 4),
        "open": good,
        "none": "no keytab",
        "somebody": good.replace("u:anybody", "u:somebody"),
    }.items():
        (directory / name).write_text(f"{content}\n")
        (directory / name).chmod(0o644 if name == "open" else 0o600)
    return directory


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (
            {"eos_keytab": "{keytabs}/wrong"},
            "nothing was changed. /eos/user: sss: eos.example.org:1094 does not take the",
        ),
        ({"eos_keytab": "{keytabs}/open"}, "has the mode 0644: others can read the secret"),
        ({"eos_keytab": "{keytabs}/none"}, "is no keytab of sss"),
        ({"eos_keytab": "{keytabs}/somebody"}, "has no key of anybody"),
        ({"eos_server": "eso.example.org"}, "DNS: eso.example.org is not known"),
        ({"eos_port": 1095}, "TCP: eos.example.org, port 1095 refuses connections"),
        ({"eos_server": "hub.example.org", "eos_port": 22}, "XRootD: hub.example.org:22 does not speak XRootD"),
        ({"eos_mounts": {"user": "/eos/user/nowhere"}}, "path: eos.example.org:1094 has no /eos/user/nowhere"),
        ({"eos_server": "root://eos.example.org"}, "which is no host name"),
        ({"eos_mounts": {"user": "root://eos.example.org//eos/user"}}, "which is no path on the server"),
        ({"eos_client": "eosxd"}, "not for Debian"),
    ],
)
def test_wrong_setting_leaves_the_old_mounts(
    hub: Any, refused: Callable[..., str], keytabs: Path, variables: dict[str, Any], found: str
) -> None:
    before = hub.check_output(f"sha256sum {FILES}")
    filled = {
        name: value.format(keytabs=keytabs) if isinstance(value, str) else value for name, value in variables.items()
    }
    out = refused(SITE[0], filled, *SITE[1:])
    assert found in out, out
    assert hub.check_output(f"sha256sum {FILES}") == before
    assert there(hub)


@pytest.mark.parametrize("how", ["stop", "freeze", "cut"])
def test_new_setting_is_refused_while_the_server_is_away(
    hub: Any, campus: Any, refused: Callable[..., str], how: str
) -> None:
    with away(hub, campus, how):
        out = refused(SITE[0], {"eos_options": {"max_readahead": 131072}}, *SITE[1:])
    assert "nothing was changed" in out
    assert {"stop": "refuses connections", "freeze": "it hangs", "cut": "does not answer"}[how] in out


def test_mode_of_the_keytab_is_mended_and_a_busy_mount_is_left(hub: Any, play: Callable[..., str]) -> None:
    hub.check_output("chmod 644 /etc/eos/eos.keytab")
    assert "FAILED  user: keytab: /etc/eos/eos.keytab has the mode 0644" in hub.run("check-eos").stdout
    script = f"cd {home('alice')}; sleep 300"
    hub.check_output(
        f"runuser -u alice -- bash -c {shlex.quote(script)} </dev/null >/dev/null 2>&1 & echo $! >/run/busy"
    )
    time.sleep(2)
    try:
        out = play(SITE[0], {}, *SITE[1:], "--limit=localhost,hub")
        assert "goes on with the old configuration until nobody uses it" in " ".join(out.split())
        assert hub.check_output("stat --format=%a /etc/eos/eos.keytab") == "600"
        assert hub.check_output("readlink /proc/$(pgrep --uid alice sleep)/cwd") == home("alice")
    finally:
        hub.run("kill $(pgrep --uid alice sleep); rm /run/busy")
    assert "changed=0" in play(SITE[0], {}, *SITE[1:], "--limit=localhost,hub")
    assert hub.run("check-eos").rc == 0


def test_reboot(hub: Any, vms: Vms) -> None:
    reboot(vms, hub)
    wait_for("EOS", lambda: there(hub), BACK_SECONDS)
    assert output(hub, "alice", "cat lake") == "swan"
