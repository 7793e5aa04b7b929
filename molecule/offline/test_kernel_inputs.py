"""The input jupyterlab_kernels: what is refused, and what becomes of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernels import kernel_files, kernel_problems

VIEW: dict[str, Any] = {"name": "lcg-107", "display_name": "LCG 107", "setup": "/cvmfs/sft.cern.ch/setup.sh"}
PREFIX: dict[str, Any] = {
    "name": "tools",
    "display_name": "Tools",
    "prefix": "/cvmfs/a/tools",
    "kernel": "bash",
    "language": "bash",
}
LOGO = Path(__file__).parents[2] / "roles/jupyterlab/files/stack.svg"


def test_right_ones_have_no_problems() -> None:
    assert kernel_problems([VIEW, PREFIX, VIEW | {"name": "logo", "logo": str(LOGO)}]) == []


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        ([VIEW, VIEW], "2 kernels are named lcg-107"),
        ([VIEW | {"name": "python3"}], "choose another name"),
        ([VIEW | {"name": "LCG 107"}], "cannot be named 'LCG 107'"),
        ([VIEW | {"name": "a/b"}], "cannot be named"),
        ([VIEW | {"prefix": "/cvmfs/a", "kernel": "bash"}], "either setup, a script, or prefix"),
        ([{"name": "a", "display_name": "A"}], "either setup, a script, or prefix"),
        ([VIEW | {"setup": "cvmfs/setup.sh"}], "give it from the root"),
        ([VIEW | {"language": "R"}], "needs argv"),
        ([VIEW | {"argv": ["python3"]}], "needs argv"),
        ([PREFIX | {"kernel": ""}], "needs kernel"),
        ([PREFIX | {"session": True}], "a whole session needs setup"),
        ([VIEW | {"session": "yes", "language": "bash", "argv": ["{connection_file}"]}], "and the language python"),
        ([VIEW | {"session": True, "name": "local"}], "choose another name for the kernel local"),
        ([VIEW | {"logo": "/no/such.svg"}], "no SVG or PNG file"),
    ],
)
def test_wrong_ones_are_named(kernels: list[dict[str, Any]], said: str) -> None:
    (problem,) = kernel_problems(kernels)
    assert said in problem


def test_files() -> None:
    files = {
        file["path"]: file for file in kernel_files([VIEW, PREFIX], "/opt/stacks", "/opt/bin/use-stack", str(LOGO))
    }
    assert files["/opt/stacks/kernels"]["only"] and files["/opt/stacks/kernels/tools/logo-svg.svg"]["content_base64"]
    view = json.loads(files["/opt/stacks/kernels/lcg-107/kernel.json"]["content"])
    assert view["argv"] == ["/opt/bin/use-stack", "--kernel", "lcg-107", "{connection_file}"]
    assert "session" not in view["metadata"]["stack"]
    assert view["metadata"]["stack"]["argv"][:3] == ["python3", "-m", "ipykernel_launcher"]
    prefix = json.loads(files["/opt/stacks/kernels/tools/kernel.json"]["content"])
    assert (
        prefix["metadata"]["stack"] == {"prefix": "/cvmfs/a/tools", "kernel": "bash"} and prefix["language"] == "bash"
    )


@pytest.mark.parametrize(("given", "written"), [(True, True), ("True", True), (False, False), ("False", False)])
def test_stack_for_sessions(given: bool | str, written: bool) -> None:
    files = kernel_files([VIEW | {"session": given}], "/opt/stacks", "/opt/bin/use-stack", str(LOGO))
    (kernel,) = [json.loads(file["content"]) for file in files if file["path"].endswith("kernel.json")]
    assert kernel["metadata"]["stack"].get("session", False) is written
