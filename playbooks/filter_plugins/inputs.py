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
            "file_base64": file_base64,
            "keytab_principals": keytab_principals,
            "listener": listener,
            "misspelled_inputs": misspelled_inputs,
            "oidc_problems": oidc_problems,
            "yaml_file": yaml_file,
        }
