#!/usr/bin/python3
"""Bring files and directories into their state, all or none."""

from __future__ import annotations

import base64
import binascii
import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: files
short_description: Bring files and directories into their state, all or none
description:
  - One task in place of many, as each costs a second and more, and a round trip.
  - All new contents are checked before the first is put in place, each in one step, so that nobody reads half of one.
  - A check works on a machine on which nothing is installed yet, and shows what would be there. It validates nothing,
    as the command may read another file that is not there yet.
  - Contents that nobody may see belong into a task with C(no_log).
options:
  files:
    description: Files and directories, in order. Directories above a file are not made by themselves.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where., type: path, required: true}
      state: {description: What is to be there., type: str, choices: [file, directory, absent], default: file}
      content: {description: Text of a file., type: str}
      content_base64: {description: Binary content of a file., type: str}
      mode: {description: Mode in octal; that of files is 0644 and of directories 0755 unless given., type: str}
      owner: {description: Name of the owner., type: str, default: root}
      group: {description: Name of the group., type: str, default: root}
      keep: {description: Whether the content of a file that exists stays., type: bool, default: false}
      only: {description: Whether everything else in a directory is removed., type: bool, default: false}
      validate: {description: Command that checks a new content; it finds the file in place of C(%s)., type: str}
author: Cygnet
"""
RETURN = """
paths:
  description: What was changed.
  returned: always
  type: list
  elements: str
"""


@dataclass
class Item:
    """A file or directory as it is to be, and as it is."""

    wanted: dict[str, Any]
    content: bytes
    mode: int

    @classmethod
    def of(cls, wanted: dict[str, Any]) -> Item:
        """Read one entry of the option `files`.

        Raises
        ------
        ValueError
            The mode is not octal, or the content is not what it is said to be.
        """
        default = "0755" if wanted["state"] == "directory" else "0644"
        try:
            binary = base64.b64decode(wanted["content_base64"] or "", validate=True)
        except binascii.Error:
            raise ValueError(f"content_base64 of {wanted['path']} is no Base64.") from None
        text = (wanted["content"] or "").encode()
        if text and binary:
            raise ValueError(f"{wanted['path']} has both content and content_base64.")
        try:
            mode = int(wanted["mode"] or default, 8)
        except ValueError:
            raise ValueError(f"The mode {wanted['mode']} of {wanted['path']} is no octal number.") from None
        return cls(wanted, text or binary, mode)

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self.wanted["path"])

    @property
    def is_file(self) -> bool:
        """Tell whether a file is to be there."""
        return bool(self.wanted["state"] == "file")

    @property
    def old(self) -> bytes | None:
        """Content of the file that is there, None if there is none."""
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    @property
    def content_changes(self) -> bool:
        """Tell whether another content is to be written."""
        if not self.is_file:
            return False
        old = self.old
        return old is None or (old != self.content and not self.wanted["keep"])

    @property
    def owners(self) -> tuple[int, int]:
        """Numbers of the owner and the group.

        Raises
        ------
        KeyError
            The machine does not know them.
        """
        return pwd.getpwnam(self.wanted["owner"]).pw_uid, grp.getgrnam(self.wanted["group"]).gr_gid

    @property
    def rights_change(self) -> bool:
        """Tell whether the owner, the group or the mode is another."""
        try:
            there = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        try:
            owners = self.owners
        except KeyError:
            # In a check on a new machine.
            return True
        return (there.st_uid, there.st_gid, there.st_mode & 0o7777) != (*owners, self.mode)

    @property
    def changes(self) -> bool:
        """Tell whether something is to be done."""
        if self.wanted["state"] == "absent":
            return os.path.lexists(self.path)
        return self.content_changes or self.rights_change

    def difference(self) -> dict[str, str]:
        """Show what changes, for --diff."""
        header = {"before_header": self.path, "after_header": self.path}
        if not self.content_changes:
            return {**header, "prepared": f"{self.path}: {self.wanted['state']}, mode {self.mode:04o}\n"}
        if self.wanted["content_base64"]:
            return {**header, "prepared": f"{self.path}: new content\n"}
        return {**header, "before": (self.old or b"").decode(errors="replace"), "after": self.content.decode()}

    def problem(self) -> str:
        """Say why the new content is refused; empty when it is not."""
        command = self.wanted["validate"]
        if not command or not self.content_changes:
            return ""
        with tempfile.NamedTemporaryFile(prefix="cygnet-") as file:
            file.write(self.content)
            file.flush()
            words = [word.replace("%s", file.name) for word in command.split()]
            done = subprocess.run(words, capture_output=True, text=True, check=False, errors="replace")
        return f"{self.path} was refused: {(done.stderr or done.stdout).strip()}" if done.returncode else ""

    def apply(self) -> None:
        """Do what is to be done, at once."""
        if self.wanted["state"] == "absent":
            if os.path.isdir(self.path) and not os.path.islink(self.path):
                shutil.rmtree(self.path)
            else:
                os.unlink(self.path)
            return
        if self.wanted["state"] == "directory":
            os.makedirs(self.path, exist_ok=True)
        elif self.content_changes:
            handle, name = tempfile.mkstemp(dir=os.path.dirname(self.path), prefix=".cygnet-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self.content)
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchown(file.fileno(), *self.owners)
                    os.fchmod(file.fileno(), self.mode)
                os.replace(name, self.path)
            except BaseException:
                os.unlink(name)
                raise
            return
        os.chown(self.path, *self.owners, follow_symlinks=False)
        os.chmod(self.path, self.mode)


def left_over(items: list[Item]) -> list[Item]:
    """List for removal what is in the directories that are to have nothing but what is listed."""
    listed = {item.path for item in items if item.wanted["state"] != "absent"}
    found = []
    for item in items:
        if item.wanted["only"] and os.path.isdir(item.path):
            there = [os.path.join(item.path, name) for name in sorted(os.listdir(item.path))]
            found += [
                Item.of({**item.wanted, "path": path, "state": "absent", "only": False})
                for path in there
                if path not in listed
            ]
    return found


def main() -> None:
    """Run as Ansible's module."""
    text = {"type": "str"}
    options = {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
        "content": text,
        "content_base64": text,
        "mode": text,
        "owner": {**text, "default": "root"},
        "group": {**text, "default": "root"},
        "keep": {"type": "bool", "default": False},
        "only": {"type": "bool", "default": False},
        "validate": text,
    }
    module = AnsibleModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": options}},
        supports_check_mode=True,
    )
    try:
        items = [Item.of(wanted) for wanted in module.params["files"]]
        items += left_over(items)
    except ValueError as error:
        module.fail_json(msg=str(error))
    changing = [item for item in items if item.changes]
    result: dict[str, Any] = {
        "changed": bool(changing),
        "paths": [item.path for item in changing],
        "diff": [item.difference() for item in changing],
    }
    if not module.check_mode:
        problems = [problem for item in changing if (problem := item.problem())]
        if problems:
            module.fail_json(msg=f"{' '.join(problems)} Nothing was changed.")
        try:
            for item in changing:
                item.apply()
        except (OSError, KeyError) as error:
            module.fail_json(msg=f"{item.path}: {error}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
