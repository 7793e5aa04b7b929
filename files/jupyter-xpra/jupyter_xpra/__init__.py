"""Displays: programs with windows, started from Jupyter and shown in the browser."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .app import XpraApp

    return [{"module": "jupyter_xpra", "app": XpraApp}]


def load_ipython_extension(shell: Any) -> None:
    """Give IPython the magic `%display`."""
    from .use import load_ipython_extension as load

    load(shell)
