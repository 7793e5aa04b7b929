"""Bad input stops the run before any machine is reached, with the name found and the remedy.

The host of these inventories does not exist: a run that got as far as to connect would end with `UNREACHABLE`.
"""

import datetime
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playing import play

from inputs import keytab_principals, listener, misspelled_inputs, sss_keytab_problems

NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1}


def run(directory: Path, variables: dict[str, Any], hubs: int = 1, groups: Sequence[str] = ("jupyterlab",)) -> str:
    """Run the checks on an inventory and return what they print."""
    inventory = {
        "all": {
            "vars": variables,
            "children": {
                "hub": {"hosts": {f"hub{number}.example.org": NOWHERE for number in range(hubs)}},
                **{group: {"children": {"hub": {}}} for group in groups},
            },
        }
    }
    status, out = play(directory, inventory, "site.yml")
    assert status != 0
    return " ".join(out.split())


def certificate(directory: Path, name: str, days: int) -> None:
    """Write a certificate valid for some days from yesterday, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (directory / f"{name}.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_good_input_gets_as_far_as_the_machines(tmp_path: Path) -> None:
    certificate(tmp_path, "good", days=30)
    tls = {
        "nginx_tls": "files",
        "nginx_tls_certificate": str(tmp_path / "good.pem"),
        "nginx_tls_key": str(tmp_path / "good.key"),
    }
    assert "UNREACHABLE" in run(tmp_path, {"jupyterhub_language": "ru"} | tls)


@pytest.mark.parametrize("hubs", [0, 2])
def test_number_of_hubs(tmp_path: Path, hubs: int) -> None:
    out = run(tmp_path, {}, hubs)
    assert f"The group hub has {hubs} hosts" in out
    assert "exactly one host" in out
    assert "UNREACHABLE" not in out


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (
            {"jupyterhub_langauge": "ru"},
            "jupyterhub_langauge is not an input of any role; did you mean jupyterhub_language?",
        ),
        ({"jupyerhub_language": "ru"}, "did you mean jupyterhub_language?"),
        ({"nginx_colour": "blue"}, "nginx_colour is not an input of the role nginx"),
        ({"jupyterhub_language": "de"}, "value of jupyterhub_language must be one of: en, ru, got: de"),
        ({"jupyterhub_session_memory_mb": "plenty"}, "jupyterhub_session_memory_mb"),
        ({"jupyterhub_allowed_groups": {"a": 1}}, "jupyterhub_allowed_groups"),
        ({"jupyterhub_logo": "/no/such.svg"}, "/no/such.svg', which is not a file on the control node"),
        ({"nginx_tls": "file"}, "value of nginx_tls must be one of: files, acme, self_signed, got: file"),
    ],
)
def test_variables(tmp_path: Path, variables: dict[str, Any], found: str) -> None:
    out = run(tmp_path, variables)
    assert found in out
    assert "UNREACHABLE" not in out


def test_sessions(tmp_path: Path) -> None:
    out = run(tmp_path, {"jupyterhub_kinds": ["lab", "desktop"]})
    assert "jupyterhub_kinds has desktop, but the hub's machine is not in the group xpra" in out
    assert "UNREACHABLE" not in out


@pytest.mark.parametrize(
    ("provider", "found"),
    [
        ({"client_secret": 12, "issuers": "https://auth.example.org"}, "issuers"),
        ({"scope": {"openid": True}}, "scope"),
        ({"auto_login": "perhaps"}, "auto_login"),
        ({"client_id": "hub", "issuer": "https://auth.example.org"}, "jupyterhub_oidc has no client_secret"),
        ({}, "jupyterhub_oidc does not say where the provider is"),
        ({"authorize_url": "https://auth.example.org/authorize"}, "all of authorize_url, token_url, userdata_url"),
        ({"issuer": "http://auth.example.org"}, "address that begins with https://"),
        ({"ca_certificate": "/no/such.pem"}, "'/no/such.pem', which is not a file on the control node"),
        ({"ca_certificate": __file__}, "holds no certificate"),
    ],
)
def test_single_sign_on(tmp_path: Path, provider: dict[str, Any], found: str) -> None:
    out = run(tmp_path, {"jupyterhub_authentication": "oidc", "jupyterhub_oidc": provider})
    assert found in out
    assert "UNREACHABLE" not in out


def test_secret_of_the_single_sign_on_is_not_shown(tmp_path: Path) -> None:
    provider = {"client_id": "hub", "client_secret": "swan-secret-9", "issuer": "http://auth.example.org", "scope": 1.5}
    assert "swan-secret-9" not in run(tmp_path, {"jupyterhub_authentication": "oidc", "jupyterhub_oidc": provider})


@pytest.mark.parametrize(
    ("chain", "key", "found"),
    [
        ("absent.pem", "good.key", "absent.pem', which is not a file"),
        ("old.pem", "old.key", "expired at"),
        ("good.pem", "other.key", "does not belong to the certificate"),
    ],
)
def test_certificate(tmp_path: Path, chain: str, key: str, found: str) -> None:
    certificate(tmp_path, "good", days=30)
    certificate(tmp_path, "other", days=30)
    certificate(tmp_path, "old", days=-1)
    tls = {"nginx_tls_certificate": str(tmp_path / chain), "nginx_tls_key": str(tmp_path / key)}
    out = run(tmp_path, {"nginx_tls": "files"} | tls)
    assert found in out
    assert "UNREACHABLE" not in out


def keytab(path: Path, *principals: str) -> None:
    """Write a keytab as ktadd does, with a hole as ktremove leaves one."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    entries = [b"\0" * 8]
    for principal in principals:
        name, realm = principal.split("@")
        parts = name.split("/")
        entry = struct.pack(">H", len(parts)) + text(realm) + b"".join(map(text, parts))
        entries.append(entry + struct.pack(">IIBHH", 1, 0, 2, 18, 32) + b"k" * 32)
    lengths = [-8, *(len(entry) for entry in entries[1:])]
    body = b"".join(struct.pack(">i", length) + entry for length, entry in zip(lengths, entries, strict=True))
    path.write_bytes(b"\x05\x02" + body)


