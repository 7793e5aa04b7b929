"""Bad input stops the run before any machine is reached, with the name found and the remedy.

The host of these inventories does not exist: a run that got as far as to connect would end with `UNREACHABLE`.
"""

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inputs import misspelled_inputs

ROOT = Path(__file__).parents[2]
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1}


def run(directory: Path, variables: dict[str, Any], hubs: int = 1) -> str:
    """Run the checks on an inventory and return what they print."""
    inventory = {
        "all": {
            "vars": variables,
            "children": {
                "hub": {"hosts": {f"hub{number}.example.org": NOWHERE for number in range(hubs)}},
                "jupyterlab": {"children": {"hub": {}}},
            },
        }
    }
    path = directory / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory))
    process = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", path, ROOT / "site.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.returncode != 0
    return " ".join((process.stdout + process.stderr).split())


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


SPECS = {"swan": {"argument_specs": {"main": {"options": {"swan_wing_mm": {}}}}}}


@pytest.mark.parametrize("name", ["swan_wing_mm", "ansible_host", "__swan_private", "site_colour"])
def test_names_that_are_no_mistake(name: str) -> None:
    assert misspelled_inputs([name], SPECS) == []


@pytest.mark.parametrize("name", ["swan_wings_mm", "swan_feather", "swam_wing_mm"])
def test_names_that_are_a_mistake(name: str) -> None:
    (sentence,) = misspelled_inputs([name], SPECS)
    assert sentence.startswith(f"{name} is not an input")
