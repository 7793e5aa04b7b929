"""The faults that one machine has to bear: what strikes, what mends it, and what must be left."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from testing import EXPIRE, HOG, PROJECT, Browserless, Service, Vms, reboot

#: Where the table is written.
TABLE = PROJECT / "build" / "faults.json"
TLS = "/etc/nginx/tls"


@dataclass
class Machines:
    """What a fault strikes.

    Parameters
    ----------
    vms
        All of them.
    hub, campus
        Root's shells.
    service
        The public side.
    other
        A student with a session of the own, whose kernel some faults use.
    """

    vms: Vms
    hub: Any
    campus: Any
    service: Service
    other: Browserless


@dataclass(frozen=True)
class Fault:
    """A fault, and what is left of a session when it is over.

    Parameters
    ----------
    name
        In the table.
    strike
        Bring it about; it returns when the fault is there, or over.
    mend
        End it, where it lasts: what an administrator or the student would do.
    keeps
        What must be left of the session of a student who has nothing to do with it: `kernel` with its variables,
        `server` with another kernel, or `nothing`, where the machine itself went off.
    seconds
        After which all must be back.
    """

    name: str
    strike: Callable[[Machines], None]
    mend: Callable[[Machines], None] | None = None
    keeps: str = "kernel"
    seconds: float = 180.0


def _kill(unit: str) -> Callable[[Machines], None]:
    return lambda on: on.hub.check_output(f"systemctl kill --kill-whom=main --signal=KILL {unit}")


def _restart(unit: str) -> Callable[[Machines], None]:
    return lambda on: on.hub.check_output(f"systemctl restart {unit}")


def _shell(command: str) -> Callable[[Machines], None]:
    return lambda on: on.hub.check_output(command)


def _power_cut(on: Machines) -> None:
    on.vms.disconnect()
    on.vms.run("power-cut", "hub")
    on.vms.run("start", "hub")


#: Ends at what it may take, whatever that is, and stays there.
_FILES = """
import os
kept = []
try:
    while len(kept) < 10_000:
        kept += os.pipe()
except OSError as error:
    print(error.strerror)
print(len(kept))
"""
_BOMB = """
import subprocess
bomb = subprocess.Popen(["bash", "-c", "f() { f | f & }; f"], start_new_session=True)
"""
_FULL_HOME = """
import pathlib
try:
    with (pathlib.Path.home() / "fill").open("wb") as file:
        while True:
            file.write(bytes(2**16))
            file.flush()
except OSError as error:
    print(error.strerror)
