#!/usr/bin/python3
"""Bring the configuration of the CVMFS client into force, or leave the old one."""

from __future__ import annotations

import concurrent.futures
import glob
import hashlib
import os
import shlex
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.rollout import File, run

DOCUMENTATION = """
module: cvmfs_client
short_description: Bring the configuration of the CVMFS client into force, or leave the old one
description:
  - Compares files with those of the machine. When one differs, each repository is mounted with the new ones where
    nobody else sees it, with a cache of its own. When one fails whose servers, proxies or keys are new, nothing is
    changed and the module fails with the reason. Otherwise the files are put in place, mounted repositories take them,
    and all are probed; when that fails, the old files come back.
  - A repository that fails without having been changed is a warning, as its server may be down.
options:
  files:
    description: Files by path.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Path., type: path, required: true}
      content: {description: Text., type: str, required: true}
  owned:
    description: Patterns of files that are removed when they are not among C(files) and say that Ansible manages
      them, or are keys.
    type: list
    elements: str
    default: []
  repositories:
    description: Full names of the repositories.
    type: list
    elements: str
    required: true
  cache_directory:
    description: Where the cache is to be.
    type: path
    required: true
  quota_mb:
    description: How large it may become, in units of 10^6 bytes; negative for no limit.
    type: int
    required: true
author: Cygnet
"""

ETC = "/etc/cvmfs"
RUN = "/run/cvmfs"
AUTOFS = "/etc/auto.master.d/"
#: Settings by which a repository is found, reached and trusted.
IDENTITY = ("CVMFS_SERVER_URL", "CVMFS_HTTP_PROXY", "CVMFS_FALLBACK_PROXY", "CVMFS_PUBLIC_KEY", "CVMFS_KEYS_DIR")
#: Seconds for a mount; the client gives up on a silent server after 20 for each.
MOUNT_SECONDS = 90.0
#: Seconds until what was mounted in vain before is tried anew, which is autofs's affair (60 by its own default).
PROBE_SECONDS = 75.0
HTTP_SECONDS = 6.0

# Bind the candidate over the configuration, print what holds for the repository, and mount it.
TRIAL = """
mount --bind "$1/etc" /etc/cvmfs && mount --bind "$1/run" /run/cvmfs || exit 125
cvmfs_config showconfig "$2"
echo ---
mount -t cvmfs "$2" "$1/mnt" && ls "$1/mnt" > /dev/null
"""
# The last file that the client reads: a trial leaves the cache in use alone.
TRIAL_SETTINGS = """
CVMFS_CACHE_BASE={directory}/cache
CVMFS_SHARED_CACHE=no
CVMFS_QUOTA_LIMIT=1000
unset CVMFS_CACHE_DIR CVMFS_WORKSPACE CVMFS_ALIEN_CACHE
"""


def settings(text: str) -> dict[str, str]:
    """Read what `cvmfs_config showconfig` prints: NAME='value'    # from FILE."""
    found = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if not (separator and name.startswith("CVMFS_")):
            continue
        try:
            words = shlex.split(value, comments=True)
        except ValueError:
            continue
        found[name] = words[0] if words else ""
    return found


def key_files(config: dict[str, str]) -> list[str]:
    """List the files of the keys that may sign, as the client finds them."""
    if config.get("CVMFS_PUBLIC_KEY"):
        return [path for path in config["CVMFS_PUBLIC_KEY"].split(":") if path]
    return sorted(glob.glob(f"{config.get('CVMFS_KEYS_DIR', '/nonexistent')}/*.pub"))


def identity(config: dict[str, str], etc: str = ETC) -> tuple[str, ...]:
    """Sum up by what a repository is found, reached and trusted.

    Parameters
    ----------
    config
        What `cvmfs_config showconfig` tells of it.
    etc
        Where the configuration is: the candidate's files are not in their place.
    """
    moved = {name: config.get(name, "").replace(ETC, etc) for name in ("CVMFS_PUBLIC_KEY", "CVMFS_KEYS_DIR")}
    keys = []
    for path in key_files(moved):
        if os.path.exists(path):
            with open(path, "rb") as file:
                keys.append(hashlib.sha256(file.read()).hexdigest())
    return (*(config.get(name, "") for name in IDENTITY), *sorted(keys))


