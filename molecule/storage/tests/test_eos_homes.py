"""Sessions whose home is in EOS: files there, databases on the local disk, nobody else's files; EOS away and back."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import PEOPLE, Browserless, Kernel, Service, StartError, new_kernel, notices, person, taken_away, wait_for

LOCAL = "/var/lib/jupyterhub-local"
#: Below it the server of the VM campus has EOS's files.
EOS = "/var/lib/campus/eos"
NOTEBOOK = {
    "type": "notebook",
    "content": {
        "cells": [{"cell_type": "code", "source": "6 * 7", "metadata": {}, "outputs": [], "execution_count": None}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 4,
    },
}


def home(user: str) -> str:
    """Name a home in EOS."""
    return f"/eos/user/{user[0]}/{user}"


def local(user: str) -> str:
    """Name a directory on the local disk."""
    return f"{LOCAL}/{PEOPLE[user]['uid']}"


@pytest.fixture
def kernel(alice: Browserless) -> Iterator[Kernel]:
    """Lend a kernel in alice's session."""
    with new_kernel(alice) as kernel:
        yield kernel


# -- where things are -------------------------------------------------------------------------------------------------


def test_files_are_in_eos(alice: Browserless, kernel: Kernel, campus: Any) -> None:
    assert kernel.output("import os; print(os.environ['HOME'], os.getcwd())") == f"{home('alice')} {home('alice')}"
    alice.api("contents/here.ipynb", "PUT", json=NOTEBOOK).raise_for_status()
    stored = json.loads(campus.check_output("cat %s", f"{EOS}{home('alice')}/here.ipynb"))
    assert stored["cells"][0]["source"] == ["6 * 7"]
    kernel.output("open('written.txt', 'w').write('лебедь\\n')")
    assert campus.check_output("cat %s", f"{EOS}{home('alice')}/written.txt").strip() == "лебедь"


WHERE = """
import json, os, site, sqlite3, subprocess
from IPython import get_ipython
from jupyter_core import paths
places = {
    "history": get_ipython().history_manager.hist_file, "data": paths.jupyter_data_dir(),
    "runtime": paths.jupyter_runtime_dir(), "packages": site.getuserbase(), "cache": os.environ["XDG_CACHE_HOME"],
    "workspaces": os.environ["JUPYTERLAB_WORKSPACES_DIR"],
}
os.makedirs(places["data"], exist_ok=True)
database = sqlite3.connect(places["data"] + "/try.sqlite")
database.execute("PRAGMA journal_mode=WAL"); database.execute("CREATE TABLE IF NOT EXISTS a (b)"); database.commit()
print(json.dumps(places, default=str))
"""


def test_what_needs_locks_is_on_the_local_disk(kernel: Kernel) -> None:
    places = json.loads(kernel.output(WHERE))
    runtime = places.pop("runtime")
    assert runtime.startswith("/run/jupyter-")
    assert {name: place.startswith(local("alice")) for name, place in places.items()} == dict.fromkeys(places, True)


def test_home_is_made_at_the_first_session(service: Service, campus: Any) -> None:
    campus.check_output("rm -rf %s", f"{EOS}{home('maria')}")
    user = person(service, "maria")
    user.login()
    user.start()
    try:
        with new_kernel(user) as kernel:
            assert kernel.output("import os; open('first', 'w').close(); print(os.listdir('.'))") == "['first']"
    finally:
        user.stop()
    assert campus.file(f"{EOS}{home('maria')}/first").exists


# -- what Lab does with files -----------------------------------------------------------------------------------------


