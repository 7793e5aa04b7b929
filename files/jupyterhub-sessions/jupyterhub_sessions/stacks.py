"""Software stacks: environments beside the users' own, such as views in CVMFS, for kernels and for the terminal.

Each stack is the directory of a kernel in a directory of Jupyter data (/opt/cygnet/stacks/kernels), written by the role
jupyterlab. What it is made of stands in its kernel.json:

    {"argv": ["use-stack", "--kernel", "lcg-107", "{connection_file}"],
     "metadata": {"stack": {"setup": "/cvmfs/…/setup.sh", "argv": ["python3", "-m", "ipykernel_launcher", …]}}, …}

With `"session": true` in `stack`, a whole session can be had in it.

The way in is `use-stack`: it reads the stack's setup script, or puts the stack's prefix first, in a process of its own,
so that neither the session nor another kernel sees anything of its environment. This module imports nothing but the
standard library: every start of such a kernel runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Where the role puts the stacks; Jupyter searches it by $JUPYTER_PATH.
DIRECTORY = Path(os.environ.get("JUPYTERHUB_SESSIONS_STACKS") or "/opt/cygnet/stacks")
#: Of the session and its own environment, and wrong in another one.
LEFT_OUT = ("JUPYTER_PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
PATH = "/usr/local/bin:/usr/bin:/bin"
SHELL = "/bin/bash"
#: Seconds that somebody waits who wants to enter one: a first look mounts the repository.
ENTER_SECONDS = 25.0
# setup.sh may set PYTHONHOME and more, so nothing of ours runs after it.
_SETUP = 'setup=$1; shift; source "$setup" || { echo "use-stack: $setup failed." >&2; exit 1; }; exec "$@"'


class StackError(Exception):
    """There is no such stack, or it cannot be used; the message says why."""


@dataclass(frozen=True)
class Stack:
    """A stack.

    Parameters
    ----------
    name, display_name
        The kernel's.
    setup
        Script that a shell reads to enter the stack; empty for a prefix.
    prefix
        Directory with `bin` and `share/jupyter/kernels`; empty for a script.
    kernel
        Name of the kernel in the prefix.
    argv
        Command of the kernel, where there is a script.
    session
        Whether a whole session can be had in it.
    """

    name: str
    display_name: str
    setup: str = ""
    prefix: str = ""
    kernel: str = ""
    argv: tuple[str, ...] = ()
    session: bool = False

    @property
    def path(self) -> str:
        """What must be there for the stack to be usable."""
        return self.setup or f"{self.prefix}/share/jupyter/kernels/{self.kernel}/kernel.json"

    @property
    def repository(self) -> str:
        """Name of its repository in CVMFS, or the root of its path."""
        parts = Path(self.path).parts
        return parts[2] if parts[1:2] == ("cvmfs",) else f"/{parts[1]}"


def read(specification: Mapping[str, Any], name: str) -> Stack | None:
    """Read the stack of a kernel's specification; None where the kernel is of none."""
    stack = specification.get("metadata", {}).get("stack")
    if not stack:
        return None
    return Stack(
        name,
        specification.get("display_name", name),
        stack.get("setup", ""),
        stack.get("prefix", "").rstrip("/"),
        stack.get("kernel", ""),
        tuple(stack.get("argv", ())),
        bool(stack.get("session", False)),
    )


def stacks() -> list[Stack]:
    """Return all stacks of this machine, by name."""
    found = []
    for file in sorted(DIRECTORY.glob("kernels/*/kernel.json")):
        stack = read(json.loads(file.read_text()), file.parent.name)
        if stack:
            found.append(stack)
    return found


# -- whether it is there --------------------------------------------------------------------------------------------


class Availability:
    """Tell which files answer, without waiting for one that does not.

    A look at a file of a dead network file system may last for minutes and cannot be ended. Each look is therefore made
    by a thread of its own, at most one for a path at a time, and what it found is kept for a while.

    Parameters
    ----------
    keep
        Seconds for which an answer holds.
    patience
        Seconds after which a path that does not answer counts as not there.
    """

    def __init__(self, keep: float = 30.0, patience: float = 3.0) -> None:
        self.keep = keep
        self.patience = patience
        self._lock = threading.Lock()
        # What was found at a path, and when.
        self._found: dict[str, tuple[bool, float]] = {}
        # What is being looked at, and since when.
        self._looking: dict[str, tuple[threading.Event, float]] = {}

    def _look(self, path: str, done: threading.Event) -> None:
        there = os.path.exists(path)
        with self._lock:
            self._found[path] = (there, time.monotonic())
            del self._looking[path]
        done.set()

    def start(self, path: str) -> threading.Event:
        """Begin to look, unless it is known or being looked at; return what is set as soon as it is known."""
        now = time.monotonic()
        with self._lock:
            if path in self._looking:
                return self._looking[path][0]
            done = threading.Event()
            if path in self._found and now - self._found[path][1] < self.keep:
                done.set()
                return done
            self._looking[path] = (done, now)
        threading.Thread(target=self._look, args=(path, done), daemon=True).start()
        return done

    def known(self, path: str) -> bool | None:
        """Tell whether a path was there when it was last looked at, None when it was not yet.

        What has been looked at for longer than `patience` is not there.
        """
        with self._lock:
            if path in self._looking and time.monotonic() - self._looking[path][1] > self.patience:
                return False
            return self._found[path][0] if path in self._found else None

    def wait(self, paths: Sequence[str], seconds: float) -> dict[str, bool]:
        """Look at paths; one that does not answer in this time counts as not there."""
        end = time.monotonic() + seconds
        events = {path: self.start(path) for path in paths}
        return {
            path: event.wait(max(0.0, end - time.monotonic())) and bool(self.known(path))
            for path, event in events.items()
        }


