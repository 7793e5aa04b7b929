"""Compare what an inventory sets with what the roles take."""

from __future__ import annotations

import base64
import difflib
import re
import struct
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


def file_base64(path: str) -> str:
    """Read a file of the control node that is not text."""
    return base64.b64encode(Path(path).read_bytes()).decode("ascii")


def keytab_principals(path: str) -> list[str]:
    """List the principals of a keytab, each once, in its order; none when the file is not a keytab.

    The format is version 2 of MIT Kerberos' "keytab file format": 0x0502, then entries of a signed length each, a
    negative one for a hole.
    """
    data = Path(path).read_bytes()
    found: dict[str, None] = {}
    if data[:2] != b"\x05\x02":
        return []
    try:
        offset = 2
        while offset < len(data):
            (length,) = struct.unpack_from(">i", data, offset)
            offset += 4
            if length > 0:
                (components,) = struct.unpack_from(">H", data, offset)
                parts, place = [], offset + 2
                for _ in range(components + 1):
                    (size,) = struct.unpack_from(">H", data, place)
                    parts.append(data[place + 2 : place + 2 + size].decode("utf-8"))
                    place += 2 + size
                found[f"{'/'.join(parts[1:])}@{parts[0]}"] = None
            offset += abs(length)
    except (struct.error, UnicodeDecodeError):
        return []
    return list(found)


def oidc_problems(provider: Mapping[str, Any]) -> list[str]:
    """List what is wrong with `jupyterhub_oidc` where it is needed, beyond names and types; a sentence each."""
    addresses = ("authorize_url", "token_url", "userdata_url")
    found = [
        f"jupyterhub_authentication is oidc, but jupyterhub_oidc has no {name}: set what the provider gave the hub."
        for name in ("client_id", "client_secret")
        if not provider.get(name)
    ]
    if not provider.get("issuer") and not all(provider.get(name) for name in addresses):
        found.append(
            "jupyterhub_authentication is oidc, but jupyterhub_oidc does not say where the provider is: set issuer, or "
            f"all of {', '.join(addresses)}."
        )
    found += [
        f"{name} of jupyterhub_oidc is {provider[name]!r}: give an address that begins with https://."
        for name in ("issuer", *addresses, "logout_redirect_url")
        if provider.get(name) and not str(provider[name]).startswith("https://")
    ]
    certificate = provider.get("ca_certificate")
    if certificate and not Path(certificate).is_file():
        found.append(
            f"ca_certificate of jupyterhub_oidc is {certificate!r}, which is not a file on the control node: give the "
            "path of a PEM file, or leave it out for the authorities that the machine trusts."
        )
    elif certificate and "-----BEGIN CERTIFICATE-----" not in Path(certificate).read_text(errors="replace"):
        found.append(
            f"ca_certificate of jupyterhub_oidc, {certificate!r}, holds no certificate in PEM: give such a file."
        )
    return found


