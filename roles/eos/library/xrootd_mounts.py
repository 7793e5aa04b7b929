#!/usr/bin/python3
"""Bring the configuration of the mounts of EOS into force, or leave the old one."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.rollout import FILE_OPTIONS, File, run

DOCUMENTATION = """
module: xrootd_mounts
short_description: Bring the configuration of the mounts of EOS into force, or leave the old one
description:
  - Compares files with those of the machine. When one differs, the way to the server is tried with the new ones. When
    it fails, nothing is changed and the module fails with the reason. Otherwise the files are put in place, what nobody
    uses is unmounted, and each mount is looked into; when that fails, the old files come back.
  - A mount in use keeps its old configuration until it is unmounted; the module warns of it.
options:
  files:
    description: Files by path; C(absent) ones are removed.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Path., type: path, required: true}
      content: {description: Text., type: str}
      content_base64: {description: Binary content, never shown., type: str}
      mode: {description: Mode in octal., type: str, default: "0644"}
      present: {description: Whether the file is to be there., type: bool, default: true}
  mounts:
    description: Directories of the server by name.
    type: dict
    required: true
  server:
    description: Host and port.
    type: str
    required: true
  keytab:
    description: Path of the keytab among the files; empty for none.
    type: str
    required: true
  checker:
    description: Program that tries the way to the server.
    type: path
    required: true
author: Cygnet
"""

ROOT = "/eos"
#: Patterns of the files that an earlier run may have left.
OWNED = ("/etc/eos/*.json", "/etc/eos/fuse.*.conf")
#: Seconds until a mount is there, beyond those for which autofs remembers that it was not.
MOUNT_SECONDS = 40.0


class Rollout:
    """What is there, what is to be, and the way between."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        wanted: list[dict[str, Any]] = list(parameters["files"])
        paths = {entry["path"] for entry in wanted}
        nothing = {"content": None, "content_base64": None, "mode": "0644", "present": False}
        wanted += [nothing | {"path": path} for pattern in OWNED for path in glob.glob(pattern) if path not in paths]
        self.files = [File.wanted(entry) for entry in wanted]
        self.mounts: dict[str, str] = parameters["mounts"]
        self.server: str = parameters["server"]
        self.keytab: str = parameters["keytab"]
        self.checker: str = parameters["checker"]
        self.changed_files = [file for file in self.files if file.changes]
        self.map_changes = any(file.path.startswith("/etc/auto") for file in self.changed_files)

    def try_candidate(self) -> str:
        """Try the new configuration, with the key in a directory in memory; return what fails."""
        if not (os.path.exists(self.checker) and shutil.which("xrdfs" if self.keytab else "true")):
            return ""  # in a check on a new machine
        with tempfile.TemporaryDirectory(prefix="cygnet-eos-", dir="/run") as directory:
            options = []
            for file in self.files:
                if file.path == self.keytab:
                    file.write(file.new, 0o600, f"{directory}/keytab")
                    options = [f"--keytab={directory}/keytab"]
            paths = [f"--path={path}" for path in self.mounts.values()]
            done = run(self.checker, f"--server={self.server}", *options, *paths, seconds=120.0)
            said = done.stdout.replace(f"{directory}/keytab", "the keytab")
        if done.returncode == 0:
            return ""
        lines = [line.removeprefix("FAILED").strip() for line in said.splitlines() if line.startswith("FAILED")]
        return "\n".join(lines) or (said + done.stderr).strip()

    def mounted(self) -> list[str]:
        """List what is mounted of EOS."""
        with open("/proc/self/mounts", encoding="utf-8") as file:
            fields = [line.split() for line in file]
        return [place for _, place, kind, *_ in fields if place.startswith(f"{ROOT}/") and kind.startswith("fuse")]

    def put(self, old: bool) -> list[str]:
        """Put the new files in place, or the old ones back; return the mounts that go on with what they had."""
        for file in self.changed_files:
            file.put(old)
        for place in self.mounted():
            # Not by force, and not lazily: a program's working directory would be gone.
            run("umount", "--no-canonicalize", place)
        if self.map_changes:
            run("systemctl", "reload-or-restart", "autofs.service")
        return self.mounted()

    def look(self) -> str:
        """Have each mounted; return what fails."""
        end = time.monotonic() + MOUNT_SECONDS
        for name in self.mounts:
            place = f"{ROOT}/{name}"
            while True:
                # Whether root may see what is in it is not the question.
                run("stat", f"{place}/", seconds=MOUNT_SECONDS)
                if place in self.mounted():
                    break
                if time.monotonic() > end:
                    return (
                        f"{place} is not mounted by autofs. See `journalctl -t mount.eos -u autofs`, and whether"
                        " /etc/auto.master has the line +dir:/etc/auto.master.d"
                    )
                time.sleep(1)
        return ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE_OPTIONS},
            "mounts": {"type": "dict", "required": True},
            "server": {"type": "str", "required": True},
            # The path of a keytab is no secret.
            "keytab": {"type": "str", "required": True, "no_log": False},
            "checker": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    rollout = Rollout(module.params)
    result = {
        "changed": bool(rollout.changed_files),
        "diff": [file.difference() for file in rollout.changed_files],
    }
    if not rollout.changed_files:
        module.exit_json(**result)
    wrong = rollout.try_candidate()
    if wrong:
        module.fail_json(msg=f"The new configuration does not work, nothing was changed.\n{wrong}")
    if module.check_mode:
        module.exit_json(**result)
    busy = rollout.put(old=False)
    wrong = rollout.look()
    if wrong:
        rollout.put(old=True)
        module.fail_json(msg=f"{wrong}. The previous configuration is back.")
    if busy:
        module.warn(
            f"{', '.join(busy)} is in use and goes on with the old configuration until nobody uses it. To see by whom:"
            f" `fuser --mount {busy[0]}`."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