DIRECTORY = {
    "sssd_domain": "example.org",
    "sssd_probe_user": "alice",
    "sssd_base": "dc=example,dc=org",
    "sssd_servers": ["ldap.example.org"],
    "sssd_realm": "EXAMPLE.ORG",
    "sssd_bind_dn": "cn=hub,dc=example,dc=org",
    "sssd_bind_password": "secret-of-the-bind",
}


def test_good_directory_gets_as_far_as_the_machines(tmp_path: Path) -> None:
    certificate(tmp_path, "ca", days=30)
    keytab(tmp_path / "hub.keytab", "nfs/hub.example.org@EXAMPLE.ORG", "host/hub.example.org@EXAMPLE.ORG")
    with_keytab = {
        "sssd_ca_certificate": str(tmp_path / "ca.pem"),
        "sssd_keytab": str(tmp_path / "hub.keytab"),
        "sssd_bind_dn": "",
        "sssd_bind_password": "",
    }
    assert "UNREACHABLE" in run(tmp_path, DIRECTORY | with_keytab, groups=["sssd"])


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (
            {"sssd_schema": "openldap"},
            "value of sssd_schema must be one of: rfc2307, rfc2307bis, ipa, ad, got: openldap",
        ),
        ({"sssd_server": "ldap.example.org"}, "sssd_server is not an input of any role; did you mean sssd_servers?"),
        ({"sssd_base": ""}, "sssd_base is empty"),
        ({"sssd_bind_password": ""}, "needs one way to read the directory"),
        ({"sssd_bind_dn": "", "sssd_bind_password": ""}, "but has none of them"),
        ({"sssd_keytab": "/no/such.keytab"}, "but has sssd_bind_dn and sssd_bind_password and sssd_keytab"),
        ({"sssd_realm": ""}, "sssd_realm is empty, but sssd_auth is krb5"),
        ({"sssd_min_uid": 5000, "sssd_max_uid": 4000}, "sssd_min_uid is 5000 and sssd_max_uid 4000"),
        ({"sssd_min_uid": 0}, "The first must be positive"),
        ({"sssd_id_mapping": True}, "Only Active Directory (ad) has the SIDs"),
        ({"sssd_servers": ["ldaps://ldap.example.org"]}, "Set sssd_tls to ldaps"),
        ({"sssd_servers": ["ldap://ldap.example.org"], "sssd_tls": "ldaps"}, "Write ldaps:// or the host names alone"),
        ({"sssd_ca_certificate": "/no/such.pem"}, "/no/such.pem', which is not a file on the control node"),
    ],
)
def test_directory(tmp_path: Path, variables: dict[str, Any], found: str) -> None:
    out = run(tmp_path, DIRECTORY | variables, groups=["sssd"])
    assert found in out
    assert "UNREACHABLE" not in out
    assert "secret-of-the-bind" not in out