def cvmfs_problems(inputs: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the inputs of the role cvmfs, beyond names and types; a sentence each.

    Parameters
    ----------
    inputs
        The role's inputs by their names without the prefix.
    """
    found = []
    fqrn = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)+")
    domains = [domain["name"] for domain in inputs["domains"]]
    if not inputs["repositories"]:
        found.append("cvmfs_repositories is empty: name a repository, or take the host out of the group cvmfs.")
    for name in inputs["repositories"]:
        if not fqrn.fullmatch(str(name)):
            found.append(f"{name!r} of cvmfs_repositories is no repository: write its full name, such as sft.cern.ch.")
        elif inputs["config_package"] == "cvmfs-config-none" and name.partition(".")[2] not in domains:
            found.append(
                f"Nothing says where {name} of cvmfs_repositories is: add {name.partition('.')[2]} with its servers "
                "and keys to cvmfs_domains, or set cvmfs_config_package to cvmfs-config-default."
            )
    proxies = [proxy.strip() for proxy in re.split("[|;]", str(inputs["http_proxy"]))]
    found += [
        f"cvmfs_http_proxy has {proxy!r}: give addresses such as http://squid.example.org:3128, or DIRECT for no proxy."
        for proxy in proxies
        if proxy not in {"DIRECT", "auto"} and not re.fullmatch(r"https?://[^/\s:]+(:[0-9]+)?/?", proxy)
    ]
    found += [
        f"cvmfs_domains has {name} twice: write it once." for name in sorted(set(domains)) if domains.count(name) > 1
    ]
    for domain in inputs["domains"]:
        name = domain["name"]
        found += [
            f"{what} of {name} in cvmfs_domains is empty: give at least one."
            for what in ("servers", "keys")
            if not domain[what]
        ]
        found += [
            f"The server {server!r} of {name} in cvmfs_domains is no address of repositories: write it like "
            "http://cvmfs.example.org/cvmfs/@fqrn@."
            for server in domain["servers"]
            if not re.fullmatch(r"https?://[^/\s]+/\S*@(fqrn|org)@\S*", server)
        ]
        for path in domain["keys"]:
            if not Path(path).is_file():
                found.append(f"The key {path!r} of {name} in cvmfs_domains is not a file on the control node.")
            elif "-----BEGIN PUBLIC KEY-----" not in Path(path).read_text(errors="replace"):
                found.append(f"The key {path!r} of {name} in cvmfs_domains is no public key in PEM form.")
        names = [Path(path).stem for path in domain["keys"]]
        if len(set(names)) < len(names):
            found.append(f"Two keys of {name} in cvmfs_domains have the same name: rename one.")
    key = inputs["apt_key"]
    if key and not re.match("https?://", key) and not Path(key).is_file():
        found.append(f"cvmfs_apt_key is {key!r}, which is not a file on the control node: give a path, or an address.")
    if key and not key.endswith((".asc", ".gpg")):
        found.append(
            f"cvmfs_apt_key is {key!r}: its name must end in .asc (text) or .gpg (binary), as apt looks at it."
        )
    if inputs["quota_mb"] < 1:
        found.append(f"cvmfs_quota_mb is {inputs['quota_mb']}: give the size of the cache in MB.")
    if not inputs["cache_directory"].startswith("/"):
        found.append(f"cvmfs_cache_directory is {inputs['cache_directory']!r}: give an absolute path.")
    found += [
        f"{path!r} of cvmfs_warm_up is not below /cvmfs: give a view's setup.sh, a directory or a file there."
        for path in inputs["warm_up"]
        if not str(path).startswith("/cvmfs/")
    ]
    return found


def eos_problems(inputs: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the inputs of the role eos, given without their prefix; a sentence each.

    The server itself is asked on the machine, by the role.
    """
    found = []
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", inputs["server"]):
        found.append(
            f"eos_server is {inputs['server']!r}, which is no host name: write it as eos.example.org, without root://"
            " and the port, which is eos_port."
        )
    if not 0 < inputs["port"] < 65536:
        found.append(f"eos_port is {inputs['port']}: give a port from 1 to 65535.")
    if not inputs["mounts"]:
        found.append("eos_mounts is empty: give at least one directory of the server, as {user: /eos/user}.")
    for name, path in inputs["mounts"].items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(name)):
            found.append(
                f"eos_mounts has the name {name!r}: letters, digits, '_', '-' and '.' make a directory below /eos."
            )
        if not re.fullmatch(r"(/[^/?\s]+)+/?|/", str(path)):
            found.append(
                f"eos_mounts has {path!r} for {name}, which is no path on the server: write it as /eos/user, without root://"
                " and the server's name."
            )
    if inputs["client"] == "eosxd":
        if not inputs["apt_repository"]:
            found.append(
                "eos_client is eosxd, which CERN packages for Enterprise Linux and Ubuntu, not for Debian: set it to"
                " xrootd, or eos_apt_repository to an apt repository that has eos-fusex for this system."
            )
        elif not inputs["apt_components"] or not Path(inputs["apt_key"]).is_file():
            found.append(
                "eos_apt_repository needs eos_apt_components and eos_apt_key, the path of a file on the control node:"
                f" they are {inputs['apt_components']} and {inputs['apt_key']!r}."
            )
    elif not inputs["keytab"]:
        found.append("eos_keytab is empty: give the path of the keytab that the machines share with the server.")
    for name in ("keytab", "admin_keytab"):
        if inputs[name]:
            found += sss_keytab_problems(f"eos_{name}", inputs[name], anybody=name == "keytab")
    return found


def sss_keytab_problems(name: str, path: str, anybody: bool) -> list[str]:
    """List what is wrong with a keytab of XRootD's sss on the control node; a sentence each.

    Parameters
    ----------
    name
        The input that gives it.
    path
        Where it is.
    anybody
        Whether it must have a key with which users are named.
    """
    if not Path(path).is_file():
        return [f"{name} is {path!r}, which is not a file on the control node: give the path of a keytab of sss."]
    mode = Path(path).stat().st_mode & 0o777
    if mode & 0o077:
        return [f"{name}, {path!r}, has the mode {mode:04o}: others can read the secret. Run `chmod 600` on it."]
    lines = Path(path).read_text(errors="replace").splitlines()
    keys = [line.split() for line in lines if re.match(r"[01] .*\bk:[0-9a-f]{16,}", line)]
    if not keys:
        return [f"{name}, {path!r}, is no keytab of sss: make one with `xrdsssadmin add`."]
    if anybody and all("u:anybody" not in key for key in keys):
        return [
            f"{name}, {path!r}, has no key of anybody, by which the machine may name its users: make one with"
            " `xrdsssadmin -u anybody add`."
        ]
    return []


def listener(line: str) -> dict[str, Any]:
    """Read a line of `ss --listening --tcp --numeric --processes --no-header`.

    Returns
    -------
    dict
        `port`; `name` and `pid` of the first process that listens there, an empty text and None where `ss` names none:
        a service of the kernel or a process of another PID namespace.
    """
    address = line.split()[3]
    process = re.search(r'users:\(\("(?P<name>[^"]*)",pid=(?P<pid>[0-9]+)', line)
    return {
        "port": int(address.rpartition(":")[2]),
        "name": process["name"] if process else "",
        "pid": int(process["pid"]) if process else None,
    }


class FilterModule:
    """Hand the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "cvmfs_problems": cvmfs_problems,
            "eos_problems": eos_problems,
            "file_base64": file_base64,
            "keytab_principals": keytab_principals,
            "listener": listener,
            "misspelled_inputs": misspelled_inputs,
            "oidc_problems": oidc_problems,
            "yaml_file": yaml_file,
        }
