"""Turn the software stacks of an inventory into kernels: the input jupyterlab_kernels."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PYTHON_KERNEL = ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
# jupyter_client's own rule, in lower case, in which it looks names up.
NAME = re.compile(r"[a-z0-9._-]+")
LOGOS = {".svg": "logo-svg.svg", ".png": "logo-64x64.png"}


def _argv(kernel: Mapping[str, Any]) -> list[str]:
    """Return the command of a kernel that comes with a setup script."""
    default = PYTHON_KERNEL if kernel.get("language", "python") == "python" else []
    return list(kernel.get("argv") or default)


def _session(kernel: Mapping[str, Any]) -> bool:
    """Tell whether whole sessions can be had in a kernel's stack; the value may come from a template, as a text."""
    return str(kernel.get("session") or "").lower() in {"true", "yes", "on", "1"}


def kernel_problems(kernels: Iterable[Mapping[str, Any]]) -> list[str]:
    """List what is wrong with kernels, a sentence with a remedy for each; none when all is well."""
    found = []
    kernels = list(kernels)
    for name, count in Counter(str(kernel["name"]) for kernel in kernels).items():
        if count > 1:
            found.append(f"{count} kernels are named {name}: give each a name of its own.")
        if name == "python3":
            found.append("python3 is the kernel of the users' own environment: choose another name.")
        elif not NAME.fullmatch(name):
            found.append(f"A kernel cannot be named {name!r}: take lower-case letters, digits, '.', '_' and '-'.")
    for kernel in kernels:
        what = f"The kernel {kernel['name']}"
        setup, prefix = kernel.get("setup") or "", kernel.get("prefix") or ""
        if bool(setup) == bool(prefix):
            found.append(f"{what} needs either setup, a script, or prefix, a directory.")
        found += [
            f"{what} has the path {path}: give it from the root." for path in (setup, prefix) if path and path[0] != "/"
        ]
        if setup and not any("{connection_file}" in word for word in _argv(kernel)):
            found.append(
                f"{what} needs argv, its command with {{connection_file}}, as its language is"
                f" {kernel.get('language', 'python')}."
            )
        if prefix and not kernel.get("kernel"):
            found.append(f"{what} needs kernel, the name of a directory in {prefix}/share/jupyter/kernels.")
        if _session(kernel) and not (setup and kernel.get("language", "python") == "python"):
            found.append(f"{what} has session, but a whole session needs setup and the language python: leave it out.")
        if _session(kernel) and kernel["name"] == "local":
            found.append("A session without a stack is named local: choose another name for the kernel local.")
        logo = kernel.get("logo") or ""
        if logo and (Path(logo).suffix not in LOGOS or not Path(logo).is_file()):
            found.append(f"{what} has the logo {logo}, which is no SVG or PNG file on the control node.")
    return found


def kernel_files(kernels: Iterable[Mapping[str, Any]], directory: str, program: str, logo: str) -> list[dict[str, Any]]:
    """List the files of kernels as the module `files` takes them.

    Parameters
    ----------
    kernels
        The input.
    directory
        Where they are on the machine: a directory of Jupyter data. What else is in its `kernels` is removed.
    program
        Path of use-stack on the machine.
    logo
        Path on the control node of the logo of kernels that have none.
    """
    files: list[dict[str, Any]] = [
        {"path": directory, "state": "directory"},
        {"path": f"{directory}/kernels", "state": "directory", "only": True},
    ]
    for kernel in kernels:
        prefix = kernel.get("prefix") or ""
        stack: dict[str, Any] = (
            {"prefix": prefix, "kernel": kernel.get("kernel")}
            if prefix
            else {"setup": kernel.get("setup"), "argv": _argv(kernel)}
        )
        if _session(kernel):
            stack["session"] = True
        specification = {
            "argv": [program, "--kernel", kernel["name"], "{connection_file}"],
            "display_name": kernel["display_name"],
            "language": kernel.get("language", "python"),
            "interrupt_mode": "signal",
            "metadata": {"kernel_provisioner": {"provisioner_name": "stack-provisioner"}, "stack": stack},
        }
        image = Path(kernel.get("logo") or logo)
        path = f"{directory}/kernels/{kernel['name']}"
        files += [
            {"path": path, "state": "directory", "only": True},
            {"path": f"{path}/kernel.json", "content": json.dumps(specification, indent=1, ensure_ascii=False) + "\n"},
            {
                "path": f"{path}/{LOGOS[image.suffix]}",
                "content_base64": base64.b64encode(image.read_bytes()).decode("ascii"),
            },
        ]
    return files


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"kernel_files": kernel_files, "kernel_problems": kernel_problems}