"""


def _in_kernel(code: str) -> Callable[[Machines], None]:
    """Have the other student run this, and see how it goes for some seconds."""

    def strike(on: Machines) -> None:
        on.other.ensure()
        on.other.kernel().run(code, 300)
        time.sleep(10)

    return strike


def _stop_other(on: Machines) -> None:
    on.other.stop()


def _fill_home(on: Machines) -> None:
    """Give the other student a home of 16 MB, and fill it."""
    home = f"~{on.other.user}"
    on.other.stop()
    on.hub.check_output(
        f"mount -t tmpfs -o size=16m,mode=0700,uid=$(id -u {on.other.user}),gid=$(id -g {on.other.user}) home {home}"
    )
    on.other.ensure()
    kernel = on.other.kernel()
    assert "No space left" in kernel.output(_FULL_HOME, 120)
    # What cannot be saved is said, at once, and the server goes on.
    body = {"type": "file", "format": "text", "content": "x" * 2**18}
    answer = on.other.api("contents/lost.txt", "PUT", json=body)
    assert answer.status_code == 500 and answer.json()["message"], answer.text
    assert kernel.output("print(1)") == "1"


def _free_home(on: Machines) -> None:
    on.hub.check_output(f"rm ~{on.other.user}/fill")
    body = {"type": "file", "format": "text", "content": "x" * 2**18}
    answer = on.other.api("contents/kept.txt", "PUT", json=body)
    assert answer.status_code == 201, answer.text
    on.other.stop()
    on.hub.check_output(f"umount ~{on.other.user}")


_SILENT_DNS = """
import signal, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.53", 53))
signal.pause()
"""


def _take_dns(on: Machines) -> None:
    """Have a name server that never answers, which is worse than none."""
    on.hub.check_output("systemd-run --unit=silent-dns python3 -c %s", _SILENT_DNS)
    on.hub.check_output("cp /etc/resolv.conf /root/resolv.conf && echo nameserver 127.0.0.53 > /etc/resolv.conf")


def _expire_certificate(on: Machines) -> None:
    on.hub.check_output(f"cp -p {TLS}/certificate.pem /root/")
    on.hub.check_output("/opt/cygnet/jupyterhub/bin/python -c %s && systemctl reload nginx", EXPIRE)
    # A browser refuses it, as it should.
    try:
        on.service.get("/hub/login")
    except requests.exceptions.SSLError:
        return
    raise AssertionError("The expired certificate is taken for a good one.")


def _renew_certificate(on: Machines) -> None:
    on.hub.check_output(f"cp -p /root/certificate.pem {TLS}/ && systemctl reload nginx")


def _mend_dns(on: Machines) -> None:
    on.hub.check_output("cp /root/resolv.conf /etc/resolv.conf && systemctl stop silent-dns")


FAULTS = [
    *(Fault(f"kill -9 of {unit}", _kill(unit)) for unit in ("jupyterhub", "chp", "nginx")),
    *(Fault(f"restart of {unit}", _restart(unit)) for unit in ("jupyterhub", "chp", "nginx")),
    Fault("kill -9 of a session's server", _kill("jupyter-alice"), keeps="nothing"),
    Fault("kill -9 of a kernel", _shell("pkill --signal KILL --uid alice --full ipykernel"), keeps="server"),
    Fault("reboot", lambda on: reboot(on.vms, on.hub), keeps="nothing", seconds=400),
    Fault("power cut", _power_cut, keeps="nothing", seconds=400),
    Fault(
        "system disk full",
        # What root may still write to is left for root; the hub runs as an ordinary user.
        _shell("dd if=/dev/zero of=/var/fill bs=1M status=none; sync; [ $(df --output=avail / | tail -n 1) = 0 ]"),
        _shell("rm /var/fill"),
    ),
    Fault("home of a student full", _fill_home, _free_home),
    Fault("memory exhausted by a student", _in_kernel(HOG), _stop_other),
    Fault("fork bomb of a student", _in_kernel(_BOMB), _stop_other),
    Fault("10,000 files opened by a student", _in_kernel(_FILES), _stop_other),
    Fault("clock an hour ahead", _shell("date --set='+1 hour'"), _shell("date --set='-1 hour'")),
    Fault("no name server", _take_dns, _mend_dns),
    Fault("certificate expired", _expire_certificate, _renew_certificate),
]


@dataclass
class Record:
    """What the tries of a fault gave."""

    tries: int = 0
    recovery_s: list[float] = field(default_factory=list)

    def survived(self, since: float) -> None:
        """Note that all is back, `since` being when the fault was over (time.monotonic)."""
        self.recovery_s.append(time.monotonic() - since)


def write_table(records: dict[str, Record], path: Path = TABLE) -> str:
    """Write the rows of this run in place of those of the same faults; return all as Markdown.

    `recovery_s` is the median of the tries that were survived, in seconds, null if there was none.
    """
    rows = {row["fault"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    for name, record in records.items():
        seconds = round(statistics.median(record.recovery_s), 1) if record.recovery_s else None
        rows[name] = {
            "fault": name, "tries": record.tries, "survived": len(record.recovery_s), "recovery_s": seconds,
        }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(rows.values()), indent=2) + "\n")
    lines = ["| fault | tries | survived | back after |", "|---|--:|--:|--:|"]
    for row in rows.values():
        back = "" if row["recovery_s"] is None else f"{row['recovery_s']:.1f} s"
        lines.append(f"| {row['fault']} | {row['tries']} | {row['survived']} | {back} |")
    return "\n".join(lines)
