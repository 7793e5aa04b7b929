"""Kernels of software stacks in the list, and started: a real one, and one that is out of reach."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from jupyterhub_sessions import kernels, stacks
from jupyterhub_sessions.kernels import StackKernelSpecManager, StackUnavailableError


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a stack with a real kernel, and one in a repository that is not there."""
    (tmp_path / "setup.sh").write_text("export OF_THE_STACK=1\n")
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # The program is not on $PATH here.
    use_stack = [
        sys.executable,
        "-c",
        f"import sys; sys.path[:0] = {sys.path!r}; from jupyterhub_sessions.stacks import main; main()",
    ]
    for name, setup in (("view", f"{tmp_path}/setup.sh"), ("gone", "/cvmfs/gone.example.org/setup.sh")):
        place = tmp_path / "kernels" / name
        place.mkdir(parents=True)
        specification = {
            "argv": [*use_stack, "--kernel", name, "{connection_file}"],
            "display_name": name.title(),
            "language": "python",
            "metadata": {
                "kernel_provisioner": {"provisioner_name": "stack-provisioner"},
                "stack": {"setup": setup, "argv": argv},
            },
        }
        (place / "kernel.json").write_text(json.dumps(specification))
    monkeypatch.setenv("JUPYTERHUB_SESSIONS_STACKS", str(tmp_path))
    monkeypatch.setattr(stacks, "DIRECTORY", tmp_path)
    monkeypatch.setattr(stacks, "AVAILABILITY", stacks.Availability())
    # As the entry point of the package gives it where that is installed.
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "is_provisioner_available", lambda spec: True)
    monkeypatch.setattr(
        factory,
        "create_provisioner_instance",
        lambda kernel_id, spec, parent: kernels.StackProvisioner(kernel_id=kernel_id, kernel_spec=spec, parent=parent),
    )
    return tmp_path


def manager(directory: Path) -> StackKernelSpecManager:
    return StackKernelSpecManager(kernel_dirs=[str(directory / "kernels")], ensure_native_kernel=False)


async def test_list_says_which_are_not_there(directory: Path) -> None:
    found = await manager(directory).get_all_specs()
    assert {name: kernel["spec"]["display_name"] for name, kernel in found.items()} == {
        "view": "View",
        "gone": "Gone (not available)",
    }


async def test_kernel_runs_in_its_stack(directory: Path) -> None:
    kernel = AsyncKernelManager(kernel_name="view", kernel_spec_manager=manager(directory))
    await kernel.start_kernel()
    try:
        client = kernel.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        reply = await client.execute_interactive(
            "import os; stack = os.environ['CYGNET_STACK'], os.environ['OF_THE_STACK']",
            user_expressions={"stack": "stack"},
            timeout=60,
        )
        assert reply["content"]["user_expressions"]["stack"]["data"]["text/plain"] == "('view', '1')"
        client.stop_channels()
    finally:
        await kernel.shutdown_kernel(now=True)


async def test_kernel_that_is_out_of_reach_says_why(directory: Path) -> None:
    kernel = AsyncKernelManager(kernel_name="gone", kernel_spec_manager=manager(directory))
    with pytest.raises(StackUnavailableError, match=r"gone\.example\.org does not answer"):
        await kernel.start_kernel()


async def test_native_kernel_of_a_session_in_a_stack(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_SESSIONS_STACK", "view")
    specs = manager(directory)
    assert specs.get_kernel_spec("python3").argv == specs.get_kernel_spec("view").argv
    found = await specs.get_all_specs()
    assert found["python3"]["spec"]["display_name"] == "View (of this session)"
    assert found["view"]["spec"]["display_name"] == "View"


def environments(command: str) -> list[str]:
    """Return the environments of the processes whose command line has this text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # One may end meanwhile.
        with contextlib.suppress(OSError):
            if command in (process / "cmdline").read_text(errors="replace"):
                found.append((process / "environ").read_text(errors="replace"))
    return found


def test_terminal_of_a_session_in_a_stack(directory: Path) -> None:
    """A real server opens its terminals in the stack, by the argument that the spawner gives it."""
    program = directory / "use-stack"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {sys.path!r}\n"
        f"from jupyterhub_sessions.stacks import main\nmain()\n"
    )
    program.chmod(0o755)
    mark = f"echo of-the-terminal-{uuid.uuid4()} >/dev/null; sleep 60"
    shell = [str(program), "view", "sh", "-c", mark]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [f"--ServerApp.port={port}", f"--ServerApp.root_dir={directory}", "--no-browser", "--allow-root"]
    arguments += ["--ServerApp.terminado_settings=" + repr({"shell_command": shell})]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *arguments],
        env=os.environ | {"JUPYTER_TOKEN": "secret", "JUPYTER_RUNTIME_DIR": str(directory), "HOME": str(directory)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/terminals", b"", {"Authorization": "token secret"}, method="POST"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + 60
        asked = False
        while not (asked and (found := environments(mark)) and any("OF_THE_STACK=1" in one for one in found)):
            assert server.poll() is None and time.monotonic() < end, (asked, environments(mark))
            with contextlib.suppress(urllib.error.URLError):
                asked = asked or opener.open(request, timeout=10).status == 200
            time.sleep(0.2)
        assert any("CYGNET_STACK=view" in one for one in found)
    finally:
        server.terminate()
        server.wait(20)
