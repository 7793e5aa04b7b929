"""A certificate from an ACME server, its renewal, and the way back to the one before."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import Service, wait_for

Play = Callable[..., str]

SETTINGS = {
    "nginx_tls": "acme",
    "nginx_acme_directory": "https://campus.example.org:14000/dir",
    "nginx_server_names": ["hub.example.org"],
}
SITE = ("site.yml", "--tags=nginx", "--limit=localhost,hub")
CAMPUS_CA = "/usr/local/share/ca-certificates/campus.crt"

pytestmark = pytest.mark.destructive


def served(service: Service) -> str:
    """Return the certificate that a browser is shown."""
    host, _colon, port = service.url.removeprefix("https://").partition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=60)


@pytest.fixture(scope="module")
def before(service: Service) -> str:
    """Remember the certificate before the first test."""
    return served(service)


@pytest.fixture(scope="module")
def obtained(before: str, play: Play, hub: Any, campus: Any, service: Service) -> Iterator[str]:
    """Have a certificate of the ACME server; give what Ansible printed."""
    play("molecule/shared/campus.yml", {"campus_extras": ["acme"]})
    # As a university's own ACME server is one of an authority that its machines trust.
    ca = campus.check_output("cat /var/lib/campus/tls/ca.pem")
    hub.check_output("echo %s >%s && update-ca-certificates", ca, CAMPUS_CA)
    try:
        yield play(SITE[0], SETTINGS, *SITE[1:])
    finally:
        # Also when that failed: all other tests need the certificate that they know.
        play(SITE[0], {}, *SITE[1:])
        assert served(service) == before
        hub.run("certbot delete --non-interactive --cert-name hub.example.org; rm %s", CAMPUS_CA)
        hub.check_output("update-ca-certificates --fresh")


@pytest.fixture
def checked(obtained: str, campus: Any, service: Service) -> Callable[[], bytes]:
    """Return the function that connects as a browser that trusts the ACME server's CA, and gives the certificate."""
    root = campus.check_output(
        "curl --silent --fail --cacert /var/lib/campus/tls/ca.pem https://campus.example.org:15000/roots/0"
    )
    context = ssl.create_default_context(cadata=root)
    _host, _colon, port = service.url.removeprefix("https://").partition(":")

    def connect() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", int(port)), 60) as plain,
            context.wrap_socket(plain, server_hostname="hub.example.org") as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""

    return connect


def test_certificate_is_the_servers(before: str, checked: Callable[[], bytes]) -> None:
    assert checked() != ssl.PEM_cert_to_DER_cert(before)


def test_second_run_asks_for_no_other(obtained: str, play: Play, checked: Callable[[], bytes]) -> None:
    first = checked()
    out = play(SITE[0], SETTINGS, *SITE[1:])
    assert "changed=0" in out.split("PLAY RECAP")[1].split("hub.example.org")[1].splitlines()[0]
    assert checked() == first


def test_renewal_is_served_without_a_restart(hub: Any, checked: Callable[[], bytes]) -> None:
    first = checked()
    started = hub.check_output("systemctl show --property=ActiveEnterTimestampMonotonic nginx.service")
    # What Debian's timer does, but before the time.
    hub.check_output("certbot renew --quiet --force-renewal --no-random-sleep-on-renew")
    # nginx's old workers may take a connection that comes while they are about to end.
    wait_for("the new certificate", lambda: checked() != first, 10)
    assert hub.check_output("systemctl show --property=ActiveEnterTimestampMonotonic nginx.service") == started
