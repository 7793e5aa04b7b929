#!/usr/bin/python3
"""Bring SSSD's configuration into force, or leave the old one."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.rollout import FILE_OPTIONS, File, run

DOCUMENTATION = """
module: sssd_directory
short_description: Bring SSSD's configuration into force, or leave the old one
description:
  - Compares files with those of the machine. When one differs, the new ones are tried where nobody reads them, put in
    place, and SSSD is asked for an account. When that fails, the old files come back and the module fails with the
    reason.
  - One module in place of a dozen tasks, as what is to be taken back belongs together.
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
  secrets:
    description: What no output may show.
    type: list
    elements: str
    default: []
  domain:
    description: Name of SSSD's domain.
    type: str
    required: true
  probe_user:
    description: Account that is asked for.
    type: str
    required: true
  checker:
    description: Program that tries a configuration.
    type: path
    required: true
  pam_profile:
    description: Profile of pam-auth-update that must be on.
    type: str
    required: true
author: Cygnet
"""

SSSD_CONF = "/etc/sssd/sssd.conf"
#: Sockets that would start a responder a second time; sssd.conf lists these services.
SOCKETS = ["sssd-nss.socket", "sssd-pam.socket", "sssd-pam-priv.socket"]
#: Seconds until an SSSD that just started has to know the account.
ONLINE_SECONDS = 20.0
SECRET_LINE = re.compile(r"^(\s*ldap_default_authtok\s*=).*$", re.MULTILINE)


class SssdFile(File):
    """One of SSSD's files."""

    @property
    def changes(self) -> bool:
        """Whether something is to be done."""
        # At each start Debian 13's SSSD makes its files readable for the group root (sssd.service).
        same = self.new is None or self.old_mode & ~0o040 == self.mode & ~0o040
        return self.old != self.new or not same

    def text(self, content: bytes) -> str:
        """Return what may be shown of a content."""
        return SECRET_LINE.sub(r"\1 (not shown)", super().text(content))


