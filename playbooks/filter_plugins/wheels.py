"""Name the wheels of this repository's packages by their content."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any


def built_wheel(package: str, directory: str) -> dict[str, str]:
    """Describe the wheel of a package in a directory.

    Parameters
    ----------
    package
        Name of the package, such as `jupyterhub-sessions`.
    directory
        Where exactly one wheel of it lies.

    Returns
    -------
    dict
        `path`; `sha256`; `name`: the wheel's file name with the checksum where names of wheels have the build number
        (PEP 427), so that another content is another file.
    """
    (path,) = Path(directory).glob(f"{package.replace('-', '_')}-*.whl")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    distribution, version, tags = path.name.split("-", 2)
    return {"path": str(path), "sha256": digest, "name": f"{distribution}-{version}-0{digest[:12]}-{tags}"}


def wheel_file(package: str, directory: str, target: str) -> dict[str, str]:
    """Describe the copy of a package's wheel below `target`, as the module `files` takes it; see `built_wheel`."""
    wheel = built_wheel(package, directory)
    content = base64.b64encode(Path(wheel["path"]).read_bytes()).decode()
    return {"path": f"{target}/{wheel['name']}", "content_base64": content}


class FilterModule:
    """Hand the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filter."""
        return {"built_wheel": built_wheel, "wheel_file": wheel_file}
