"""The machine that is measured: a fresh VM, what Ansible does to it, and what its sessions occupy."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
STATE = REPOSITORY / "build/vms/bench"
LOGS = REPOSITORY / "build/bench"
HOST = "hub"
CAMPUS = "campus"
_VMS = [sys.executable, str(REPOSITORY / "molecule/vms")]

# Proportional set size (proc(5)): pages that several processes share count once.
_MEMORY = """\
import pathlib, subprocess, sys
show = ["systemctl", "show", "--property=ControlGroup", "--value", sys.argv[1]]
group = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
if not group:
    sys.exit(f"{sys.argv[1]} has no control group: it does not run.")
total = 0
for processes in pathlib.Path("/sys/fs/cgroup" + group).rglob("cgroup.procs"):
    for process in processes.read_text().split():
        for line in pathlib.Path("/proc", process, "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
print(total)
"""


class VmError(Exception):
    """The VM did not do what was asked of it; the message is for the one who measures."""


class Vm:
    """The VM of `make bench`."""

    def boot(self) -> None:
        """Boot a fresh VM in place of any other."""
        self.remove()
        spec = REPOSITORY / "molecule/bench/vms.json"
        if subprocess.run([*_VMS, "up", f"--spec={spec}", f"--state={STATE}"]).returncode != 0:
            raise VmError("The VM did not boot; see above.")

    def require(self) -> None:
        """Take the VM that an earlier bench kept.

        Raises
        ------
        VmError
            There is none.
        """
        if not (STATE / "vms.json").exists():
            raise VmError("There is no VM to measure in: leave out --first-runs=0, and keep its VM with KEEP=1.")

    def remove(self) -> None:
        """Power the VM off and remove it, if it is there."""
        subprocess.run([*_VMS, "down", f"--state={STATE}"], check=True)

    @property
    def summary(self) -> dict[str, Any]:
        """Return what `molecule/vms` says of the VM."""
        return dict(json.loads((STATE / "vms.json").read_text()))

    def port(self, port: int) -> int:
        """Return the port of this machine's loopback address that leads to a port of the VM."""
        return int(self.summary["hosts"][HOST]["ports"][str(port)])

    def play(self, playbook: str, name: str) -> tuple[float, str]:
        """Run a playbook; return the seconds it took and its output, which is kept under `name`.

        Raises
        ------
        VmError
            It failed.
        """
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{name}.log"
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        variables = json.dumps(
            {"ansible_ssh_common_args": f'-F "{STATE}/ssh_config"', "campus_files": str(LOGS / "campus")}
        )
        environment = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        command = [program, "-i", "inventories/demo", "-e", variables, playbook]
        with log.open("w") as output:
            begin = time.monotonic()
            status = _run_group(command, output.fileno(), environment)
            seconds = time.monotonic() - begin
        text = log.read_text()
        if status != 0:
            tail = "\n".join(text.splitlines()[-40:])
            raise VmError(f"{playbook} failed with status {status}; all of its output is in {log}:\n{tail}")
        return seconds, text

    def memory_mib(self, unit: str) -> float:
        """Return the proportional set size of a unit's processes."""
        return float(self.python(_MEMORY, unit)) / 1024

    def read(self, path: str) -> str:
        """Return the content of a file of the VM."""
        return self.python("import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())", path)

    def save_journal(self) -> Path:
        """Write what the VM's units said into a file of this machine; return its path."""
        journal = LOGS / "journal.log"
        with journal.open("w") as output:
            command = [*_sudo(HOST), "journalctl", "--boot", "--no-pager"]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        return journal

    def command(self, *words: str) -> list[str]:
        """Return the command of this machine that runs a program as root in the VM."""
        return [*_sudo(HOST), *map(shlex.quote, words)]

    def python(self, program: str, *arguments: str, host: str = HOST) -> str:
        """Run a Python program as root in a VM; return what it printed.

        Raises
        ------
        VmError
            It failed.
        """
        # The far shell takes the words apart again.
        command = [*_sudo(host), "python3", "-", *map(shlex.quote, arguments)]
        done = subprocess.run(command, input=program, capture_output=True, text=True)
        if done.returncode != 0:
            raise VmError(f"In the VM {host}: {done.stderr.strip()}")
        return done.stdout


def _sudo(host: str) -> list[str]:
    return ["ssh", "-F", str(STATE / "ssh_config"), host, "--", "sudo"]


@contextmanager
def vm(keep: bool) -> Iterator[Vm]:
    """Provide the VM, and remove it however the measuring ends."""
    machine = Vm()
    try:
        yield machine
    finally:
        if keep and STATE.exists():
            print(f"The VM is kept. Remove it with: python3 molecule/vms down --state {STATE.relative_to(REPOSITORY)}")
        elif not keep:
            # Another interrupt must not leave half of it behind.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            machine.remove()


def changed_tasks(output: str) -> list[str]:
    """Return the tasks that changed something, by what ansible-playbook wrote.

    Raises
    ------
    ValueError
        The output has no recapitulation, so nothing is known.
    """
    recap = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)
    if not recap:
        raise ValueError("This is no complete output of ansible-playbook.")
    tasks, task = [], ""
    for line in output.splitlines():
        if heading := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$", line):
            task = heading[1]
        elif line.startswith("changed: ") and task not in tasks:
            tasks.append(task)
    return tasks or ["of an unknown name"] * any(map(int, recap))


def _run_group(command: list[str], output: int, environment: dict[str, str]) -> int:
    """Run a command that has children of its own; when interrupted, end them too."""
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
