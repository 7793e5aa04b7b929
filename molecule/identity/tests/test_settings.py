"""Directories and settings other than the scenario's own; each deploys the role anew, so it stands apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testing import PEOPLE, Service, person

Play = Callable[..., str]

SITE = ("site.yml", "--tags=sssd", "--limit=localhost,hub")

pytestmark = pytest.mark.destructive


@pytest.fixture(scope="module")
def deploy(play: Play) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Return the function that deploys the role with further settings; afterwards it has the scenario's own again."""

    def run(variables: dict[str, Any]) -> None:
        play(SITE[0], variables, *SITE[1:])

    yield run
    run({})


@contextmanager
def asking_the_campus(hub: Any, campus: Any) -> Iterator[None]:
    """Have the hub ask the campus's name server."""
    address = campus.check_output("hostname --all-ip-addresses").split()[0]
    hub.check_output("cp -P /etc/resolv.conf /run/resolv.before && rm /etc/resolv.conf")
    try:
        hub.check_output("echo nameserver %s >/etc/resolv.conf", address)
        yield
    finally:
        hub.check_output("mv -f /run/resolv.before /etc/resolv.conf")


def test_groups_that_list_entries_and_passwords_by_ldap(
    deploy: Callable[[dict[str, Any]], None], hub: Any, service: Service
) -> None:
    """RFC 2307bis, with a group inside another, and no Kerberos."""
    deploy(
        {
            "sssd_schema": "rfc2307bis",
            "sssd_base": "dc=example,dc=net",
            "sssd_auth": "ldap",
            "sssd_realm": "",
            "sssd_kdcs": [],
        }
    )
    assert {"students", "first-year"} <= set(hub.check_output("id -Gn bob").split())
    for name in ("alice", "bob", "tanya"):
        person(service, name).login()
    assert person(service, "gordon").try_login().status_code == 403
    wrong = person(service, "alice")
    wrong.password = "wrong"
    assert wrong.try_login().status_code == 403


def test_servers_found_by_dns_and_the_machines_own_key(
    deploy: Callable[[dict[str, Any]], None], play: Play, hub: Any, campus: Any, service: Service
) -> None:
    play("molecule/shared/campus.yml", {"campus_extras": ["dns"]})
    with asking_the_campus(hub, campus):
        deploy(
            {
                "sssd_servers": [],
                "sssd_kdcs": [],
                "sssd_bind_dn": "",
                "sssd_bind_password": "",
                "sssd_keytab": "{{ campus_files }}/hub.keytab",
            }
        )
        configuration = hub.check_output("cat /etc/sssd/sssd.conf")
        assert "ldap.example.org" not in configuration and "kdc.example.org" not in configuration
        assert "swan-bind-1" not in configuration
        hub.check_output("sss_cache --everything")
        assert hub.check_output("id -u tanya") == str(PEOPLE["tanya"]["uid"])
        for name in ("alice", "tanya"):
            person(service, name).login()
        # A ticket that the machine's key has proved to come from the real KDC.
        assert "krbtgt/EXAMPLE.ORG" in hub.check_output("setpriv --reuid alice --regid 20010 --init-groups klist")