def test_checkpoint_rename_and_copy(alice: Browserless) -> None:
    alice.api("contents/draft.ipynb", "PUT", json=NOTEBOOK).raise_for_status()
    made = alice.api("contents/draft.ipynb/checkpoints", "POST")
    assert made.status_code == 201, made.text
    changed: dict[str, Any] = json.loads(json.dumps(NOTEBOOK))
    changed["content"]["cells"][0]["source"] = "changed"
    alice.api("contents/draft.ipynb", "PUT", json=changed).raise_for_status()
    alice.api(f"contents/draft.ipynb/checkpoints/{made.json()['id']}", "POST").raise_for_status()
    alice.api("contents/final.ipynb", "DELETE")
    alice.api("contents/draft.ipynb", "PATCH", json={"path": "final.ipynb"}).raise_for_status()
    read = alice.api("contents/final.ipynb").json()
    assert read["content"]["cells"][0]["source"] == "6 * 7"
    assert alice.api("contents/draft.ipynb").status_code == 404
    assert len(alice.api("contents/final.ipynb/checkpoints").json()) == 1


def test_git_clone(kernel: Kernel) -> None:
    status, out = kernel.shell(
        "set -e; rm -rf /tmp/origin cloned; git init -q -b main /tmp/origin; cd /tmp/origin;"
        " mkdir lessons; echo print > lessons/one.py; git add .;"
        " git -c user.name=A -c user.email=a@example.org commit -q -m 'One lesson';"
        " cd; git clone -q /tmp/origin cloned; cd cloned; git status --porcelain; git log --format=%s;"
        " cat lessons/one.py;"
        " echo more >> lessons/one.py; git -c user.name=A -c user.email=a@example.org commit -q -a -m More;"
        " git log --format=%s"
    )
    assert status == 0 and out.splitlines()[-4:] == ["One lesson", "print", "More", "One lesson"], out


def test_upload_and_download_of_a_gigabyte(alice: Browserless, campus: Any) -> None:
    """As Lab does it, in pieces; the session has less memory than that."""
    piece = os.urandom(2**20)
    encoded = base64.b64encode(piece).decode()
    pieces = 1024
    for number in range(1, pieces + 1):
        chunk = -1 if number == pieces else number
        model = {"type": "file", "format": "base64", "name": "big.bin", "path": "big.bin", "chunk": chunk}
        alice.api("contents/big.bin", "PUT", json={**model, "content": encoded}).raise_for_status()
    try:
        size = campus.check_output("stat --format=%%s %s", f"{EOS}{home('alice')}/big.bin")
        assert int(size) == pieces * 2**20
        received = 0
        with alice.request("GET", f"{alice.base()}files/big.bin", stream=True) as answer:
            answer.raise_for_status()
            for block in answer.iter_content(2**20):
                assert block == piece
                received += len(block)
        assert received == pieces * 2**20
    finally:
        alice.api("contents/big.bin", "DELETE")


# -- nobody else's ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "ls {home}",
        "cat {home}/here.ipynb",
        "echo x > {home}/planted",
        "echo x >> {home}/here.ipynb",
        "mkdir {home}/planted",
        "mv {home}/here.ipynb ~/stolen",
        "rm {home}/here.ipynb",
        "ls {local}",
        "ls {local}/..",
        "cat {local}/ipython/profile_default/history.sqlite",
    ],
)
def test_other_home_is_refused(alice: Browserless, bob: Browserless, campus: Any, command: str) -> None:
    alice.api("contents/here.ipynb", "PUT", json=NOTEBOOK).raise_for_status()
    before = campus.check_output("ls -la %s", f"{EOS}{home('alice')}")
    with new_kernel(bob) as kernel:
        status, out = kernel.shell(command.format(home=home("alice"), local=local("alice")))
    assert status != 0 or out.strip() in {"", PEOPLE["bob"]["uid"], str(PEOPLE["bob"]["uid"])}, out
    assert "6 * 7" not in out
    assert campus.check_output("ls -la %s", f"{EOS}{home('alice')}") == before


def test_keytab_of_the_machine_is_out_of_reach(kernel: Kernel) -> None:
    """With it one could be anybody."""
    _status, out = kernel.shell("find /etc /run /var -name '*.keytab' -readable 2>/dev/null; env | grep -i sss; true")
    assert out.strip() == ""


# -- EOS away ---------------------------------------------------------------------------------------------------------


