"""Walk the layers of the service on the hub's machine, and say which is broken and what to do.

`playbooks/doctor.yml` runs it as root, with what the inventory says as JSON on standard input:
`python -m jupyterhub_sessions.doctor`. The layers come in the order of their causes, so the first that is broken is
where to begin. Each look is bounded, as what is broken may be silent. Nothing is changed, but for the session that is
started where that is asked for, which is gone afterwards.
"""

from __future__ import annotations

import asyncio
import datetime
import http.client
import json
import os
import pwd
import re
import shlex
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pamela
import sqlalchemy
from cryptography import x509
from sqlalchemy.exc import SQLAlchemyError

from . import pam, probe, units, unix_http
from .check_database import problem as database_problem
from .homes import HomeError, NetworkHomes
from .spawner import unit_name
from .stacks import Availability

SECRETS = Path("/etc/jupyterhub/secrets.json")
HUB_SOCKET = Path("/run/jupyterhub/hub.sock")
PROXY_SOCKET = Path("/run/chp/public/proxy.sock")
CHECK_DIRECTORY = Path("/usr/local/sbin/check-directory")
CHECK_EOS = Path("/usr/local/sbin/check-eos")
#: What must have room: the system, the state, what is logged, sockets and temporary files.
PLACES = ("/", "/var/lib/jupyterhub", "/var/log", "/tmp", "/run")  # noqa: S108 (looked at, not used)
ROOM_BYTES, ROOM_FILES = 100 * 2**20, 1000
#: Kerberos tolerates 300 s between any two machines (RFC 4120, section 5.2.7.2), and the way of the time takes some.
CLOCK_SECONDS = 120.0
ANSWER_SECONDS = 10.0
#: A first look mounts what it looks at.
MOUNT_SECONDS = 25.0
#: A layer that takes longer is broken, whatever it is waiting for.
LAYER_SECONDS = 100.0
SESSION_SECONDS = 300.0


