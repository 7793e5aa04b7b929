"""Software from CVMFS on the machine: mounted when somebody looks, whatever becomes of its server."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testing import PEOPLE, PROJECT, UNDONE_BY, Vms, reboot, taken_away, wait_for

pytestmark = pytest.mark.destructive

FQRN = "sft.example.org"
MOUNT = f"/cvmfs/{FQRN}"
VIEW = f"{MOUNT}/lcg/views/{{release}}/x86_64-linux-opt"
SITE = ("site.yml", "--tags=cvmfs", "--limit=localhost,hub")
#: What a look at a repository may take while its server is silent: the client gives up after 20 s.
SILENT_SECONDS = 45.0
BACK_SECONDS = 90.0

Play = Callable[..., str]


def as_alice(hub: Any, command: str) -> Any:
    """Run a shell command as a student; return what it did."""
    uid = PEOPLE["alice"]["uid"]
    options = f"--reuid={uid} --regid={uid} --clear-groups"
    return hub.run(f"setpriv {options} env --ignore-environment PATH=/usr/bin:/bin bash -c {shlex.quote(command)}")


def mounted(hub: Any) -> bool:
    """Tell whether the repository is mounted, without mounting it."""
    return bool(hub.run(f"grep -q ' {MOUNT} fuse' /proc/mounts").rc == 0)


def expire(hub: Any) -> None:
    """Let the automounter unmount what nobody uses, as it does after a while."""
    hub.check_output("systemctl kill --kill-whom=main --signal=USR1 autofs.service")
    wait_for("the repository to be unmounted", lambda: not mounted(hub), 30)


def readable(hub: Any) -> bool:
    """Tell whether a student can list the repository."""
    return "lcg" in as_alice(hub, f"ls {MOUNT}").stdout


def forget(hub: Any) -> None:
    """Empty the client's cache and the kernel's."""
    hub.check_output("cvmfs_config reload -c && echo 3 >/proc/sys/vm/drop_caches")


def seconds(function: Callable[[], object]) -> float:
    """Measure what something takes."""
    begin = time.monotonic()
    function()
    return time.monotonic() - begin


@contextmanager
def away(hub: Any, campus: Any, how: str) -> Iterator[None]:
    """Take the server away for a while; afterwards all is well again without a restart of anything."""
    with taken_away(campus, how, "cvmfs"):
        yield
    wait_for("the repository", lambda: readable(hub), BACK_SECONDS)


@pytest.fixture
def here(hub: Any) -> None:
    """Have the repository mounted, and all its files only at the server."""
    wait_for("the repository", lambda: readable(hub), BACK_SECONDS)
    forget(hub)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_student_who_looks_has_it_mounted(hub: Any) -> None:
    wait_for("the repository", lambda: readable(hub), BACK_SECONDS)
    expire(hub)
    assert as_alice(hub, f"ls {MOUNT}").stdout.split() == ["bash", "data", "lcg"]
    assert mounted(hub)
    assert as_alice(hub, f"touch {MOUNT}/new").rc != 0
    assert hub.run(f"touch {MOUNT}/new").rc != 0


def test_what_is_in_use_stays_mounted(hub: Any, here: None) -> None:
    expired = "systemctl kill --kill-whom=main --signal=USR1 autofs.service"
    hub.check_output(f"bash -c 'exec 3< {MOUNT}/data/0.bin; {expired}; sleep 5; cat <&3 | wc -c'")
    assert mounted(hub)


def test_name_that_no_server_has_is_no_directory(hub: Any) -> None:
    assert as_alice(hub, "ls /cvmfs/nothing.example.org").rc != 0
    assert as_alice(hub, "ls /cvmfs/no-name").rc != 0


@pytest.mark.parametrize("release", ["LCG_106", "LCG_107"])
def test_view_has_a_python_of_its_own(hub: Any, release: str) -> None:
    view = VIEW.format(release=release)
    program = "import ipykernel, numpy, sys; print(ipykernel.__version__, numpy.__version__, sys.prefix)"
    pins = (PROJECT / f"molecule/shared/campus/views/{release}.txt").read_text()
    versions = [re.findall(rf"^{name}==(\S+)", pins, re.MULTILINE)[0] for name in ("ipykernel", "numpy")]
    done = as_alice(hub, f'. {view}/setup.sh && python3 -c "{program}"')
    assert done.stdout.split() == [*versions, view], done.stderr


# Start a kernel as Jupyter does, and have it say something.
ASK_KERNEL = """
import sys
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec
manager, said = KernelManager(), []
manager._kernel_spec = KernelSpec.from_resource_dir(sys.argv[1])
manager.start_kernel()
try:
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=90)
    client.execute_interactive("echo $((6 * 7))", timeout=60, output_hook=lambda message: said.append(message))