def ask_server(url: str, proxy: str) -> str:
    """Ask a server for a repository's manifest; return why it is not to be had."""
    handler = urllib.request.ProxyHandler({} if proxy == "DIRECT" else {"http": proxy, "https": proxy})
    way = "" if proxy == "DIRECT" else f" by way of {proxy}"
    try:
        with urllib.request.build_opener(handler).open(f"{url}/.cvmfspublished", timeout=HTTP_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"{url}{way} answers {error.code}: it has no such repository, or does not give it to this machine"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"{url}{way} does not answer ({getattr(error, 'reason', None) or error})"


def explain(fqrn: str, config: dict[str, str], keys: list[str], said: str, tried: bool = False) -> str:
    """Find out why a repository cannot be mounted; return what was found and what to do.

    Parameters
    ----------
    fqrn
        The repository's full name.
    config
        What `cvmfs_config showconfig` tells of it.
    keys
        Those files of keys that are there.
    said
        What the client wrote.
    tried
        It could be mounted just before, but for the automounter.
    """
    if not config:
        return f"the client does not read its configuration. It says: {' '.join(said.split()) or 'nothing'}"
    domain = fqrn.partition(".")[2]
    servers = [word for word in config.get("CVMFS_SERVER_URL", "").replace(",", ";").split(";") if word]
    proxies = [word for word in config.get("CVMFS_HTTP_PROXY", "").replace("|", ";").split(";") if word]
    if not servers:
        return f"nothing says which servers have it. Add {domain} with its servers and keys to cvmfs_domains"
    if not proxies:
        return "no proxy is set. Set cvmfs_http_proxy, to DIRECT if there is none"
    if not keys:
        where = config.get("CVMFS_PUBLIC_KEY") or config.get("CVMFS_KEYS_DIR") or "CVMFS_KEYS_DIR, which is empty"
        return f"there is no public key in {where}. Add {domain} with its keys to cvmfs_domains"
    # Whether there is a proxy at all, `auto` asks the network.
    known = [proxy for proxy in proxies if proxy != "auto"]
    answers = [ask_server(server, proxy) for server in servers for proxy in known]
    if answers and all(answers):
        return "; ".join(dict.fromkeys(answers)) + ". Check the server, the way to it, and cvmfs_http_proxy"
    if tried:
        return (
            f"the client can mount it, but the automounter does not: {' '.join(said.split())} See"
            " `journalctl -u autofs`, and whether /etc/auto.master has the line +dir:/etc/auto.master.d"
        )
    return (
        f"{servers[0]} answers, but not with what {' or '.join(keys)} has signed: probably the key is not the"
        f" repository's. The client says: {' '.join(said.split()) or 'nothing'}"
    )


class Rollout:
    """What is there, what is to be, and the way between."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        wanted = {entry["path"]: entry["content"] for entry in parameters["files"]}
        files = [File(path, content.encode()) for path, content in wanted.items()]
        # What an earlier run wrote says so, as the first file does.
        mark = str(parameters["files"][0]["content"]).splitlines()[0].encode()
        for pattern in parameters["owned"]:
            for path in sorted(set(glob.glob(pattern)) - set(wanted)):
                file = File(path, None)
                if path.endswith(".pub") or (file.old or b"").startswith(mark):
                    files.append(file)
        self.changed_files = [file for file in files if file.changes]
        self.repositories: list[str] = parameters["repositories"]
        self.cache: str = parameters["cache_directory"]
        self.quota_mb: int = parameters["quota_mb"]
        self.client_changes = any(file.path.startswith(ETC) for file in self.changed_files)
        self.old_cache = settings(run("cvmfs_config", "showconfig", "-s").stdout).get("CVMFS_CACHE_BASE", "")

    def each(self, function: Callable[[str], str], repositories: Iterable[str]) -> dict[str, str]:
        """Ask for repositories side by side, as each may wait for a server; keep the answers that are not empty."""
        names = list(repositories)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return {name: answer for name, answer in zip(names, pool.map(function, names), strict=True) if answer}

    def check_cache(self) -> str:
        """Tell whether the cache cannot be as large as it may."""
        directory = self.cache
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        total = shutil.disk_usage(directory).total // 10**6
        if self.quota_mb < total:
            return ""
        return (
            f"The file system of {directory} has {total} MB, and the cache may become {self.quota_mb} MB."
            " Lower cvmfs_quota_mb, or have cvmfs_cache_directory elsewhere"
        )

    def try_candidate(self) -> tuple[dict[str, str], dict[str, str]]:
        """Mount each repository as the new files say; return what fails by what is new, and what fails all the same."""
        config: dict[str, dict[str, str]] = {}
        changed: set[str] = set()

        def mount(fqrn: str) -> str:
            directory = tempfile.mkdtemp(prefix="cygnet-cvmfs-", dir="/var/tmp")
            try:
                # The client is not root.
                os.chmod(directory, 0o755)  # noqa: S103
                etc = f"{directory}/etc"
                shutil.copytree(ETC, etc, symlinks=True)
                for file in self.changed_files:
                    if file.path.startswith(f"{ETC}/"):
                        file.write(file.new, file.mode, etc + file.path[len(ETC) :])
                for name in ("run", "mnt", "cache"):
                    os.mkdir(f"{directory}/{name}")
                os.makedirs(RUN, exist_ok=True)
                os.makedirs(f"{etc}/config.d", exist_ok=True)
                with open(f"{etc}/config.d/{fqrn}.local", "a", encoding="utf-8") as local:
                    local.write(TRIAL_SETTINGS.format(directory=directory))
                # All that it starts ends with it, and what it mounts is seen by it alone.
                done = run(
                    "unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child", "--mount-proc",
                    "sh", "-c", TRIAL, "sh", directory, fqrn, seconds=MOUNT_SECONDS,
                )  # fmt: skip
                shown, _, said = done.stdout.partition("---\n")
                config[fqrn] = settings(shown)
                old = settings(run("cvmfs_config", "showconfig", fqrn).stdout)
                known = fqrn in old.get("CVMFS_REPOSITORIES", "").split(",")
                if not known or identity(config[fqrn], etc) != identity(old):
                    changed.add(fqrn)
                if done.returncode == 0:
                    return ""
                moved = {name: value.replace(ETC, etc) for name, value in config[fqrn].items()}
                keys = [path.replace(etc, ETC) for path in key_files(moved) if os.path.exists(path)]
                return explain(fqrn, config[fqrn], keys, said + done.stderr)
            finally:
                shutil.rmtree(directory, ignore_errors=True)

        problems = self.each(mount, self.repositories)
        return (
            {fqrn: why for fqrn, why in problems.items() if fqrn in changed},
            {fqrn: why for fqrn, why in problems.items() if fqrn not in changed},
        )

    def put(self, old: bool) -> str:
        """Put the new files in place, or the old ones back, and let all take them; return what fails."""
        for file in self.changed_files:
            file.put(old)
        wrong = ""
        if self.client_changes and os.path.isdir(RUN):
            if self.old_cache not in ("", self.cache):
                # A mounted repository cannot change its cache. Those that nobody uses are unmounted at once, the others
                # when they are not used any more.
                run("systemctl", "kill", "--kill-whom=main", "--signal=USR1", "autofs.service")
            else:
                done = run("cvmfs_config", "reload", seconds=180.0)
                wrong = f"cvmfs_config reload: {(done.stderr or done.stdout).strip()}" if done.returncode else ""
        if any(file.path.startswith(AUTOFS) for file in self.changed_files):
            run("systemctl", "reload-or-restart", "autofs.service")
        return wrong

    def probe(self, repositories: Iterable[str], seconds: float) -> dict[str, str]:
        """Look into repositories as everybody does; return which fail, and why."""

        def look(fqrn: str) -> str:
            end = time.monotonic() + seconds
            while True:
                done = run("cvmfs_config", "probe", fqrn, seconds=MOUNT_SECONDS)
                if done.returncode == 0:
                    return ""
                if time.monotonic() > end:
                    break
                time.sleep(3)
            config = settings(run("cvmfs_config", "showconfig", fqrn).stdout)
            keys = [path for path in key_files(config) if os.path.exists(path)]
            return explain(fqrn, config, keys, done.stdout + done.stderr, tried=seconds > 0)

        return self.each(look, repositories)


def sentences(problems: dict[str, str]) -> str:
    """Join what is wrong with repositories."""
    return "\n".join(f"{fqrn}: {why}." for fqrn, why in problems.items())


def main() -> None:
    """Run the module."""
    file = {"path": {"type": "path", "required": True}, "content": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": file},
            "owned": {"type": "list", "elements": "str", "default": []},
            "repositories": {"type": "list", "elements": "str", "required": True},
            "cache_directory": {"type": "path", "required": True},
            "quota_mb": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    if not shutil.which("cvmfs_config"):
        if not module.check_mode:
            module.fail_json(msg="The client is not installed: there is no cvmfs_config.")
        wanted = [File(entry["path"], entry["content"].encode()) for entry in module.params["files"]]
        module.exit_json(changed=True, diff=[file.difference() for file in wanted])
    rollout = Rollout(module.params)
    result = {
        "changed": bool(rollout.changed_files),
        "diff": [file.difference() for file in rollout.changed_files],
    }
    failing: dict[str, str] = {}
    if rollout.changed_files:
        wrong = rollout.check_cache()
        if wrong:
            module.fail_json(msg=f"{wrong}. Nothing was changed.")
        problems, failing = rollout.try_candidate()
        if problems:
            module.fail_json(msg=f"The new configuration does not work, nothing was changed.\n{sentences(problems)}")
    if module.check_mode:
        module.exit_json(**result)
    if rollout.changed_files:
        wrong = rollout.put(old=False)
        problems = {} if wrong else rollout.probe(set(rollout.repositories) - set(failing), PROBE_SECONDS)
        if wrong or problems:
            rollout.put(old=True)
            module.fail_json(
                msg=f"The new configuration does not work, the previous one is back.\n{wrong}{sentences(problems)}"
            )
    else:
        failing = rollout.probe(rollout.repositories, 0)
    if failing:
        module.warn(f"Not to be read at present, though nothing of it was changed: {sentences(failing)}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
