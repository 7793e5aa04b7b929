"""The page of Xpra's HTML5 client and its files, and what a display's page has besides."""

from __future__ import annotations

import re
from pathlib import Path

from tornado import web

from .xpra import CLIENT_DIRECTORIES

#: Names of files, none of them hidden.
FILE = r"(?:[\w-]+/)*[\w-][\w.-]*"
FIRST = b'<script src="../static/scale.js"></script>\n'
# Run when the page has been read, which is after the client's scripts and before it starts. No module: for these a
# browser asks in the mode `cors`, and JupyterHub (jupyterhub/_xsrf_utils.py) answers 403 to a cookie alone.
LAST = b"""\
<link rel="stylesheet" href="../static/display.css">
<script defer charset="utf-8" src="../static/display.js"></script>
"""
_REFERENCE = re.compile(rf'(<(?:script|link)\b[^>]*?\s(?:src|href)=")(?:\./)?({FILE})(?=")'.encode())


def directory() -> Path:
    """Return where the client's files are: where the first of the packages that may bring them puts them."""
    return next((found for found in CLIENT_DIRECTORIES if (found / "index.html").is_file()), CLIENT_DIRECTORIES[0])


def address(path: str, root: Path) -> str | None:
    """Return a file's address below `xpra/`, the same for all displays and another for other contents.

    Parameters
    ----------
    path
        As the page and its scripts name it, relative to the page.
    root
        Where the client's files are.

    Returns
    -------
    str | None
        None if there is no such file.
    """
    if not re.fullmatch(FILE, path) or not (root / path).is_file():
        return None
    version = web.StaticFileHandler.get_version({"static_path": str(root)}, path)
    return f"client/{path}?v={version}"


def rewrite(page: bytes, root: Path | None = None) -> bytes:
    """Add our style and scripts to the client's page.

    Parameters
    ----------
    page
        index.html of xpra-html5, as Xpra 3.1 and later bring it, not compressed.
    root
        Where the client's files are: they are given addresses that let a browser keep them. Without it they stay as
        they are, relative to the page.

    Raises
    ------
    ValueError
        If it is no such page.
    """
    start, first_tag, rest = page.partition(b"<head>")
    head, last_tag, body = rest.partition(b"</head>")
    if not last_tag:
        raise ValueError("The page of Xpra's HTML5 client has no head.")
    if root:

        def kept(match: re.Match[bytes]) -> bytes:
            found = address(match[2].decode(), root)
            return match[1] + (f"../{found}".encode() if found else match[2])

        head = _REFERENCE.sub(kept, head)
    return start + first_tag + FIRST + head + LAST + last_tag + body
