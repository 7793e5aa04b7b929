"""Check a hub's configuration before it replaces the one in use: `python -m jupyterhub_sessions.check_config FILE`.

Unknown traits, which JupyterHub only warns of, are errors here: what an administrator misspelled must not be ignored.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets import HasTraits, TraitError
from traitlets.config import Config, Configurable
from traitlets.config.loader import LazyConfigValue, PyFileConfigLoader
from traitlets.utils.importstring import import_item


def problems(config: Config, classes: Iterable[type[Configurable]]) -> list[str]:
    """List the traits of known classes that do not exist or do not accept their value."""
    found = []
    known = {cls.__name__: cls for base in classes for cls in base.mro() if issubclass(cls, Configurable)}
    for name, section in config.items():
        if name not in known:
            continue
        traits: dict[str, Any] = known[name].class_traits(config=True)
        for trait, value in section.items():
            if trait not in traits:
                found.append(f"{name} has no setting {trait!r}")
                continue
            if isinstance(value, LazyConfigValue):
                continue
            # The trait alone, without its class: whose own checks may need a running hub.
            probe = type("Probe", (HasTraits,), {trait: copy.copy(traits[trait])})()
            try:
                setattr(probe, trait, value)
            except TraitError as error:
                found.append(f"{name}.{trait}: {error}")
    return found


def main(arguments: list[str]) -> int:
    """Check the named file and print what is wrong with it."""
    path = Path(arguments[0])
    config = PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
    classes = [JupyterHub, *JupyterHub.class_traits()["classes"].default()]
    for trait in ("authenticator_class", "spawner_class", "proxy_class"):
        value = config.JupyterHub.get(trait)
        if isinstance(value, str) and "." in value:
            classes.append(import_item(value))
    found = problems(config, classes)
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
