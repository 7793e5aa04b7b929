"""Kernels of software stacks in a session: each in its own environment, and no burden when CVMFS is away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from testing import Browserless, new_kernel, notices, taken_away, wait_for

VIEWS = "/cvmfs/sft.example.org/lcg/views"
#: What the views differ in: molecule/shared/campus/views.
WHO = """
import json, os, sys, ipykernel, numpy
print(json.dumps([sys.executable, numpy.__version__, numpy.__file__, ipykernel.__version__, os.environ["PATH"]]))
"""


def specifications(user: Browserless) -> dict[str, Any]:
    """Return the kernels that the session's page is told of."""
    answer = user.api("kernelspecs")
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()["kernelspecs"]
    return found


@pytest.fixture
def cvmfs_away(campus: Any, hub: Any) -> Callable[[str], AbstractContextManager[None]]:
    """Return the context in which the repository's server is away, with nothing of it mounted or kept."""

    def cvmfs_away(how: str) -> AbstractContextManager[None]:
        hub.run("cvmfs_config umount sft.example.org; umount /cvmfs/sft.example.org; rm -rf /var/lib/cvmfs/shared/*")
        return taken_away(campus, how, "cvmfs")

    return cvmfs_away


def test_views_have_their_own_python(alice: Browserless) -> None:
    found = {}
    for release in ("106", "107"):
        with new_kernel(alice, name=f"lcg-{release}") as kernel:
            executable, numpy, file, ipykernel, path = json.loads(kernel.output(WHO))
        view = f"{VIEWS}/LCG_{release}/x86_64-linux-opt"
        assert executable.startswith(view) and file.startswith(view), (executable, file)
        assert "/opt/cygnet" not in path
        found[release] = (numpy, ipykernel)
    assert found["106"][0] != found["107"][0]
    with new_kernel(alice) as kernel:
        # The others' environment is nowhere else.
        assert "cvmfs" not in kernel.output("import os, sys; print(os.environ, sys.path)").lower()


def test_kernel_of_another_language(alice: Browserless) -> None:
    with new_kernel(alice, name="bash") as kernel:
        assert kernel.output("echo $((6 * 7)) $BASH_VERSION").startswith("42 5.")


def test_use_stack_in_the_terminal(alice: Browserless) -> None:
    with new_kernel(alice) as kernel:
        status, out = kernel.shell("use-stack")
        assert status == 0 and "lcg-107" in out and "Python (LCG 106)" in out and "not available" not in out
        status, out = kernel.shell("use-stack lcg-106 python3 -c 'import sys; print(sys.prefix)'; command -v python3")
        lines = out.split()
        assert lines[0].startswith(f"{VIEWS}/LCG_106") and lines[1].startswith("/opt/cygnet"), out


def test_kernels_have_pictures(alice: Browserless) -> None:
    for name, kernel in specifications(alice).items():
        logo = kernel["resources"].get("logo-svg") or kernel["resources"]["logo-64x64"]
        assert alice.request("GET", logo).status_code == 200, name


@pytest.mark.destructive
@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_dead_cvmfs_delays_nobody(
    alice: Browserless, cvmfs_away: Callable[[str], AbstractContextManager[None]], say: Callable[[str], str], fault: str
) -> None:
    with cvmfs_away(fault):
        alice.stop()
        alice.start()

        def shown() -> bool:
            names = {name: kernel["spec"]["display_name"] for name, kernel in specifications(alice).items()}
            return names["lcg-107"] == say("%(stack)s (not available)") % {"stack": "Python (LCG 107)"}

        begin = time.monotonic()
        specifications(alice)
        assert time.monotonic() - begin < 5
        wait_for("the kernel to be shown as not available", shown, 90, 3)
        with new_kernel(alice) as kernel:
            assert kernel.output("print('local')") == "local"
        answer = alice.api("kernels", "POST", json={"name": "lcg-107"}, timeout=60)
        assert answer.status_code == 503 and "sft.example.org" in answer.json()["message"], answer.text
        # As a notebook asks.
        session = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "lcg-107"}}
        answer = alice.api("sessions", "POST", json=session, timeout=60)
        assert answer.status_code >= 500 and "sft.example.org" in answer.json()["message"], answer.text
        wait_for("the notice", lambda: "stacks-sft.example.org" in notices(alice), 90, 5)

    # The automounter remembers a failure for a minute.
    wait_for("the kernel to be back", lambda: not shown(), 180, 5)
    with new_kernel(alice, name="lcg-107") as kernel:
        assert kernel.output("print('back')") == "back"