class BrokenError(Exception):
    """A layer is broken: what was found, and what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy


class AbsentError(Exception):
    """There is no such layer here; the message says why."""


@dataclass(frozen=True)
class Layer:
    """How a layer is.

    Parameters
    ----------
    name
        Its name.
    state
        `ok`, `BROKEN`, `not tried` (for what it needs is broken) or `not here`.
    found
        What was found.
    remedy
        What to do where it is broken.
    """

    name: str
    state: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Site:
    """What the inventory says.

    Parameters
    ----------
    now
        Time of the control node in seconds since 1970; 0 for none.
    names, port, tls
        `nginx_server_names`, `nginx_https_port` and `nginx_tls`.
    user
        Account to ask for; empty for none.
    spawn
        Whether a session is started as that account.
    kinds, named_servers
        `jupyterhub_kinds`, and how many sessions with a name a user may have.
    repositories
        `cvmfs_repositories` of this machine.
    eos
        Directories below /eos of this machine.
    home_template, home_seconds
        Where homes are that are in EOS, and how long they may take to answer; no template for homes on this machine.
    """

    now: float = 0.0
    names: Sequence[str] = ("localhost",)
    port: int = 443
    tls: str = "self_signed"
    user: str = ""
    spawn: bool = False
    kinds: Sequence[str] = ("lab",)
    named_servers: int = 0
    repositories: Sequence[str] = ()
    eos: Sequence[str] = ()
    home_template: str = ""
    home_seconds: float = 10.0

    @property
    def address(self) -> str:
        """Return the address of the service on this machine."""
        return f"https://127.0.0.1:{self.port}"

    def account(self) -> str:
        """Return the account to ask for."""
        if not self.user:
            raise AbsentError("no doctor_probe_user")
        return self.user


async def output(command: Sequence[str], seconds: float) -> str:
    """Return all that a program prints, whatever its exit status; TimeoutError when it takes longer."""
    done = await units.run(command, seconds, os.environ | {"LC_ALL": "C"})
    return done.out + done.err


async def describe_unit(unit: str) -> str:
    """Say in what state a unit is, with the last line of its log."""
    state = await units.show(unit)
    if state.load == "not-found":
        return f"There is no {unit}"
    text = f"{unit} is {state.active}" + (f" ({state.result})" if state.result != "success" else "")
    lines = (await units.journal(state.invocation, 1)).strip().splitlines()
    return text + (f", its log ends: {lines[-1]}" if lines else "")


def service_remedy(unit: str) -> str:
    """Say what to do with a unit that does not answer."""
    return f"`systemctl restart {unit}` on the hub's machine; `journalctl -u {unit}` tells why it ended or hangs."


def split_advice(text: str) -> BrokenError:
    """Divide what our checkers say: the last sentence is the remedy."""
    found, separator, remedy = text.strip().rstrip(".").rpartition(". ")
    return BrokenError(found if separator else remedy, remedy + "." if separator else "Do what the layer's line says.")


@dataclass
class Doctor:
    """Looks at one layer after the other.

    Parameters
    ----------
    site
        What the inventory says.
    """

    site: Site
    student: probe.Student | None = None
    token: int = 0
    availability: Availability = field(default_factory=Availability)

    # -- the machine --------------------------------------------------------------------------------------------------

    async def clock(self) -> str:
        """Compare the machine's time with the control node's."""
        if not self.site.now:
            raise AbsentError("no other clock to compare with")
        difference = time.time() - self.site.now
        if abs(difference) > CLOCK_SECONDS:
            way = "ahead of" if difference > 0 else "behind"
            raise BrokenError(
                f"The clock is {abs(difference):.0f} s {way} the control node's",
                "Have both follow a time server: `timedatectl` on each tells the time and whether it is synchronised."
                " Certificates, Kerberos and logins depend on it.",
            )
        return f"{abs(difference):.0f} s from the control node's"

    async def disk(self) -> str:
        """Look for room on the file systems that the service writes to."""
        rooms, seen = [], set()
        for place in PLACES:
            try:
                device, at = os.stat(place).st_dev, os.statvfs(place)
            except FileNotFoundError:
                continue
            if device in seen:
                continue
            seen.add(device)
            free, size = at.f_bavail * at.f_frsize, at.f_blocks * at.f_frsize
            if at.f_flag & os.ST_RDONLY:
                raise BrokenError(
                    f"The file system of {place} is read-only",
                    "`dmesg` tells why; check it (fsck) and mount it again for writing.",
                )
            if free < min(ROOM_BYTES, size / 20) or (at.f_files and at.f_favail < ROOM_FILES):
                raise BrokenError(
                    f"The file system of {place} is full: {free >> 20} MiB and {at.f_favail} files are left",
                    f"Free room: `du -xh --max-depth=3 {place} | sort -h | tail` shows who uses it,"
                    " `journalctl --vacuum-size=200M` empties the journal. Then restart what ended.",
                )
            rooms.append(f"{place} {free / 2**30:.1f} GiB free")
        return ", ".join(rooms)

    async def dns(self) -> str:
        """Look the service's names up."""
        found = []
        for name in self.site.names:
            try:
                entries = await asyncio.wait_for(
                    asyncio.get_running_loop().getaddrinfo(name, self.site.port, type=socket.SOCK_STREAM),
                    ANSWER_SECONDS,
                )
            except TimeoutError:
                raise BrokenError(
                    f"The name servers do not answer for {name}", "Check /etc/resolv.conf and the name servers in it."
                ) from None
            except OSError as error:
                raise BrokenError(
                    f"{name} is not known ({error.strerror})",
                    f"Enter {name} into DNS, or correct nginx_server_names; /etc/resolv.conf names the servers asked.",
                ) from None
            found.append(f"{name} is {entries[0][4][0]}")
        return ", ".join(found)

    # -- the way in ---------------------------------------------------------------------------------------------------

    def _certificate(self) -> bytes:
        context = ssl.create_default_context()
        # Also one that has expired is looked at.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.site.port), timeout=ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=self.site.names[0]) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    async def web_server(self) -> str:
        """Shake hands with nginx."""
        try:
            await asyncio.to_thread(self._certificate)
        except OSError as error:
            raise BrokenError(
                f"Port {self.site.port} does not answer ({error}). {await describe_unit('nginx.service')}",
                "`nginx -t` on the hub's machine tells whether its configuration is right. "
                + service_remedy("nginx.service"),
            ) from None
        return f"nginx answers on port {self.site.port}"

    async def tls(self) -> str:
        """Look at the certificate's time and names."""
        certificate = x509.load_der_x509_certificate(await asyncio.to_thread(self._certificate))
        now = datetime.datetime.now(datetime.UTC)
        renew = {
            "acme": "`certbot renew` on the hub's machine renews it or tells why not; `systemctl status certbot.timer`"
            " should do so by itself.",
            "files": "Give one that is valid in nginx_tls_certificate and nginx_tls_key, and run"
            " `site.yml --tags nginx`.",
            "self_signed": "Remove /etc/nginx/tls/certificate.pem on the hub's machine and run `site.yml --tags nginx`,"
            " which makes a new one.",
        }[self.site.tls]
        end = certificate.not_valid_after_utc
        if now > end:
            raise BrokenError(f"The certificate expired on {end:%Y-%m-%d %H:%M} UTC", renew)
        if now < certificate.not_valid_before_utc:
            raise BrokenError(
                f"The certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on",
                "Check the clock of the hub's machine. " + renew,
            )
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            known = names.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            known = []
        missing = [name for name in self.site.names if not {name, f"*.{name.partition('.')[2]}"} & set(known)]
        if missing:
            raise BrokenError(
                f"The certificate is for {', '.join(known) or 'no name'}, not for {', '.join(missing)}", renew
            )
        return f"the certificate is valid for {(end - now).days} more days"

    async def proxy(self) -> str:
        """Have the proxy answer, whatever it says."""
        return await self._answers(PROXY_SOCKET, "chp.service")

    async def database(self) -> str:
        """Read the hub's database."""
        try:
            url = json.loads(SECRETS.read_text())["db_url"]
        except (OSError, ValueError, KeyError) as error:
            raise BrokenError(f"{SECRETS} cannot be read: {error}", "Run site.yml.") from None
        found = await asyncio.to_thread(_database, url)
        return f"{found} users"

    async def hub(self) -> str:
        """Have the hub answer on its socket."""
        return await self._answers(HUB_SOCKET, "jupyterhub.service", good=200)

    async def _answers(self, path: Path, unit: str, good: int = 0) -> str:
        try:
            status = await asyncio.to_thread(unix_http.status, path, "/hub/health", ANSWER_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            found = f"{path} does not answer ({error or type(error).__name__}). {await describe_unit(unit)}"
            raise BrokenError(found, service_remedy(unit)) from None
        if good and status != good:
            raise BrokenError(f"{path} answers with {status}. {await describe_unit(unit)}", service_remedy(unit))
        return f"{unit.removesuffix('.service')} answers"

    async def way_in(self) -> str:
        """Get a page of the hub's as a browser does."""

        def get() -> int:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.site.port, timeout=ANSWER_SECONDS, context=context
            )
            try:
                connection.request("GET", "/hub/health", headers={"Host": self.site.names[0]})
                return connection.getresponse().status
            finally:
                connection.close()

        try:
            status: object = await asyncio.to_thread(get)
        except (OSError, http.client.HTTPException) as error:
            status = error
        if status != 200:
            raise BrokenError(
                f"Web server, proxy and hub answer, but {self.site.address}/hub/health answers with {status}",
                "/var/log/nginx/error.log and `journalctl -u chp` on the hub's machine tell where it ends; running"
                " `site.yml --tags chp,jupyterhub,nginx` again puts their settings right.",
            )
        return "a page of the hub comes through web server and proxy"

    # -- accounts -----------------------------------------------------------------------------------------------------

    async def directory(self) -> str:
        """Try the way to the directory."""
        if not CHECK_DIRECTORY.exists():
            raise AbsentError("not in the group sssd")
        text = await output([str(CHECK_DIRECTORY), self.site.account()], LAYER_SECONDS - 10)
        failed = re.search(r"^FAILED +(.*)", text, re.MULTILINE)
        if failed:
            raise split_advice(failed[1])
        if not re.search(r"^ok ", text, re.MULTILINE):
            raise BrokenError(f"check-directory says: {' '.join(text.split())}", "Run `site.yml --tags sssd`.")
        return f"it answers, and knows {self.site.user}"

    async def pam(self) -> str:
        """Ask whether an account may log in, without its password."""
        user = self.site.account()
        try:
            await asyncio.to_thread(pwd.getpwnam, user)
        except KeyError:
            raise BrokenError(
                f"The machine does not know the account {user}",
                "`getent passwd` and `systemctl status sssd` on the hub's machine tell more; or set doctor_probe_user"
                " to an account that always exists.",
            ) from None
        try:
            answer = await asyncio.to_thread(pam.ask, "jupyterhub", user)
        except pamela.PAMError as error:
            raise BrokenError(f"PAM does not answer: {error}", "Run `site.yml --tags jupyterhub`.") from None
        if answer.code is not pam.Code.SUCCESS:
            raise BrokenError(
                f"{user} may not log in: {answer}",
                "The account has expired, or sssd_allowed_groups leaves it out; `journalctl --since=-5min` on the hub's"
                " machine has what the modules said.",
            )
        return f"{user} may log in"

    # -- mounts -------------------------------------------------------------------------------------------------------

    async def cvmfs(self) -> str:
        """Look into each repository, and ask its servers: what is cached is there without them."""
        if not self.site.repositories:
            raise AbsentError("not in the group cvmfs")
        paths = {name: f"/cvmfs/{name}/." for name in self.site.repositories}
        there = await asyncio.to_thread(self.availability.wait, list(paths.values()), MOUNT_SECONDS)
        for name, path in paths.items():
            text = await output(["cvmfs_config", "showconfig", name], ANSWER_SECONDS)
            why = await asyncio.to_thread(_manifest_problem, _settings(text))
            if not there[path] or why:
                how = "goes on from its cache" if there[path] else "is not there"
                raise BrokenError(
                    f"/cvmfs/{name} {how}: {why or 'its servers answer, but it is not mounted'}",
                    "Check the server, the way to it and cvmfs_http_proxy; `cvmfs_config chksetup` and `journalctl -u"
                    " autofs` on the hub's machine tell more.",
                )
        return f"{', '.join(paths)}: mounted, servers answer"

    async def eos(self) -> str:
        """Try the way to EOS, and look at what is mounted."""
        if not self.site.eos:
            raise AbsentError("not in the group eos")
        if CHECK_EOS.exists():
            failed = re.search(r"^FAILED +(.*)", await output([str(CHECK_EOS)], LAYER_SECONDS - 40), re.MULTILINE)
            if failed:
                raise split_advice(failed[1])
        paths = [f"/eos/{name}" for name in self.site.eos]
        there = await asyncio.to_thread(self.availability.wait, paths, MOUNT_SECONDS)
        for path in paths:
            if not there[path]:
                raise BrokenError(
                    f"The server answers, but {path} does not",
                    "`journalctl -t mount.eos` and `systemctl list-units 'eos-*'` on the hub's machine tell why;"
                    " `systemctl restart autofs` mounts it anew.",
                )
        return f"{', '.join(paths)}: mounted"

    async def home(self) -> str:
        """Look for a home in EOS as a start does."""
        if not self.site.home_template:
            raise AbsentError("homes are on this machine")
        try:
            account = pwd.getpwnam(self.site.account())
        except KeyError:
            raise BrokenError(f"The machine does not know {self.site.user}", "See the layer PAM.") from None
        homes = NetworkHomes(self.site.home_template, Path("/nonexistent"), seconds=self.site.home_seconds)
        try:
            missing = await homes.missing(account)
        except HomeError as error:
            raise BrokenError(
                str(error), "`check-eos` on the hub's machine tells more; see README, Connect EOS."
            ) from None
        return f"{account.pw_name} has {'none yet' if missing else 'one'}"

    # -- a session ----------------------------------------------------------------------------------------------------

    async def session(self) -> str:
        """Start a session."""
        if not self.site.spawn:
            raise AbsentError("doctor_spawn is false")
        if not self.site.named_servers:
            raise AbsentError("jupyterhub_named_servers_per_user is 0")
        user = self.site.account()
        kind = next((kind for kind in self.site.kinds if kind != "desktop"), "")
        if not kind:
            raise AbsentError("only desktops are on offer")
        try:
            token, self.token = await asyncio.to_thread(
                probe.make_token, json.loads(SECRETS.read_text())["db_url"], user
            )
            self.student = probe.Student(self.site.address, user, token)
            seconds = await asyncio.to_thread(self.student.start, kind)
        except (probe.ProbeError, SQLAlchemyError) as error:
            raise BrokenError(
                f"{user} gets no session. {error}",
                f"`journalctl -u '{unit_name(user, probe.SERVER)}' -u jupyterhub` on the hub's machine tells why.",
            ) from None
        return f"{user} has one after {seconds:.0f} s"

    def _student(self) -> probe.Student:
        if self.student is None:
            raise AbsentError("no session was started")
        return self.student

    async def kernel(self) -> str:
        """Run a cell in the session."""
        student = self._student()
        try:
            printed = await student.run_cell("print(6 * 7)")
        except probe.ProbeError as error:
            raise BrokenError(str(error), "`site.yml --tags jupyterlab` puts the users' environment right.") from None
        if printed != "42":
            raise BrokenError(f"6 * 7 is {printed!r}", "Look at what replaces Python's print in this environment.")
        return "a cell runs"

    async def display(self) -> str:
        """Open a display in the session."""
        try:
            found = await asyncio.to_thread(self._student().open_display)
        except probe.ProbeError as error:
            raise BrokenError(str(error), "`site.yml --tags xpra,jupyter_xpra` puts the displays right.") from None
        if not found:
            raise AbsentError("not in the group xpra")
        return found

    def clean_up(self) -> None:
        """End the session and take the token back."""
        if self.student is None:
            return
        try:
            self.student.stop()
            self.student.forget_token(self.token)
        except probe.ProbeError as error:
            print(f"Left over: {error}", file=sys.stderr)

    # -- all of them --------------------------------------------------------------------------------------------------

    def layers(self) -> list[tuple[str, Callable[[], Awaitable[str]], Sequence[str]]]:
        """List the layers in the order of their causes: name, look, and which layers it needs."""
        return [
            ("clock", self.clock, ()),
            ("disk", self.disk, ()),
            ("DNS", self.dns, ()),
            ("web server", self.web_server, ()),
            ("TLS", self.tls, ["web server"]),
            ("proxy", self.proxy, ()),
            ("database", self.database, ()),
            ("hub", self.hub, ()),
            ("way in", self.way_in, ["web server", "proxy", "hub"]),
            ("directory", self.directory, ()),
            ("PAM", self.pam, ()),
            ("CVMFS", self.cvmfs, ()),
            ("EOS", self.eos, ()),
            ("home", self.home, ["EOS"]),
            ("session", self.session, ["way in"]),
            ("kernel", self.kernel, ["session"]),
            ("display", self.display, ["session"]),
        ]

    async def examine(self) -> list[Layer]:
        """Look at all layers."""
        found: list[Layer] = []
        for name, look, needs in self.layers():
            bad = [layer.name for layer in found if layer.name in needs and layer.state in {"BROKEN", "not tried"}]
            if bad:
                found.append(Layer(name, "not tried", f"needs {bad[0]}"))
                continue
            try:
                text = await asyncio.wait_for(look(), SESSION_SECONDS if name == "session" else LAYER_SECONDS)
                found.append(Layer(name, "ok", text))
            except BrokenError as error:
                found.append(Layer(name, "BROKEN", error.found, error.remedy))
            except AbsentError as error:
                found.append(Layer(name, "not here", str(error)))
            except TimeoutError:
                found.append(Layer(name, "BROKEN", "It does not answer", f"Look at what the layer {name} waits for."))
            except Exception as error:  # the doctor must not fall ill where the patient is
                found.append(
                    Layer(name, "BROKEN", f"It could not be looked at: {error!r}", "Run site.yml, and look again.")
                )
        return found


