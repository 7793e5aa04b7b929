"""The administrator's announcement: a text in a file, read anew whenever it is shown.

A file, so that nothing restarts when it changes; in a place that sessions see too.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Written by playbooks/announce.yml, or by hand.
FILE = Path(os.environ.get("JUPYTERHUB_SESSIONS_ANNOUNCEMENT") or "/etc/cygnet/announcement.txt")
#: What is more is cut off.
CHARACTERS = 2000


def announcement() -> str:
    """Return the text; empty where there is none."""
    try:
        with FILE.open(encoding="utf-8", errors="replace") as file:
            return file.read(CHARACTERS).strip()
    except OSError:
        return ""
