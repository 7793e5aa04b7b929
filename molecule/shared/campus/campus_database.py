#!/usr/bin/python3
"""Give the campus a database server: PostgreSQL with one database, whose owner comes in over the network by TLS.

Installed beside campus_ctl.py, runs as root after it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from campus_ctl import SERVICES, active, install_packages, run


def sql(statement: str) -> str:
    """Ask the server as its administrator."""
    return run("runuser", "-u", "postgres", "--", "psql", "--quiet", "--tuples-only", "--no-align", stdin=statement)


def setup() -> None:
    """Make the database that standard input describes; say "changed" if it was not there already."""
    wanted = json.loads(sys.stdin.read())
    user, database = wanted["user"], wanted["database"]
    units = SERVICES["database"]
    install_packages(["postgresql"])
    (configuration,) = Path("/etc/postgresql").glob("*/main")
    settings = configuration / "conf.d/campus.conf"
    if settings.exists() and all(active(unit) for unit in units):
        return
    settings.write_text("listen_addresses = '*'\n")
    rules = configuration / "pg_hba.conf"
    rules.write_text(f"{rules.read_text()}hostssl {database} {user} samenet scram-sha-256\n")
    run("systemctl", "restart", *units)
    sql(f"CREATE ROLE {user} LOGIN PASSWORD '{wanted['password']}'; CREATE DATABASE {database} OWNER {user};")
    print("changed")


if __name__ == "__main__":
    setup()