finally:
    manager.shutdown_kernel(now=True)
print([message["content"].get("text", "").strip() for message in said if message["msg_type"] == "stream"])
"""


def test_kernel_of_another_language(hub: Any) -> None:
    spec = f"{MOUNT}/bash/share/jupyter/kernels/bash"
    view = VIEW.format(release="LCG_106")
    home = "export HOME=$(mktemp -d) && cd && trap 'rm -r $HOME' EXIT"
    done = as_alice(hub, f"{home} && . {view}/setup.sh && python3 -c {shlex.quote(ASK_KERNEL)} {spec}")
    assert done.stdout.strip() == "['42']", done.stderr


# -- the server is away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", UNDONE_BY)
def test_unmounted_repository_is_absent_until_the_server_is_back(hub: Any, campus: Any, here: None, how: str) -> None:
    expire(hub)
    with away(hub, campus, how):
        limit = 10.0 if how == "stop" else SILENT_SECONDS
        assert seconds(lambda: as_alice(hub, f"ls {MOUNT}")) < limit
        # The next one does not wait for what has failed just now.
        assert seconds(lambda: as_alice(hub, f"ls {MOUNT}")) < 10.0
        done = as_alice(hub, f"ls {MOUNT}")
        assert "No such file" in done.stderr, done


@pytest.mark.parametrize("how", UNDONE_BY)
def test_mounted_repository_goes_on_with_what_is_cached(hub: Any, campus: Any, here: None, how: str) -> None:
    assert as_alice(hub, f"cat {MOUNT}/data/1.bin | sha256sum").rc == 0
    with away(hub, campus, how):
        hub.check_output("echo 3 >/proc/sys/vm/drop_caches")
        assert as_alice(hub, f"cat {MOUNT}/data/1.bin").rc == 0
        begin = time.monotonic()
        done = as_alice(hub, f"cat {MOUNT}/data/2.bin")
        assert "Input/output error" in done.stderr and time.monotonic() - begin < SILENT_SECONDS
        # Nobody else waits with them.
        impatient = f"timeout 40 cat {MOUNT}/data/3.bin & timeout 5 cat {MOUNT}/data/1.bin"
        assert as_alice(hub, f"{impatient} >/dev/null").rc == 0
    assert as_alice(hub, f"cat {MOUNT}/data/2.bin").rc == 0


def test_run_goes_on_and_says_which_repository_is_away(play: Play, hub: Any, campus: Any, here: None) -> None:
    expire(hub)
    with away(hub, campus, "stop"):
        out = " ".join(play(*SITE[:1], {}, *SITE[1:]).split())
        assert "Not to be read at present" in out and f"8000/{FQRN} does not answer" in out
        assert "changed=0" in out


# -- what is configured -----------------------------------------------------------------------------------------------


@pytest.fixture
def deploy(play: Play) -> Iterator[Callable[[dict[str, Any]], str]]:
    """Return the function that deploys the role with further settings; afterwards it has the scenario's own again."""

    def run(variables: dict[str, Any]) -> str:
        return play(SITE[0], variables, *SITE[1:])

    yield run
    run({})


def domain(
    directory: Path, name: str, server: str = "http://cvmfs.example.org:8000", **settings: str
) -> dict[str, Any]:
    """Describe a domain with a key of nobody's."""
    key = directory / "nobody.pub"
    if not key.exists():
        command = ["openssl", "genpkey", "-algorithm", "RSA", "-out", str(directory / "nobody.key")]
        subprocess.run(command, check=True, capture_output=True)
        command = ["openssl", "pkey", "-in", str(directory / "nobody.key"), "-pubout", "-out", str(key)]
        subprocess.run(command, check=True, capture_output=True)
    return {"name": name, "servers": [f"{server}/@fqrn@"], "keys": [str(key)], "settings": settings}