#: What all of a session's server knows.
AVAILABILITY = Availability()


# -- use-stack ------------------------------------------------------------------------------------------------------


def environment(stack: Stack, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a stack is entered: the session's, without what belongs to its own Python."""
    clean = {name: value for name, value in environ.items() if name not in LEFT_OUT}
    clean["PATH"] = f"{stack.prefix}/bin:{PATH}" if stack.prefix else PATH
    clean["CYGNET_STACK"] = stack.name
    # What opens a shell in it is in it already, and not by `stack-shell`.
    clean["SHELL"] = SHELL
    return clean


def command(stack: Stack, words: Sequence[str]) -> list[str]:
    """Return the command that runs another one in a stack."""
    if stack.prefix:
        return list(words)
    # Whatever the user's own start-up files do is not the stack's.
    return ["/bin/bash", "--noprofile", "--norc", "-c", _SETUP, "use-stack", stack.setup, *words]


def kernel_command(stack: Stack, connection_file: str) -> list[str]:
    """Return the command of a stack's kernel.

    Raises
    ------
    StackError
        The prefix has no such kernel.
    """
    argv = stack.argv
    if stack.prefix:
        try:
            argv = tuple(json.loads(Path(stack.path).read_text())["argv"])
        except (OSError, ValueError, KeyError) as error:
            raise StackError(f"The kernel {stack.path} cannot be read: {error}") from error
    return [word.replace("{connection_file}", connection_file) for word in argv]


def find(name: str) -> Stack:
    """Return a stack by its name.

    Raises
    ------
    StackError
        There is none; the message lists those there are.
    """
    known = {stack.name: stack for stack in stacks()}
    if name not in known:
        raise StackError(f"There is no stack {name!r} here. Known are: {', '.join(known) or 'none'}.")
    return known[name]


def find_present(name: str) -> Stack:
    """Return a stack by its name, if it answers.

    Raises
    ------
    StackError
        There is none, or it does not.
    """
    stack = find(name)
    if not AVAILABILITY.wait([stack.path], ENTER_SECONDS)[stack.path]:
        raise StackError(f"{stack.path} is not there: {stack.repository} does not answer, or no longer has it.")
    return stack


def interactive_shell(stack: Stack) -> list[str]:
    """Say to somebody where they are, and return the command of a shell whose prompt says it too."""
    print(f"Shell in {stack.display_name} ({stack.name}); leave it with `exit`.", file=sys.stderr)
    # Its own start-up files come before the stack here, and must not undo it. Set at the end: the shell that reads the
    # setup script is not interactive, and drops the prompt.
    return ["/usr/bin/env", f"PS1=({stack.name}) \\w\\$ ", SHELL, "--norc", "-i"]


def main() -> None:
    """Run a command, or a shell, in a software stack (the program `use-stack`)."""
    parser = argparse.ArgumentParser(
        prog="use-stack",
        description="Run a command, or an interactive shell, in a software stack. Without arguments: list the stacks.",
    )
    parser.add_argument("--kernel", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("stack", nargs="?", help="name of a stack")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in it; a shell if nothing is given")
    options = parser.parse_args()
    if options.stack is None:
        known = stacks()
        there = AVAILABILITY.wait([stack.path for stack in known], 5.0)
        width = max((len(stack.name) for stack in known), default=0)
        for stack in known:
            state = "" if there[stack.path] else f"  (not available: {stack.repository} does not answer)"
            print(f"{stack.name:{width}}  {stack.display_name}{state}")
        return
    try:
        stack = find_present(options.stack)
        if options.kernel:
            words = kernel_command(stack, options.command[0])
        else:
            words = options.command or interactive_shell(stack)
    except StackError as error:
        sys.exit(f"use-stack: {error}")
    words = command(stack, words)
    try:
        os.execvpe(words[0], words, environment(stack, os.environ))
    except OSError as error:
        sys.exit(f"use-stack: {words[0]}: {error.strerror}")


def shell() -> None:
    """Run a shell, with its arguments, in the session's stack (the program `stack-shell`, the $SHELL of a desktop).

    Not the whole desktop is started in the stack: its programs are the machine's, and fail with libraries of another
    system in $LD_LIBRARY_PATH; so it is there also when the stack is not. Then the shell is the machine's, and says so,
    as a terminal that closes at once says nothing.
    """
    # A login shell's start-up files would undo the stack.
    arguments = [argument for argument in sys.argv[1:] if argument not in {"-l", "--login"}]
    try:
        stack = find_present(os.environ.get("JUPYTERHUB_SESSIONS_STACK", ""))
    except StackError as error:
        print(f"{error}\nThis shell is not in a software stack.", file=sys.stderr)
        os.environ["SHELL"] = SHELL
        os.execv(SHELL, [SHELL, *arguments])
    words = command(stack, [SHELL, "--norc", *arguments] if arguments else interactive_shell(stack))
    os.execve(words[0], words, environment(stack, os.environ))


if __name__ == "__main__":
    main()
