"""Run a playbook of this repository on this machine, for the tests that need no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def play(directory: Path, inventory: dict[str, Any], playbook: str, *options: str) -> tuple[int, str]:
    """Run a playbook on an inventory that is written into the directory; return its exit status and its output."""
    path = directory / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", path, ROOT / playbook, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr
