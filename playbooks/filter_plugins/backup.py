"""Who can read the backups: the inputs of the role backup."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _is_age_key(text: str) -> bool:
    """Tell whether a text is a public key of age (age1…) as it was written: Bech32 (BIP 173), with its checksum."""
    prefix, _, data = text.rpartition("1")
    if prefix != "age" or len(text) != 62 or set(data) - set(_CHARACTERS):
        return False
    checksum = 1
    for value in (
        *(ord(letter) >> 5 for letter in prefix),
        0,
        *(ord(letter) & 31 for letter in prefix),
        *map(_CHARACTERS.index, data),
    ):
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum == 1


def _is_ssh_key(text: str) -> bool:
    """Tell whether a text is a line of SSH's public keys, of a kind that age takes."""
    words = text.split()
    try:
        key = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except binascii.Error:
        return False
    # The key begins with its kind once more, after the length.
    return words[:1] in (["ssh-ed25519"], ["ssh-rsa"]) and key[4:].startswith(words[0].encode())


def backup_problems(inputs: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the inputs of the role backup, beyond names and types; a sentence each.

    Parameters
    ----------
    inputs
        The role's inputs by their names without the prefix, and `hub`, whether the machine is the hub's.
    """
    found = []
    if not inputs["hub"]:
        found.append("The group backup has a machine that is not the hub's: put the host of the group hub there alone.")
    if not inputs["recipients"]:
        found.append("backup_recipients is empty: give the public key that `age-keygen` prints.")
    for recipient in map(str, inputs["recipients"]):
        if recipient.upper().startswith("AGE-SECRET-KEY-"):
            # Not shown: it opens every backup.
            found.append(
                "backup_recipients has a secret key of age: give the public one (age1…), which `age-keygen -y` prints,"
                " and make a new pair if this one was in a repository."
            )
        elif "\n" in recipient.strip() or not (_is_age_key(recipient) or _is_ssh_key(recipient)):
            found.append(
                f"backup_recipients has {recipient!r}, which is no public key of age (age1…) or SSH (ssh-ed25519 …,"
                " ssh-rsa …), or is misspelled: copy it as `age-keygen` printed it."
            )
    if int(inputs["keep"]) < 1:
        found.append(f"backup_keep is {inputs['keep']}: keep one at least.")
    directory = str(inputs["directory"])
    if not directory.startswith("/") or directory.rstrip("/") in {"", "/etc", "/usr", "/var", "/tmp", "/home", "/root"}:  # noqa: S108
        found.append(f"backup_directory is {directory!r}: give the whole path of a directory of its own.")
    return found


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"backup_problems": backup_problems}