def _database(url: str) -> int:
    """Return how many users a hub's database has."""
    parsed = sqlalchemy.make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    restore = "Mend it, or restore a backup (README, Back up and restore)."
    # Looking would make the file.
    if sqlite and not (Path("/var/lib/jupyterhub") / str(parsed.database)).exists():
        raise BrokenError(f"There is no {parsed.database}", restore)
    found = database_problem(url)
    if found:
        raise split_advice(found)
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            if sqlite:
                said = connection.execute(sqlalchemy.text("PRAGMA quick_check(1)")).scalar_one()
                if said != "ok":
                    raise BrokenError(f"The database is damaged: {said}", restore)
            return int(connection.execute(sqlalchemy.text("SELECT count(*) FROM users")).scalar_one())
    except SQLAlchemyError as error:
        raise BrokenError(f"The database cannot be read: {getattr(error, 'orig', None) or error}", restore) from None


def _settings(text: str) -> dict[str, str]:
    """Read what `cvmfs_config showconfig` prints: NAME='value'    # from FILE."""
    found = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and name.startswith("CVMFS_"):
            try:
                found[name] = " ".join(shlex.split(value, comments=True))
            except ValueError:
                continue
    return found


def _manifest_problem(settings: dict[str, str]) -> str:
    """Say why no server of a repository gives its manifest; empty where one does."""
    servers = re.split("[;,]", settings.get("CVMFS_SERVER_URL", ""))
    proxies = re.split("[;|]", settings.get("CVMFS_HTTP_PROXY", ""))
    why = "no server is set"
    for server in filter(None, servers):
        for proxy in filter(None, proxies):
            # Whether there is a proxy at all, `auto` asks the network.
            if proxy == "auto":
                continue
            handler = urllib.request.ProxyHandler({} if proxy == "DIRECT" else {"http": proxy, "https": proxy})
            try:
                with urllib.request.build_opener(handler).open(f"{server}/.cvmfspublished", timeout=6.0):
                    return ""
            except (urllib.error.URLError, OSError, ValueError) as error:
                why = f"{server} by {proxy} does not answer ({getattr(error, 'reason', None) or error})"
    return why if "auto" not in proxies else ""