class Rollout:
    """What is there, what is to be, and the way between."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.files = [SssdFile.wanted(wanted) for wanted in parameters["files"]]
        self.domain: str = parameters["domain"]
        self.user: str = parameters["probe_user"]
        self.checker: str = parameters["checker"]
        self.profile: str = parameters["pam_profile"]
        self.changed_files = [file for file in self.files if file.changes]
        self.pam_file_changes = any(file.path.endswith(f"/{self.profile}") for file in self.changed_files)
        # What concerns PAM alone asks nothing of the directory.
        self.directory_changes = any(
            "pam-configs" not in file.path and "/security/" not in file.path for file in self.changed_files
        )
        self.sockets = [name for name in SOCKETS if run("systemctl", "is-enabled", name).stdout.strip() == "enabled"]
        self.stopped = run("systemctl", "is-active", "sssd.service").stdout.strip() != "active"

    def profile_is_on(self) -> bool:
        """Tell whether PAM asks the profile's modules."""
        with open("/etc/pam.d/common-account", encoding="utf-8") as file:
            return "access-sssd.conf" in file.read()

    def pending(self) -> bool:
        """Tell whether there is something to do."""
        return bool(self.changed_files or self.sockets or self.stopped) or not self.profile_is_on()

    def try_candidate(self) -> str:
        """Try the new configuration, with what it needs in a directory in memory; return what fails."""
        if not (os.path.exists(self.checker) and shutil.which("ldapsearch") and shutil.which("kinit")):
            return ""  # in a check on a new machine
        with tempfile.TemporaryDirectory(prefix="cygnet-sssd-", dir="/run") as root:
            for file in self.files:
                # SSSD's checker insists on it.
                file.write(file.new, 0o600, root + file.path)
            return self.diagnose(f"--root={root}")

    def diagnose(self, *options: str) -> str:
        """Return what the checker finds to be wrong; empty when all is well."""
        done = run(self.checker, *options, self.user, seconds=180.0)
        if done.returncode == 0:
            return ""
        lines = [line.removeprefix("FAILED").strip() for line in done.stdout.splitlines() if line.startswith("FAILED")]
        return "\n".join(lines) or (done.stdout + done.stderr).strip()

    def apply(self) -> str:
        """Put the new files in place and start SSSD with them; return what fails."""
        for file in self.changed_files:
            file.put()
        for name in self.sockets:
            run("systemctl", "disable", "--now", name)
        if self.pam_file_changes or not self.profile_is_on():
            run("pam-auth-update", "--package", "--enable", self.profile)
            if not self.profile_is_on():
                return (
                    "PAM: pam-auth-update leaves /etc/pam.d/common-* alone, as they were edited by hand. Run"
                    " `pam-auth-update --force` on the machine, which writes them anew, and run again."
                )
        return self.restart() if self.directory_changes or self.sockets or self.stopped else ""

    def restart(self) -> str:
        """Start SSSD anew; return what fails."""
        run("systemctl", "daemon-reload")
        # Comes with the metapackage sssd, and refuses tickets of MIT's KDC since 1.20: their authorization data lack
        # LOGON_INFO. Nothing here reads these data.
        run("systemctl", "mask", "--now", "sssd-pac.socket", "sssd-pac.service")
        run("systemctl", "reset-failed", "sssd.service")
        done = run("systemctl", "restart", "sssd.service", "sssd-kcm.service")
        run("systemctl", "enable", "sssd.service")
        if done.returncode:
            log = run("journalctl", "--no-pager", "--quiet", "--output=cat", "-n", "5", "-u", "sssd.service").stdout
            return f"SSSD does not start: {' '.join(log.split())}"
        # Otherwise an entry that the old configuration had fetched would speak for the new one.
        run("sss_cache", "--everything")
        return ""

    def ask(self, fresh: bool) -> str:
        """Ask SSSD for the account; return what is wrong.

        Parameters
        ----------
        fresh
            The answer must come from the directory now, not from the cache.
        """
        end = time.monotonic() + ONLINE_SECONDS
        while True:
            known = run("getent", "-s", "sss", "passwd", self.user).returncode == 0
            online = not fresh or "Online status: Online" in run("sssctl", "domain-status", "-o", self.domain).stdout
            if known and online:
                break
            if time.monotonic() > end:
                if not known:
                    return f"SSSD does not know {self.user}"
                return f"SSSD stays offline, the domain {self.domain} is not reached"
            time.sleep(1)
        if run("getent", "passwd", self.user).returncode:
            return (
                f"NSS: the name service does not ask SSSD, {self.user} is unknown to it."
                " Add `sss` to passwd and group in /etc/nsswitch.conf"
            )
        return ""

    def take_back(self) -> None:
        """Put the old files in place."""
        was_there = any(file.path == SSSD_CONF and file.old is not None for file in self.files)
        if any(file.path.endswith(f"/{self.profile}") and file.old is None for file in self.files):
            run("pam-auth-update", "--package", "--remove", self.profile)
        for file in self.changed_files:
            file.put(old=True)
        if was_there:
            if self.pam_file_changes:
                run("pam-auth-update", "--package", "--enable", self.profile)
            self.restart()
        else:
            run("systemctl", "stop", "sssd.service")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE_OPTIONS},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "domain": {"type": "str", "required": True},
            "probe_user": {"type": "str", "required": True},
            "checker": {"type": "path", "required": True},
            "pam_profile": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    rollout = Rollout(module.params)
    result = {"changed": rollout.pending(), "diff": [file.difference() for file in rollout.changed_files]}
    if rollout.directory_changes:
        wrong = rollout.try_candidate()
        if wrong:
            module.fail_json(msg=f"The new configuration does not work, nothing was changed.\n{wrong}")
    if module.check_mode:
        module.exit_json(**result)
    if result["changed"]:
        wrong = rollout.apply() or rollout.ask(fresh=True)
        if wrong:
            reason = rollout.diagnose()
            rollout.take_back()
            module.fail_json(msg=f"{wrong}. The previous configuration is back.\n{reason}".strip())
    else:
        wrong = rollout.ask(fresh=False)
        if wrong:
            module.fail_json(msg=f"{wrong}.\n{rollout.diagnose()}".strip())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
