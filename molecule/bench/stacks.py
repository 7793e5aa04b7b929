"""How fast a kernel starts from CVMFS, and how fast the same environment starts from the local disk."""

import json
from dataclasses import dataclass, field

from vm import Vm

USER = "alice"
STACK = "lcg-107"

# Runs on the hub's machine. Both are started as a session starts them, by use-stack, and are there when they answer.
_START = """\
import json, os, pathlib, shutil, subprocess, sys
wanted = json.loads(sys.argv[1])
stacks, local = pathlib.Path("/opt/cygnet/stacks"), pathlib.Path("/var/tmp/bench-stack")
spec = json.loads((stacks / "kernels" / wanted["stack"] / "kernel.json").read_text())
view = pathlib.Path(spec["metadata"]["stack"]["setup"]).parent
if not local.exists():
    shutil.copytree(view, local / "view", symlinks=True)
    setup = local / "view/setup.sh"
    setup.write_text(setup.read_text().replace(str(view), str(local / "view")))
    spec["metadata"]["stack"]["setup"] = str(setup)
    (local / "kernels" / wanted["stack"]).mkdir(parents=True)
    (local / "kernels" / wanted["stack"] / "kernel.json").write_text(json.dumps(spec))
KERNEL = '''
import sys, time
from jupyter_client import KernelManager
begin = time.monotonic()
manager = KernelManager(kernel_name=sys.argv[1])
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=300)
client.execute_interactive("import numpy", timeout=300)
print(time.monotonic() - begin)
client.stop_channels()
manager.shutdown_kernel(now=True)
'''
found = {}
for name, directory in (("cvmfs", stacks), ("local", local)):
    if wanted["cold"]:
        subprocess.run(["cvmfs_config", "reload", "-c"], check=True, stdout=subprocess.DEVNULL)
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    environment = {
        "PATH": "/opt/cygnet/jupyterlab/bin:/usr/bin:/bin",
        "JUPYTER_PATH": str(directory),
        "JUPYTERHUB_SESSIONS_STACKS": str(directory),
    }
    command = [
        *("runuser", "-u", wanted["user"], "--", "env", "--chdir=/tmp"),
        *(f"{name}={value}" for name, value in environment.items()),
        *("/opt/cygnet/jupyterlab/bin/python", "-c", KERNEL, wanted["stack"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The kernel from {directory} does not start: {done.stderr}")
    found[name] = float(done.stdout.split()[-1])
print(json.dumps(found))
"""
_CLEAN = """import shutil; shutil.rmtree("/var/tmp/bench-stack", ignore_errors=True)"""


@dataclass
class Starts:
    """Seconds of each run, from CVMFS and from the local disk."""

    cvmfs_s: list[float] = field(default_factory=list)
    local_s: list[float] = field(default_factory=list)


def measure(machine: Vm, runs: int, *, cold: bool) -> Starts:
    """Start the kernel of a view until it has imported NumPy, from CVMFS and from a copy on the local disk in turn.

    Parameters
    ----------
    machine
        Where CVMFS is mounted.
    runs
        How often.
    cold
        Whether neither the client nor the kernel has anything of it in a cache. Otherwise each was started just before.

    Raises
    ------
    VmError
        The kernel does not start.
    """
    found = Starts()
    wanted = json.dumps({"user": USER, "stack": STACK, "cold": cold})
    if runs and not cold:
        machine.python(_START, wanted)
    for _ in range(runs):
        seconds = json.loads(machine.python(_START, wanted).splitlines()[-1])
        found.cvmfs_s.append(seconds["cvmfs"])
        found.local_s.append(seconds["local"])
    machine.python(_CLEAN)
    return found
