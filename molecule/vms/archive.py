"""Files for a guest as a tar archive, owned by root whoever made it."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """The content and mode of one file in the guest."""

    content: str
    mode: int = 0o644
    # For `admin`, the guest's first user: the ids Debian gives it.
    owner: int = 0


def write_archive(path: Path, files: Mapping[str, File]) -> None:
    """Write `files` (by absolute path) in their order; the same input gives the same bytes."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, file in files.items():
            content = file.content.encode()
            member = tarfile.TarInfo(name.lstrip("/"))
            member.size, member.mode, member.uid, member.gid = len(content), file.mode, file.owner, file.owner
            archive.addfile(member, io.BytesIO(content))
