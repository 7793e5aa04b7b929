"""Use a display from a kernel (`%display`) or a terminal (`use-display`)."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sys
from typing import Any

#: Where the path of the Jupyter server's socket stands; kernels and terminals inherit it.
SOCKET_VARIABLE = "JUPYTER_XPRA_SOCKET"
#: A display may have to be started first.
ANSWER_SECONDS = 90.0


class UseError(Exception):
    """No display is to be had; the message says why."""


def use(wanted: str = "") -> dict[str, Any]:
    """Choose a display for new kernels and terminals, and return it with the `environment` that opens programs there.

    Parameters
    ----------
    wanted
        Its name or id; nothing for the one that was chosen last, or a new one.

    Raises
    ------
    UseError
        There is none, or no Jupyter server with displays.
    """
    path = os.environ.get(SOCKET_VARIABLE, "")
    if not path:
        raise UseError("This is no kernel or terminal of a Jupyter server with displays.")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(path)
            connection.sendall(" ".join(wanted.split()).encode() + b"\n")
            line = connection.makefile().readline()
        answer: dict[str, Any] = json.loads(line)
    except (OSError, ValueError) as error:
        raise UseError(f"The Jupyter server does not answer: {error}.") from error
    if "environment" not in answer:
        raise UseError("\n".join(filter(None, [answer["message"], answer["log"]])))
    return answer


def load_ipython_extension(shell: Any) -> None:
    """Give IPython the magic `%display`."""

    def display_magic(line: str) -> None:
        """Open windows on a display: `%display` the chosen or a new one, `%display NAME` another one."""
        try:
            display = use(line)
        except UseError as error:
            print(error, file=sys.stderr)
            return
        os.environ.update(display["environment"])
        print(f"Windows open on the display {display['name']} ({os.environ['DISPLAY']}).")

    shell.register_magic_function(display_magic, "line", "display")


def main() -> None:
    """Run the command `use-display`."""
    parser = argparse.ArgumentParser(
        prog="use-display",
        description="Open programs on a display of Jupyter. Without a command: a shell in which they do, or, where the"
        ' output is not a terminal, lines to be read by one: eval "$(use-display)".',
    )
    parser.add_argument("--display", default="", metavar="NAME", help="name or id, if not the chosen or a new one")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a program and its arguments")
    arguments = parser.parse_args()
    try:
        display = use(arguments.display)
    except UseError as error:
        sys.exit(f"use-display: {error}")
    environment = display["environment"]
    command = arguments.command
    if not command and not sys.stdout.isatty():
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()))
        return
    os.environ.update(environment)
    if not command:
        command = [os.environ.get("SHELL", "/bin/sh")]
        print(f"Programs open on the display {display['name']} ({environment['DISPLAY']}). `exit` ends it.")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"use-display: {command[0]}: {error.strerror}")
