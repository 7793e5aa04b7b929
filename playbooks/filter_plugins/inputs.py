"""Compare what an inventory sets with what the roles take."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml


def misspelled_inputs(names: Iterable[str], specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the variables that no role takes though they carry a role's prefix or nearly a role's input's name.

    Parameters
    ----------
    names
        Names of the variables that the inventory, files or the command line set.
    specs
        For each role the content of its meta/argument_specs.yml.

    Returns
    -------
    list of str
        One sentence for each variable, with the name that was probably meant.
    """
    inputs = {
        option: role
        for role, content in specs.items()
        for spec in content["argument_specs"].values()
        for option in spec.get("options", {})
    }
    found = []
    for name in sorted(names):
        if name in inputs or name.startswith(("ansible_", "__")):
            continue
        close = difflib.get_close_matches(name, inputs, n=1, cutoff=0.85)
        owner = next((role for role in sorted(specs, key=len, reverse=True) if name.startswith(f"{role}_")), None)
        if close:
            found.append(f"{name} is not an input of any role; did you mean {close[0]}?")
        elif owner:
            found.append(f"{name} is not an input of the role {owner}; `ansible-doc -t role {owner}` lists them")
    return found


def yaml_file(path: str) -> Any:
    """Read a YAML file."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


class FilterModule:
    """Hand the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"misspelled_inputs": misspelled_inputs, "yaml_file": yaml_file}