def test_directory_without_an_account_to_ask_for(tmp_path: Path) -> None:
    variables = {name: value for name, value in DIRECTORY.items() if name != "sssd_probe_user"}
    assert "missing required arguments: sssd_probe_user" in run(tmp_path, variables, groups=["sssd"])


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"cvmfs_http_proxy": "DIRECT"}, "missing required arguments: cvmfs_repositories"),
        ({"cvmfs_repositories": ["sft.cern.ch"]}, "missing required arguments: cvmfs_http_proxy"),
        ({"cvmfs_repositories": ["sft.cern.ch"], "cvmfs_http_proxy": "squid"}, "cvmfs_http_proxy has 'squid'"),
        ({"cvmfs_quota_gb": 20}, "cvmfs_quota_gb is not an input of any role; did you mean cvmfs_quota_mb?"),
        ({"cvmfs_domains": [{"name": "example.org", "server": "http://example.org"}]}, "cvmfs_domains"),
    ],
)
def test_cvmfs(tmp_path: Path, variables: dict[str, Any], found: str) -> None:
    out = run(tmp_path, variables, groups=["cvmfs"])
    assert found in out
    assert "UNREACHABLE" not in out


def test_good_cvmfs_gets_as_far_as_the_machines(tmp_path: Path) -> None:
    variables = {"cvmfs_repositories": ["sft.cern.ch"], "cvmfs_http_proxy": "http://squid.example.org:3128;DIRECT"}
    assert "UNREACHABLE" in run(tmp_path, variables, groups=["cvmfs"])


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("text", "is no keytab (it does not begin with 0x0502)"),
        ("other.keytab", "holds keys of host/hub.example.org@EXAMPLE.COM and none of the realm EXAMPLE.ORG"),
    ],
)
def test_keytab(tmp_path: Path, file: str, found: str) -> None:
    (tmp_path / "text").write_text("no keytab")
    keytab(tmp_path / "other.keytab", "host/hub.example.org@EXAMPLE.COM")
    bind = {"sssd_keytab": str(tmp_path / file), "sssd_bind_dn": "", "sssd_bind_password": ""}
    out = run(tmp_path, DIRECTORY | bind, groups=["sssd"])
    assert found in out
    assert "UNREACHABLE" not in out


@pytest.mark.parametrize(("file", "found"), [("old.pem", "expired at"), ("text", "not a certificate in PEM form")])
def test_certificate_of_the_authority(tmp_path: Path, file: str, found: str) -> None:
    certificate(tmp_path, "old", days=-1)
    (tmp_path / "text").write_text("no certificate")
    out = run(tmp_path, DIRECTORY | {"sssd_ca_certificate": str(tmp_path / file)}, groups=["sssd"])
    assert found in out
    assert "UNREACHABLE" not in out


