"""Make the program's modules importable, as Python does for `python3 molecule/vms`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of tests that boot VMs."""
    config.addinivalue_line("markers", "vm: boots VMs (minutes, as root)")