REASONS = (
    "the storage is not connected at the moment.",
    "the storage did not answer within %(seconds)s seconds.",
    "the storage reports an error at the moment.",
)
MARK = "This session has a temporary home on this server. Your own files will be there again in the next one."


def failure(user: Browserless) -> str:
    """Ask for a session as a browser does; return the page of its failure, as text."""
    user.request("GET", f"/hub/spawn/{user.user}")

    def failed() -> str:
        answer = user.request("GET", f"/hub/spawn-pending/{user.user}")
        return html.unescape(answer.text) if answer.status_code >= 400 else ""

    return wait_for("the start to fail", failed, 60)


@pytest.mark.destructive
@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_dead_eos_is_explained_and_there_is_a_way_out(
    service: Service, hub: Any, campus: Any, say: Callable[[str], str], fault: str
) -> None:
    user = person(service, "bob")
    user.login()
    user.stop()
    with contextlib.suppress(AssertionError):
        # What is mounted, and what is not.
        hub.check_output("umount /eos/user")
    with taken_away(campus, fault, "eos"):
        begin = time.monotonic()
        text = failure(user)
        # The hub's own limit, and what a slow machine needs to tell.
        assert time.monotonic() - begin < 30
        assert say("Start with a temporary home") in text
        assert any(say(f"Your files are out of reach: {reason}") % {"seconds": 10} in text for reason in REASONS), text
        link = re.search(r'id="temporary-home"[^>]*href="([^"]+)"', text)
        assert link, text
        user.request("GET", link[1])
        try:
            wait_for("the session with a temporary home", user.running, 120)
            user.enter()
            with new_kernel(user) as kernel:
                assert kernel.output("import os; print(os.environ['HOME'])") == f"{local('bob')}/temporary-home"
                kernel.output("open('meanwhile.txt', 'w').write('kept')")
            assert "home-temporary" in notices(user)
            assert say(MARK) in html.unescape(user.request("GET", "/hub/home").text)
        finally:
            user.stop()

    def has_own_home() -> bool:
        try:
            user.start()
        except StartError:
            return False
        return True

    wait_for("a session with bob's own home", has_own_home, 180, 5)
    with new_kernel(user) as kernel:
        assert kernel.output("import os; print(os.environ['HOME'])") == home("bob")
        assert "home-left" in notices(user)
        status, out = kernel.shell(
            f"rm -rf ~/from-temporary-home; mv {local('bob')}/temporary-home ~/from-temporary-home"
        )
        assert kernel.output("print(open('from-temporary-home/meanwhile.txt').read())") == "kept", (status, out)


@pytest.mark.destructive
@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_session_outlives_dead_eos(alice: Browserless, kernel: Kernel, campus: Any, fault: str) -> None:
    """Its kernels go on, the page is told, and the work is saved afterwards."""
    alice.api("contents/thesis.ipynb", "PUT", json=NOTEBOOK).raise_for_status()
    kernel.output("result = 42; log = open('log.txt', 'w'); log.write('before\\n'); log.flush()")
    with taken_away(campus, fault, "eos"):
        changed: dict[str, Any] = json.loads(json.dumps(NOTEBOOK))
        changed["content"]["cells"][0]["source"] = f"precious {fault}"
        begin = time.monotonic()
        answer = alice.api("contents/thesis.ipynb", "PUT", json=changed, timeout=90)
        assert answer.status_code >= 500 and time.monotonic() - begin < 60, answer.text
        assert kernel.output("print(result)", 30) == "42"

    def saved() -> bool:
        return alice.api("contents/thesis.ipynb", "PUT", json=changed, timeout=90).status_code == 200

    wait_for("the notebook to be saved", saved, 240, 3)
    assert f"precious {fault}" in campus.check_output("cat %s", f"{EOS}{home('alice')}/thesis.ipynb")
    kernel.output("log.write('after\\n'); log.close()")
    assert campus.check_output("cat %s", f"{EOS}{home('alice')}/log.txt").split() == ["before", "after"]