def report(layers: Sequence[Layer]) -> str:
    """Put the layers on one screen, with what to do at the end."""
    lines = [
        f"{layer.state:7} {layer.name:11} {' '.join(layer.found.split())}"
        for layer in layers
        if layer.state in {"ok", "BROKEN"}
    ]
    for state in ("not tried", "not here"):
        left = [f"{layer.name} ({layer.found})" for layer in layers if layer.state == state]
        if left:
            lines.append(f"{state + ':':10} {', '.join(left)}")
    broken = [layer for layer in layers if layer.state == "BROKEN"]
    if broken:
        first = broken[0]
        more = (
            f" Then look again: {', '.join(layer.name for layer in broken[1:])} may follow from it."
            if broken[1:]
            else ""
        )
        lines.append(f"Broken: {first.name}. {first.remedy}{more}")
    else:
        lines.append("Nothing is broken.")
    return "\n".join(lines)


def main() -> int:
    """Read what the inventory says, look, print, and return 1 where something is broken."""
    doctor = Doctor(Site(**json.load(sys.stdin)))
    # Not asyncio.run, which waits for threads: one that looks at silent storage must not hold the program's end.
    loop = asyncio.new_event_loop()
    try:
        layers = loop.run_until_complete(doctor.examine())
    finally:
        doctor.clean_up()
    print(report(layers), flush=True)
    return int(any(layer.state == "BROKEN" for layer in layers))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Nor does Python's own end wait for them.
    os._exit(status)
