"""Fixtures of the tests of displays."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from displays import Display, Displays
from testing import Browserless

# In the scenario `default` not all machines have displays.
collect_ignore_glob = [] if os.environ.get("DISPLAYS", "xpra") == "xpra" else ["test_*.py"]


@pytest.fixture
def displays(alice: Browserless) -> Iterator[Displays]:
    """Lend alice's displays; there are none before and after."""
    displays = Displays(alice)
    displays.delete_all()
    yield displays
    displays.delete_all()


@pytest.fixture
def terminal(displays: Displays) -> Display:
    """Have a display with a terminal."""
    return displays.create(program="terminal")