def test_principals_of_a_keytab(tmp_path: Path) -> None:
    keytab(tmp_path / "good", "host/hub@EXAMPLE.ORG", "HUB$@EXAMPLE.ORG", "host/hub@EXAMPLE.ORG")
    assert keytab_principals(str(tmp_path / "good")) == ["host/hub@EXAMPLE.ORG", "HUB$@EXAMPLE.ORG"]
    (tmp_path / "cut").write_bytes((tmp_path / "good").read_bytes()[:40])
    assert keytab_principals(str(tmp_path / "cut")) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("""LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=41,fd=6),("nginx",pid=40))""", (80, "nginx", 41)),
        ("""LISTEN 0 4096 [::]:443 [::]:* users:(("caddy",pid=7,fd=3))""", (443, "caddy", 7)),
        ("""LISTEN 0 128 *:22 *:* users:(("systemd",pid=1,fd=80))""", (22, "systemd", 1)),
        ("""LISTEN 0 64 [fe80::1%eth0]:2049 [::]:*""", (2049, "", None)),
    ],
)
def test_who_listens(line: str, found: tuple[int, str, int | None]) -> None:
    assert tuple(listener(line).values()) == found


SPECS = {"swan": {"argument_specs": {"main": {"options": {"swan_wing_mm": {}}}}}}


@pytest.mark.parametrize("name", ["swan_wing_mm", "ansible_host", "__swan_private", "site_colour"])
def test_names_that_are_no_mistake(name: str) -> None:
    assert misspelled_inputs([name], SPECS) == []


@pytest.mark.parametrize("name", ["swan_wings_mm", "swan_feather", "swam_wing_mm"])
def test_names_that_are_a_mistake(name: str) -> None:
    (sentence,) = misspelled_inputs([name], SPECS)
    assert sentence.startswith(f"{name} is not an input")


EOS = {"eos_server": "eos.example.org"}


def sss_keytab(path: Path, user: str = "anybody", mode: int = 0o600) -> str:
    """Write a keytab as xrdsssadmin does; return its path."""
    path.write_text(f"0 u:{user} g:usrgroup n:machines N:7711687314103074817 c:1 e:0 f:0 k:{'0a' * 32}\n")
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"eos_server": "root://eos.example.org:1094"}, "which is no host name"),
        ({"eos_port": 70000}, "give a port from 1 to 65535"),
        ({"eos_mounts": {}}, "eos_mounts is empty"),
        ({"eos_mounts": {"user": "root://eos.example.org//eos/user"}}, "which is no path on the server"),
        ({"eos_mounts": {"us er": "/eos/user"}}, "eos_mounts has the name 'us er'"),
        ({"eos_keytab": ""}, "eos_keytab is empty"),
        ({"eos_keytab": "/no/such.keytab"}, "'/no/such.keytab', which is not a file on the control node"),
        ({"eos_client": "eosxd"}, "not for Debian"),
        (
            {"eos_client": "eosxd", "eos_apt_repository": "https://example.org"},
            "needs eos_apt_components and eos_apt_key",
        ),
        ({"eos_client": "xrootdfs"}, "value of eos_client must be one of: xrootd, eosxd"),
        ({"eos_servers": ["a"]}, "eos_servers is not an input of any role; did you mean eos_server?"),
    ],
)
def test_eos(tmp_path: Path, variables: dict[str, Any], found: str) -> None:
    out = run(tmp_path, EOS | {"eos_keytab": sss_keytab(tmp_path / "good")} | variables, groups=["eos"])
    assert found in out
    assert "UNREACHABLE" not in out


def test_keytab_of_eos(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no keytab")
    (tmp_path / "text").chmod(0o600)
    for path, found in (
        (sss_keytab(tmp_path / "open", mode=0o644), "has the mode 0644: others can read the secret"),
        (str(tmp_path / "text"), "is no keytab of sss"),
        (sss_keytab(tmp_path / "somebody", "somebody"), "has no key of anybody"),
    ):
        assert [found in sentence for sentence in sss_keytab_problems("eos_keytab", path, anybody=True)] == [True]
    assert sss_keytab_problems("eos_admin_keytab", str(tmp_path / "somebody"), anybody=False) == []


def test_good_eos_gets_as_far_as_the_machines(tmp_path: Path) -> None:
    keytab = sss_keytab(tmp_path / "good")
    assert "UNREACHABLE" in run(tmp_path, EOS | {"eos_keytab": keytab, "eos_admin_keytab": keytab}, groups=["eos"])
