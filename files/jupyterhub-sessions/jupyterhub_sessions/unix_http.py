"""Ask an HTTP server that listens on a unix socket: the standard library's client with another way to connect."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


class _Connection(http.client.HTTPConnection):
    """A connection to a socket in place of a port."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status(path: Path, url: str, seconds: float) -> int:
    """Get a page and return its HTTP status.

    Parameters
    ----------
    path
        The socket.
    url
        Path of the page.
    seconds
        How long each step may take.

    Raises
    ------
    OSError
        Nobody listens there, or nobody answers in time.
    http.client.HTTPException
        What answers speaks no HTTP.
    """
    connection = _Connection(path, seconds)
    try:
        connection.request("GET", url)
        return connection.getresponse().status
    finally:
        connection.close()
