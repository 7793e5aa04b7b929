"""Files that come into force together or not at all, for modules that try them first and can take them back."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from typing import Any

#: The options of a module by which it is given files.
FILE_OPTIONS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "content_base64": {"type": "str", "no_log": True},
    "mode": {"type": "str", "default": "0644"},
    "present": {"type": "bool", "default": True},
}


def run(*command: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a program; a status of 124 tells that it took too long."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
            env=environment, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} took longer than {seconds:.0f} s")


class File:
    """A file as it is and as it is to be.

    Parameters
    ----------
    path
        Where it is.
    new
        What is to be in it; None if it is not to be there.
    mode
        Its mode.
    secret
        Whether no output may show what is in it.
    """

    def __init__(self, path: str, new: bytes | None, mode: int = 0o644, secret: bool = False) -> None:
        self.path = path
        self.new = new
        self.mode = mode
        self.secret = secret
        self.old: bytes | None = None
        self.old_mode = mode
        if os.path.exists(path):
            with open(path, "rb") as file:
                self.old = file.read()
            self.old_mode = os.stat(path).st_mode & 0o7777

    @classmethod
    def wanted(cls, options: dict[str, Any]) -> File:
        """Take a file from a module's options (FILE_OPTIONS)."""
        encoded = options["content_base64"]
        content = (options["content"] or "").encode() if encoded is None else base64.b64decode(encoded)
        return cls(
            options["path"], content if options["present"] else None, int(options["mode"], 8), encoded is not None
        )

    @property
    def changes(self) -> bool:
        """Whether something is to be done."""
        return self.old != self.new or (self.new is not None and self.old_mode != self.mode)

    def put(self, old: bool = False) -> None:
        """Put the new content in place, or the old one back."""
        self.write(self.old if old else self.new, self.old_mode if old else self.mode)

    def write(self, content: bytes | None, mode: int, path: str = "") -> None:
        """Write a content to its place or another one at once, or remove the file."""
        path = path or self.path
        if content is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, name = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".cygnet-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        os.replace(name, path)

    def text(self, content: bytes) -> str:
        """Return what may be shown of a content."""
        return "(not shown)\n" if self.secret else content.decode("utf-8", "replace")

    def difference(self) -> dict[str, str]:
        """Show the change."""

        def side(content: bytes | None, mode: int) -> str:
            if content is None:
                return ""
            return self.text(content) if self.old_mode == self.mode else f"mode {mode:04o}\n{self.text(content)}"

        return {
            "before_header": self.path if self.old is not None else f"{self.path} (absent)",
            "after_header": self.path if self.new is not None else f"{self.path} (absent)",
            "before": side(self.old, self.old_mode),
            "after": side(self.new, self.mode),
        }