def test_wrong_key_is_refused_and_all_goes_on(refused: Play, hub: Any, here: None, tmp_path: Path) -> None:
    before = hub.check_output("cat /etc/cvmfs/default.local /etc/cvmfs/domain.d/*; grep cvmfs /proc/mounts")
    out = refused("site.yml", {"cvmfs_domains": [domain(tmp_path, "example.org")]}, "--tags=cvmfs")
    assert "nothing was changed" in out and "probably the key is not the repository's" in out
    assert hub.check_output("cat /etc/cvmfs/default.local /etc/cvmfs/domain.d/*; grep cvmfs /proc/mounts") == before
    assert as_alice(hub, f"cat {MOUNT}/data/4.bin").rc == 0


def test_each_repository_that_cannot_be_mounted_is_explained(refused: Play, hub: Any, tmp_path: Path) -> None:
    domains = [
        domain(tmp_path, "other.example", CVMFS_SERVER_URL=""),
        domain(tmp_path, "keyless.example", CVMFS_KEYS_DIR="/nonexistent"),
        domain(tmp_path, "proxyless.example", CVMFS_HTTP_PROXY=""),
        domain(tmp_path, "closed.example", "http://cvmfs.example.org:9"),
        domain(tmp_path, "empty.example"),
    ]
    said = {
        "sft.other.example": "nothing says which servers have it",
        "sft.keyless.example": "there is no public key in /nonexistent",
        "sft.proxyless.example": "no proxy is set",
        "sft.closed.example": "http://cvmfs.example.org:9/sft.closed.example does not answer",
        "sft.empty.example": "http://cvmfs.example.org:8000/sft.empty.example answers 404",
    }
    out = refused("site.yml", {"cvmfs_repositories": list(said), "cvmfs_domains": domains}, "--tags=cvmfs")
    for fqrn, why in said.items():
        assert f"{fqrn}: {why}" in out
    assert not mounted_elsewhere(hub)


def mounted_elsewhere(hub: Any) -> str:
    """List what a trial left behind."""
    return str(hub.check_output("grep cygnet-cvmfs /proc/*/mounts; ls -d /var/tmp/cygnet-cvmfs-* 2>/dev/null; true"))


def test_cache_larger_than_the_disk_is_refused(refused: Play) -> None:
    assert "the cache may become 9000000 MB" in refused("site.yml", {"cvmfs_quota_mb": 9_000_000}, "--tags=cvmfs")


def test_full_cache_makes_room(deploy: Callable[[dict[str, Any]], str], hub: Any, campus: Any, here: None) -> None:
    pid = f"""python3 -c 'import os; print(os.getxattr("{MOUNT}", "user.pid"))'"""
    daemon = hub.check_output(pid)
    deploy({"cvmfs_quota_mb": 20})
    # A mounted repository has taken it, and goes on.
    assert hub.check_output(pid) == daemon
    forget(hub)
    assert as_alice(hub, f"cat {MOUNT}/data/*.bin | wc -c").stdout.strip() == str(8 * (4 << 20))
    used = int(hub.check_output("du --summarize --bytes /var/lib/cvmfs/shared").split()[0])
    assert used < 22_000_000
    with away(hub, campus, "stop"):
        hub.check_output("echo 3 >/proc/sys/vm/drop_caches")
        assert as_alice(hub, f"cat {MOUNT}/data/7.bin").rc == 0
        assert "Input/output error" in as_alice(hub, f"cat {MOUNT}/data/0.bin").stderr
    assert as_alice(hub, f"cat {MOUNT}/data/0.bin").rc == 0


# -- a reboot ---------------------------------------------------------------------------------------------------------


# Last: nothing that ran before runs afterwards.
def test_reboot_brings_it_back_and_warms_it_up(vms: Vms, hub: Any, campus: Any, here: None) -> None:
    reboot(vms, hub)

    def warm() -> bool:
        shown = hub.check_output("systemctl show -P Result -P ExecMainExitTimestampMonotonic cvmfs-warm-up").split()
        return shown[0] == "success" and int(shown[1]) > 0

    wait_for("the end of the warm-up", warm, 300)
    campus.check_output("campus-ctl stop cvmfs")
    try:
        hub.check_output("echo 3 >/proc/sys/vm/drop_caches")
        view = VIEW.format(release="LCG_107")
        done = as_alice(hub, f'. {view}/setup.sh && python3 -c "import ipykernel.kernelapp"')
        assert done.rc == 0, done.stderr
    finally:
        campus.check_output("campus-ctl start cvmfs")
