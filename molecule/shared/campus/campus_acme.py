#!/usr/bin/python3
"""Give the campus an ACME server, https://campus.example.org:14000/dir: Pebble, which Let's Encrypt made for tests.

Its own CA, new with each start, is at https://campus.example.org:15000/roots/0. Installed beside campus_ctl.py, runs as
root after it.
"""

from __future__ import annotations

import json
from pathlib import Path

from campus_ctl import SERVICES, TLS, active, install_packages, run

UNIT = """\
[Service]
# The server refuses nonces and delays validations at random, to exercise clients. The second only costs time here, and
# Debian 12's certbot, which tries a refused nonce once more, ends on the second refusal with an error of its own.
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
ExecStart=pebble -config /etc/pebble.json
"""


def setup() -> None:
    """Make the server; say "changed" if it was not there already."""
    units = SERVICES["acme"]
    install_packages(["pebble"])
    if all(active(unit) for unit in units):
        return
    server = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": f"{TLS}/cert.pem",
        "privateKey": f"{TLS}/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
    }
    Path("/etc/pebble.json").write_text(json.dumps({"pebble": server}))
    Path("/etc/systemd/system/pebble.service").write_text(UNIT)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", *units)
    print("changed")


if __name__ == "__main__":
    setup()
