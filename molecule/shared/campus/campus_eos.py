#!/usr/bin/python3
"""Give the campus homes as EOS has them: an XRootD server that says who may read and write what.

Installed beside campus_ctl.py, runs as root after it. EOS itself is an XRootD server; what matters to its clients is
the same here: the protocol, keys of a shared secret (sss), rights by user, and homes in /eos/user/<letter>/<user>.
"""

from __future__ import annotations

import hashlib
import json
import pwd
import sys
from pathlib import Path

from campus_ctl import SERVICES, STATE, active, install_packages, run

PACKAGES = ("xrootd-client", "xrootd-server")
ROOT = STATE / "eos"
HOMES = ROOT / "eos/user"
#: Of the machines: with it they name the user for whom they ask.
KEYTAB = STATE / "keytabs/eos.keytab"
#: Of the administrator who makes homes.
ADMIN_KEYTAB = STATE / "keytabs/eos-admin.keytab"
ADMIN = "eosadmin"
STAMP = STATE / "eos.sha256"

SERVER_KEYTAB = Path("/etc/xrootd/eos.keytab")
AUTHDB = Path("/etc/xrootd/eos.authdb")
# nolock as in EOS: otherwise a file that somebody has just written and closed is refused to its next reader for a
# moment.
CONFIGURATION = f"""\
all.export /eos/user nolock
oss.localroot {ROOT}
xrd.port 1094
xrootd.seclib libXrdSec.so
sec.protocol sss -s {SERVER_KEYTAB}
sec.protbind * only sss
acc.authdb {AUTHDB}
ofs.authorize 1
"""


def home(user: str) -> str:
    """Name a user's home."""
    return f"/eos/user/{user[0]}/{user}"


def rights(users: list[str]) -> str:
    """Write who may what.

    The letters are there for all, as the way to the homes; in a list the first path that fits decides, so that below a
    letter nothing is left but a right that does nothing (k, a lock).
    """
    letters = sorted({user[0] for user in users})
    lines = [f"u * {' '.join(f'/eos/user/{letter}/ k' for letter in letters)} /eos/user l", f"u {ADMIN} /eos/user a"]
    lines += [f"u {user} {home(user)} a" for user in users]
    return "\n".join(lines) + "\n"


def make_keytabs() -> None:
    """Make the keys, once: machines hold them already."""
    if ADMIN_KEYTAB.exists():
        return
    # Into one file, as their numbers would be the same in two that are made within a second.
    SERVER_KEYTAB.unlink(missing_ok=True)
    for name, user in (("machines", "anybody"), ("homes", ADMIN)):
        run("xrdsssadmin", "-k", name, "-u", user, "-g", "usrgroup", "add", str(SERVER_KEYTAB), stdin="y\n")
    run("chown", "xrootd:xrootd", str(SERVER_KEYTAB))
    lines = SERVER_KEYTAB.read_text().splitlines(keepends=True)
    for name, keytab in (("machines", KEYTAB), ("homes", ADMIN_KEYTAB)):
        keytab.write_text("".join(line for line in lines if f"n:{name}" in line.split()))
        keytab.chmod(0o600)


def setup() -> None:
    """Make the server and the homes that standard input names; say "changed" if it was not so already."""
    text = sys.stdin.read()
    stamp = hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()
    seeded = STAMP.exists() and STAMP.read_text() == stamp
    if seeded and all(active(unit) for unit in SERVICES["eos"]):
        return
    if not seeded:
        seed = json.loads(text)
        install_packages(PACKAGES)
        make_keytabs()
        AUTHDB.write_text(rights(seed["users"]))
        Path("/etc/xrootd/xrootd-eos.cfg").write_text(CONFIGURATION)
        for directory in [
            *(HOMES / user[0] for user in seed["users"]),
            *(ROOT / home(user)[1:] for user in seed["homes"]),
        ]:
            directory.mkdir(parents=True, exist_ok=True)
        account = pwd.getpwnam("xrootd")
        run("chown", "-R", f"{account.pw_uid}:{account.pw_gid}", str(ROOT))
    run("systemctl", "enable", *SERVICES["eos"])
    run("systemctl", "restart", *SERVICES["eos"])
    STAMP.write_text(stamp)
    print("changed")


if __name__ == "__main__":
    setup()
