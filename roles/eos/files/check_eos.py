#!/usr/bin/python3
"""Try the way to EOS layer by layer: `check-eos` tries all that is configured.

Prints a line for each layer, and stops a mount's at the first that fails, with what was found and what to do. Exits
with 1 when one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

CONFIGURATION = Path("/etc/eos")
SECONDS = 5.0
REQUEST_SECONDS = 15
#: A client's first words in the XRootD protocol, and the length of the answer (XProtocol.hh).
HANDSHAKE, ANSWER_BYTES = struct.pack(">5i", 0, 0, 0, 4, 2012), 16
#: A line of a keytab, as xrdsssadmin writes it.
KEY = re.compile(r"^[01] (?=.*\bu:(?P<user>\S+))(?=.*\bN:\d+)(?=.*\bk:[0-9a-f]{16,})")
NOT_FOUND, REFUSED = "[3011]", "[3010]"


class LayerError(Exception):
    """A layer does not work; the message says what was found and what to do."""


class Way:
    """The way to a directory of the server.

    Parameters
    ----------
    server
        Host and port.
    path
        Directory on the server.
    keytab
        File with the shared secret; empty when another client proves itself otherwise.
    """

    def __init__(self, server: str, path: str, keytab: str) -> None:
        self.server, self.path, self.keytab = server, path, keytab
        self.host, _, port = server.rpartition(":")
        self.port = int(port)

    def layers(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the layers with the functions that try them, each of which returns what it found."""
        if self.keytab:
            yield "keytab", self.try_keytab
        yield "DNS", self.try_dns
        yield "TCP", self.try_tcp
        yield "XRootD", self.try_xrootd
        if self.keytab:
            yield "sss", self.try_sss
            yield "path", self.try_path

    def try_keytab(self) -> str:
        """Read the keytab as the library would."""
        try:
            mode = stat.S_IMODE(os.stat(self.keytab).st_mode)
            lines = Path(self.keytab).read_text(errors="replace").splitlines()
        except OSError as error:
            raise LayerError(f"{self.keytab} cannot be read: {error.strerror}. Give its path in eos_keytab") from None
        if mode & 0o077:
            raise LayerError(
                f"{self.keytab} has the mode {mode:04o}: XRootD takes no secret that others can read. chmod 600"
            )
        keys = [match for match in map(KEY.match, lines) if match]
        if not keys:
            raise LayerError(f"{self.keytab} holds no key: it is no keytab of sss. Make one with `xrdsssadmin add`")
        if all(key["user"] != "anybody" for key in keys):
            users = ", ".join(key["user"] for key in keys)
            raise LayerError(
                f"{self.keytab} is for {users} alone. The machine names its users: `xrdsssadmin -u anybody add`"
            )
        return f"{len(keys)} keys"

    def try_dns(self) -> str:
        """Look the server's name up."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise LayerError(f"{self.host} is not known ({error}). Correct eos_server, or the name server") from None
        return ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))

    def _connect(self) -> socket.socket:
        try:
            return socket.create_connection((self.host, self.port), timeout=SECONDS)
        except TimeoutError:
            raise LayerError(
                f"{self.host} does not answer on port {self.port}. Look for a firewall in between"
            ) from None
        except ConnectionRefusedError:
            raise LayerError(
                f"{self.host}, port {self.port} refuses connections. Start the server, or correct eos_port"
            ) from None
        except OSError as error:
            raise LayerError(f"{self.server} cannot be reached: {error}. Look for the way to it") from None

    def try_tcp(self) -> str:
        """Connect."""
        self._connect().close()
        return f"port {self.port} is open"

    def try_xrootd(self) -> str:
        """Shake hands."""
        with self._connect() as connection:
            try:
                connection.sendall(HANDSHAKE)
                answer = connection.recv(ANSWER_BYTES)
            except TimeoutError:
                raise LayerError(
                    f"{self.server} takes connections, but says nothing for {SECONDS:.0f} s: it hangs"
                ) from None
            except OSError as error:
                raise LayerError(f"{self.server} breaks off: {error}") from None
        if answer[:8] != struct.pack(">HHi", 0, 0, 8):
            raise LayerError(f"{self.server} does not speak XRootD. Correct eos_server or eos_port")
        return "speaks XRootD"

    def _ask(self, *words: str) -> str:
        """Ask the server with the key, and return what it complains of."""
        limits = {"XRD_CONNECTIONRETRY": "1", "XRD_CONNECTIONWINDOW": "5", "XRD_REQUESTTIMEOUT": "10"}
        secret = {"XrdSecPROTOCOL": "sss", "XrdSecSSSKT": self.keytab}
        command = ["timeout", str(REQUEST_SECONDS), "xrdfs", f"root://{self.server}", *words]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env=os.environ | limits | secret, errors="replace",
        )  # fmt: skip
        said = " ".join((done.stderr + done.stdout).split())
        return said or f"xrdfs ended with {done.returncode}" if done.returncode else ""

    def try_sss(self) -> str:
        """Log in with the key."""
        said = self._ask("query", "config", "version")
        if said:
            raise LayerError(
                f"{self.server} does not take the key in {self.keytab} ({said}). Give it the server's in eos_keytab"
            )
        return "the key is accepted"

    def try_path(self) -> str:
        """Look at the directory; root, who asks, may be refused."""
        said = self._ask("stat", self.path)
        if NOT_FOUND in said:
            raise LayerError(f"{self.server} has no {self.path}. Correct eos_mounts")
        if said and REFUSED not in said:
            raise LayerError(f"{self.server} does not tell of {self.path} ({said}). Correct eos_mounts")
        return "is there" if not said else "root is refused, which is as it should be"


def configured() -> Iterator[tuple[str, Way]]:
    """Yield what is configured on this machine."""
    for file in sorted(CONFIGURATION.glob("*.json")):
        settings = json.loads(file.read_text())
        yield file.stem, Way(settings["server"], settings["path"], settings["keytab"])


def main() -> int:
    """Read the command line and try; return the exit status."""
    parser = argparse.ArgumentParser(prog="check-eos", description=__doc__)
    parser.add_argument("--server", help="host and port, in place of what is configured")
    parser.add_argument("--path", action="append", default=[], help="directory there; may be given more than once")
    parser.add_argument("--keytab", default="", help="file with the key; without, the key is not tried")
    options = parser.parse_args()
    ways = (
        [(path, Way(options.server, path, options.keytab)) for path in options.path] if options.server else configured()
    )
    failed = False
    for name, way in ways:
        for layer, attempt in way.layers():
            try:
                print(f"ok      {name}: {layer}: {attempt()}", flush=True)
            except LayerError as failure:
                print(f"FAILED  {name}: {layer}: {failure}.", flush=True)
                failed = True
                break
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
