#!/usr/bin/python3
"""Give the campus a name server (dnsmasq) that says where the directory and the realm are, as FreeIPA's and AD's do.

Installed beside campus_ctl.py, runs as root after it.
"""

from __future__ import annotations

from pathlib import Path

from campus_ctl import REALM, SERVICES, active, install_packages, run

DOMAIN = REALM.lower()
# Other names it takes from /etc/hosts, and from the server that this machine asks.
CONFIGURATION = f"""\
bind-dynamic
srv-host=_ldap._tcp.{DOMAIN},ldap.{DOMAIN},389
srv-host=_kerberos._udp.{DOMAIN},kdc.{DOMAIN},88
srv-host=_kerberos._tcp.{DOMAIN},kdc.{DOMAIN},88
"""


def setup() -> None:
    """Make the server; say "changed" if it was not there already."""
    install_packages(["dnsmasq"])
    if all(active(unit) for unit in SERVICES["dns"]):
        return
    Path("/etc/dnsmasq.d/campus.conf").write_text(CONFIGURATION)
    run("systemctl", "restart", *SERVICES["dns"])
    print("changed")


if __name__ == "__main__":
    setup()
