"""What the machine tests of all scenarios share: the VMs' shells, a user without a browser, and a kernel's client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import testinfra  # type: ignore[import-untyped]
import tornado.httpclient
import tornado.websocket
import yaml
from molecule.interpolation import Interpolator, TemplateWithDefaults

PROJECT = Path(__file__).parents[2]
ACCOUNTS: dict[str, dict[str, Any]] = {
    account["user"]: account
    for account in yaml.safe_load((Path(__file__).parent / "accounts.yml").read_text())["accounts"]
}
#: Those of the directory on the VM campus.
PEOPLE: dict[str, dict[str, Any]] = {
    person["user"]: person
    for person in yaml.safe_load((Path(__file__).parent / "campus/people.yml").read_text())["people"]
}
#: A cell that takes all memory: random bytes, lest pages are shared; in steps, as one large request would be refused.
HOG = """
import os
kept = []
while True:
    kept.append(os.urandom(50 * 2**20))
"""
#: A program for the hub's Python that puts yesterday's certificate in the place of nginx's.
EXPIRE = """
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
key = serialization.load_pem_private_key(open("/etc/nginx/tls/key.pem", "rb").read(), None)
old = x509.load_pem_x509_certificate(open("/etc/nginx/tls/certificate.pem", "rb").read())
now = datetime.datetime.now(datetime.timezone.utc)
new = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), 1, now - datetime.timedelta(9),
    now - datetime.timedelta(1), list(old.extensions)).sign(key, hashes.SHA256())
open("/etc/nginx/tls/certificate.pem", "wb").write(new.public_bytes(serialization.Encoding.PEM))
"""
#: Units whose journals explain a failed test; jupyter-* are the sessions.
UNITS = ("jupyterhub.service", "chp.service", "nginx.service", "jupyter-*.service", "autofs.service")
# A VM without virtualisation hardware starts a session in 5 to 15 s, and slower while a second one starts.
SESSION_SECONDS = 240.0
CELL_SECONDS = 120.0

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], seconds: float = 120.0, pause: float = 0.5) -> T:
    """Return the condition's first true value.

    Raises
    ------
    AssertionError
        It stayed false for `seconds`; the message carries `what` and the last value or error.
    """
    end = time.monotonic() + seconds
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except (requests.RequestException, RuntimeError, subprocess.SubprocessError) as error:
            last = error
        assert time.monotonic() < end, f"Waited {seconds:.0f} s in vain: {what}. Last: {last!r}"
        time.sleep(pause)


class Vms:
    """The running VMs of a state directory, reached over ssh as root.

    Parameters
    ----------
    state
        What `molecule/vms up --state` was given.
    scratch
        Directory for the connections' sockets and the certificate; a short path, as a socket's path has 107 bytes.
    """

    def __init__(self, state: Path, scratch: Path) -> None:
        summary = state / "vms.json"
        assert summary.exists(), f"No VMs run in {state}. Start them (molecule create), or set CYGNET_STATE."
        self.state = state
        self.summary: dict[str, Any] = json.loads(summary.read_text())
        self.name: str = self.summary["name"]
        self.scratch = scratch
        # A connection costs 1.5 s: all commands share one.
        self.ssh_config = scratch / "ssh_config"
        self.ssh_config.write_text(
            f"Host *\n  ControlMaster auto\n  ControlPersist 300\n  ControlPath {scratch}/%n\n"
            f'Include "{state.resolve() / "ssh_config"}"\n'
        )

    def host(self, name: str) -> Any:
        """Return testinfra's host, whose commands run as root."""
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(self.ssh_config), sudo=True, controlpersist=0)

    def disconnect(self) -> None:
        """Close the shared connections; the next command opens a new one."""
        for name in self.summary["hosts"]:
            command = ["ssh", "-F", str(self.ssh_config), "-O", "exit", name]
            subprocess.run(command, check=False, capture_output=True, timeout=30)

    def run(self, command: str, host: str) -> None:
        """Run a command of `molecule/vms` on one of them, such as `power-cut`."""
        program = [sys.executable, str(PROJECT / "molecule/vms"), command, f"--state={self.state}", host]
        subprocess.run(program, check=True, timeout=300)

    def url(self, name: str) -> str:
        """Return the address at which the host's web server is published on this machine."""
        return f"https://localhost:{self.summary['hosts'][name]['ports']['443']}"


def journals(host: Any, lines: int = 40) -> str:
    """Return what the service's units wrote last."""
    commands = [
        f"echo '=== {unit}'; journalctl --no-pager --quiet --output=short -n {lines} -u {shlex.quote(unit)}"
        for unit in UNITS
    ]
    return str(host.run("; ".join(commands)).stdout)


def machine_groups(name: str) -> dict[str, list[str]]:
    """Return the groups of each machine, as Molecule has them.

    Parameters
    ----------
    name
        Of the VMs: that of the scenario, a hyphen, and the system.
    """
    scenario = PROJECT / "molecule" / name.rpartition("-")[0] / "molecule.yml"
    own, shared = (
        yaml.safe_load(Interpolator(TemplateWithDefaults, os.environ).interpolate(path.read_text())) or {}
        for path in (scenario, PROJECT / ".config/molecule/config.yml")
    )
    return {platform["name"]: platform["groups"] for platform in own.get("platforms", shared["platforms"])}


def write_inventory(vms: Vms, directory: Path) -> Path:
    """Write an inventory of the scenario's VMs, with the groups and variables it was deployed with; return its path."""
    children: dict[str, Any] = {}
    for machine, groups in machine_groups(vms.name).items():
        own = PROJECT / "molecule" / vms.name.rpartition("-")[0] / "host_vars" / f"{machine}.yml"
        variables = yaml.safe_load(own.read_text()) if own.exists() else {}
        for group in groups:
            hosts = children.setdefault(group, {"hosts": {}})["hosts"]
            hosts[f"{machine}.example.org"] = {"ansible_host": machine, **variables}
    inventory = {"all": {"vars": {"ansible_ssh_common_args": f"-F {vms.ssh_config}"}, "children": children}}
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (directory / "group_vars").symlink_to(PROJECT / "inventories/demo/group_vars")
    return directory / "hosts.yml"


def run_playbook(inventory: Path, playbook: str, variables: dict[str, Any], *options: str) -> tuple[int, str]:
    """Run a playbook as the scenario runs its own, with further variables; return its exit status and output."""
    process = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook),
            # What the scenarios set on this system.
            *("-e", f"@{PROJECT}/molecule/shared/systems/{os.environ.get('OS') or 'bookworm'}.yml"),
            *("-e", json.dumps(variables), *options),
        ],
        cwd=PROJECT,
        # Molecule asks for colours, which would stand between the words.
        env=os.environ | {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr


#: What undoes what `campus-ctl` does to a server.
UNDONE_BY = {"stop": "start", "freeze": "thaw", "cut": "mend"}


@contextlib.contextmanager
def taken_away(campus: Any, how: str, which: str) -> Iterator[None]:
    """Take servers of the university away for a while."""
    campus.check_output(f"campus-ctl {how} {which}")
    try:
        yield
    finally:
        campus.check_output(f"campus-ctl {UNDONE_BY[how]} {which}")


def reboot(vms: Vms, host: Any) -> None:
    """Boot a machine anew, and wait until it is there."""
    boot = host.check_output("cat /proc/sys/kernel/random/boot_id")
    # Later, and by systemd, so that the command itself ends as it should.
    host.check_output("systemd-run --on-active=1 systemctl reboot")

    def rebooted() -> bool:
        vms.disconnect()
        return bool(host.check_output("cat /proc/sys/kernel/random/boot_id") != boot)

    wait_for("the machine's new boot", rebooted, 300)


class Service:
    """The public side of the service, with its certificate checked.

    Parameters
    ----------
    url
        Address without a path.
    ca_file
        Certificate that signs the server's, or is it.
    """

    def __init__(self, url: str, ca_file: Path) -> None:
        self.url = url
        self.ca_file = ca_file

    def session(self) -> requests.Session:
        """Return a client without cookies."""
        session = requests.Session()
        session.verify = str(self.ca_file)
        # Neither a proxy nor a CA bundle of this machine's environment concerns a loopback port.
        session.trust_env = False
        return session

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        """Get a page as a stranger."""
        with self.session() as session:
            return session.get(self.url + path, timeout=120, **kwargs)

    def healthy(self) -> bool:
        """Tell whether the hub answers."""
        return self.get("/hub/health").status_code == 200


class StartError(Exception):
    """A session did not start; the message is what the hub reported."""


class Browserless:
    """A user with a browser's cookies and without a browser.

    Parameters
    ----------
    service
        Where to log in.
    user, password
        A Unix account.
    """

    def __init__(self, service: Service, user: str, password: str) -> None:
        self.service = service
        self.user = user
        self.password = password
        self.http = service.session()
        # Without it the hub and the sessions take each request for one without a browser's protection.
        self.http.headers["User-Agent"] = "Mozilla/5.0 (machine tests)"

    def url(self, path: str) -> str:
        """Return the full address of a path."""
        return urljoin(self.service.url, path)

    def cookie(self, name: str, path: str) -> str:
        """Return the cookie of this name that a browser would send first: the one with the longest path."""
        found = [cookie for cookie in self.http.cookies if cookie.name == name and path.startswith(cookie.path)]
        return max(found, key=lambda cookie: len(cookie.path)).value or "" if found else ""

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request with the cookies and, as the pages' scripts do, the token against forged requests."""
        headers = {"X-XSRFToken": self.cookie("_xsrf", path), **kwargs.pop("headers", {})}
        kwargs.setdefault("timeout", 120)
        return self.http.request(method, self.url(path), headers=headers, **kwargs)

    # -- login ----------------------------------------------------------------------------------------------------

    def try_login(self) -> requests.Response:
        """Send the login form; return the page it leads to."""
        self.http.cookies.clear()
        self.request("GET", "/hub/login").raise_for_status()
        form = {"username": self.user, "password": self.password, "_xsrf": self.cookie("_xsrf", "/hub/")}
        return self.request("POST", "/hub/login?next=%2Fhub%2Fhome", data=form)

    def login(self) -> None:
        """Log in."""
        answer = self.try_login()
        said = " ".join(re.sub("<[^>]*>", " ", answer.text.partition("<main")[2]).split())
        assert answer.status_code == 200 and self.logged_in(), f"{self.user} cannot log in: {answer.status_code} {said}"

    def logged_in(self) -> bool:
        """Tell whether the hub knows the cookies."""
        return self.request("GET", "/hub/home", allow_redirects=False).status_code == 200

    # -- sessions -------------------------------------------------------------------------------------------------

    def _server_api(self, server: str) -> str:
        return f"/hub/api/users/{self.user}/" + (f"servers/{server}" if server else "server")

    def base(self, server: str = "") -> str:
        """Return the path below which a session answers."""
        return f"/user/{self.user}/{server}/" if server else f"/user/{self.user}/"

    def state(self, server: str = "") -> dict[str, Any] | None:
        """Return what the hub says of a session, None if it has none of that name."""
        answer = self.request("GET", f"/hub/api/users/{self.user}?include_stopped_servers=1")
        answer.raise_for_status()
        state: dict[str, Any] | None = answer.json()["servers"].get(server)
        return state

    def running(self, server: str = "") -> bool:
        """Tell whether the hub takes a session for ready."""
        state = self.state(server)
        return bool(state and state["ready"])

    def stopped(self, server: str = "") -> bool:
        """Tell whether the hub has no session, and is not about to have one."""
        state = self.state(server)
        return state is None or bool(state["stopped"] and not state["pending"])

    def request_start(self, server: str = "") -> requests.Response:
        """Ask the hub for a session, without waiting for it."""
        return self.request("POST", self._server_api(server))

    def start(self, server: str = "") -> None:
        """Start a session, wait until it is ready, and take its cookies.

        Raises
        ------
        StartError
            The hub gave up.
        """
        answer = self.request_start(server)
        if answer.status_code not in {201, 202}:
            raise StartError(f"{answer.status_code}: {answer.text}")

        def over() -> dict[str, Any] | None:
            state = self.state(server)
            return state if state and not state["pending"] else None

        if not wait_for(f"the start of {self.user}'s session {server!r}", over, SESSION_SECONDS)["ready"]:
            raise StartError(f"{self.user}'s session {server!r} is not ready")
        self.enter(server)

    def enter(self, server: str = "") -> requests.Response:
        """Open the session's page, which on the first visit leads over the hub to the session's cookie."""
        answer = self.request("GET", f"{self.base(server)}lab")
        assert answer.status_code == 200 and urlsplit(answer.url).path.startswith(self.base(server)), (
            f"{self.user} does not get into {self.base(server)}: {answer.status_code} {answer.url}"
        )
        return answer

    def stop(self, server: str = "") -> None:
        """Stop a session and wait until the hub has seen it end."""
        answer = self.request("DELETE", self._server_api(server))
        assert answer.status_code in {202, 204, 404}, f"{answer.status_code}: {answer.text}"
        wait_for(f"the end of {self.user}'s session {server!r}", lambda: self.stopped(server), SESSION_SECONDS)

    def forget(self, server: str) -> None:
        """Stop a named session and remove its name, where there is one."""
        self.stop(server)
        answer = self.request("DELETE", self._server_api(server), json={"remove": True})
        assert answer.status_code in {204, 404}, f"{answer.status_code}: {answer.text}"

    def ensure(self, server: str = "") -> None:
        """Have a session that answers."""
        if not self.logged_in():
            self.login()
        if not self.running(server):
            self.start(server)
        else:
            self.enter(server)

    def api(self, path: str, method: str = "GET", server: str = "", **kwargs: Any) -> requests.Response:
        """Ask a session's own API."""
        return self.request(method, f"{self.base(server)}api/{path}", allow_redirects=False, **kwargs)

    def kernel(self, server: str = "", name: str = "python3") -> Kernel:
        """Start a kernel and connect to it."""
        answer = self.api("kernels", "POST", server, json={"name": name})
        assert answer.status_code == 201, f"No kernel: {answer.status_code} {answer.text}"
        return Kernel(self, answer.json()["id"], server)


def person(service: Service, name: str, typed: str = "") -> Browserless:
    """Have somebody of the university who is about to log in."""
    return Browserless(service, typed or name, PEOPLE[name]["password"])


# -- kernels ------------------------------------------------------------------------------------------------------


class _Loop:
    """One event loop in a thread: Playwright's occupies the tests' own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, seconds), self._loop)
        return future.result()


_LOOP = _Loop()


class WebSocketRefusedError(Exception):
    """The server did not open the WebSocket.

    Parameters
    ----------
    status
        HTTP status it answered with.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


async def _open_websocket(
    user: Browserless, path: str, subprotocols: list[str] | None = None
) -> tornado.websocket.WebSocketClientConnection:
    """Open a WebSocket as a page of the user's would.

    Raises
    ------
    WebSocketRefusedError
        The session, or the hub in front of it, refused.
    """
    prepared = user.http.prepare_request(requests.Request("GET", user.url(path)))
    request = tornado.httpclient.HTTPRequest(
        user.url(path).replace("https:", "wss:", 1),
        # What Chromium says of itself when a page opens a WebSocket.
        headers={
            "Cookie": str(prepared.headers.get("Cookie") or ""),
            "Origin": user.service.url,
            "User-Agent": str(prepared.headers["User-Agent"]),
            "Sec-Fetch-Mode": "websocket",
            "Sec-Fetch-Site": "same-origin",
        },
        ca_certs=str(user.service.ca_file),
        follow_redirects=False,
        connect_timeout=30,
        # Jupyter's server answers when a kernel has, for which it waits 60 s.
        request_timeout=90,
    )
    try:
        return await tornado.websocket.websocket_connect(request, subprotocols=subprotocols)
    except tornado.httpclient.HTTPClientError as error:
        raise WebSocketRefusedError(error.code) from error


def websocket_status(user: Browserless, path: str, subprotocols: list[str] | None = None) -> int:
    """Open a WebSocket and close it again; return the HTTP status, which is 101 when it was opened."""

    async def status() -> int:
        try:
            socket = await _open_websocket(user, path, subprotocols)
        except WebSocketRefusedError as error:
            return error.status
        socket.close()
        return 101

    return _LOOP.run(status(), 60)


@dataclass
class Cell:
    """What a cell left behind: output streams, and how it ended (`ok`, `error`, or `restarted` with its kernel)."""

    stdout: str = ""
    stderr: str = ""
    status: str = ""
    traceback: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)


_SHELL = """
import subprocess
done = subprocess.run({command!r}, shell=True, capture_output=True, text=True)
print(done.returncode, done.stdout + done.stderr)
"""


class Kernel:
    """A kernel of a session, through its WebSocket.

    Parameters
    ----------
    user
        Whose cookies to send.
    identifier
        The kernel's.
    server
        Name of the session it belongs to.
    owner
        Account in whose session it runs, when that is another than the user's.
    """

    def __init__(self, user: Browserless, identifier: str, server: str = "", owner: str = "") -> None:
        self.user = user
        self.identifier = identifier
        self.server = server
        self.base = f"/user/{owner}/" if owner else user.base(server)
        self._socket: tornado.websocket.WebSocketClientConnection | None = None

    async def _connect(self) -> tornado.websocket.WebSocketClientConnection:
        return await _open_websocket(self.user, f"{self.base}api/kernels/{self.identifier}/channels")

    def connect(self) -> None:
        """Open the WebSocket, a new one if there was one.

        Raises
        ------
        WebSocketRefusedError
            The session, or the hub in front of it, refused.
        """
        self.disconnect()
        self._socket = _LOOP.run(self._connect(), 100)

    def disconnect(self) -> None:
        """Close the WebSocket; the kernel goes on."""
        if self._socket is not None:
            socket, self._socket = self._socket, None

            async def close() -> None:
                socket.close()

            _LOOP.run(close(), 10)

    async def _run(self, code: str) -> Cell:
        assert self._socket is not None
        request = uuid.uuid4().hex
        header = {"msg_id": request, "msg_type": "execute_request", "version": "5.3", "session": request}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {
            "header": {**header, "username": self.user.user, "date": "2026-01-01T00:00:00Z"},
            "parent_header": {},
            "metadata": {},
            "content": {**content, "stop_on_error": True},
            "channel": "shell",
            "buffers": [],
        }
        await self._socket.write_message(json.dumps(message))
        cell = Cell()
        replied = idle = False
        while not (replied and idle):
            received = await self._socket.read_message()
            if received is None:
                raise ConnectionError("The WebSocket was closed")
            answer = json.loads(received)
            kind, content = answer["msg_type"], answer["content"]
            if kind == "status" and content["execution_state"] in {"restarting", "autorestarting", "dead"}:
                cell.status = "restarted"
                return cell
            if answer["parent_header"].get("msg_id") != request:
                continue
            if kind == "stream":
                setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
            elif kind in {"display_data", "execute_result"}:
                cell.outputs.append(content["data"])
            elif kind == "error":
                cell.traceback = "\n".join(content["traceback"])
            elif kind == "execute_reply":
                replied, cell.status = True, content["status"]
            elif kind == "status" and content["execution_state"] == "idle":
                idle = True
        return cell

    def run(self, code: str, seconds: float = CELL_SECONDS) -> Cell:
        """Run a cell and wait until it is over; connect first when that is due."""
        if self._socket is None:
            self.connect()
        return _LOOP.run(self._run(code), seconds)

    def output(self, code: str, seconds: float = CELL_SECONDS) -> str:
        """Run a cell that must succeed; return what it printed."""
        cell = self.run(code, seconds)
        assert cell.status == "ok", cell.traceback or cell
        return cell.stdout.strip()

    def shell(self, command: str) -> tuple[int, str]:
        """Run a command in the kernel's process; return its exit status and what it printed."""
        status, _space, out = self.output(_SHELL.format(command=command)).partition(" ")
        return int(status), out

    def shutdown(self) -> None:
        """End the kernel, if it is still there."""
        self.disconnect()
        with contextlib.suppress(requests.RequestException):
            self.user.api(f"kernels/{self.identifier}", "DELETE", self.server)


def still_holds(kernel: Kernel, value: str = "42") -> bool:
    """Tell whether the kernel answers on a new WebSocket, and with the x it had before."""
    try:
        kernel.connect()
        return kernel.output("print(x)", seconds=30) == value
    except (WebSocketRefusedError, OSError, TimeoutError):
        return False


def ticket_of(user: Browserless) -> tuple[str, datetime]:
    """Return what the hub's page says of a user's Kerberos ticket: its state, and when it ends."""
    page = user.request("GET", "/hub/ticket")
    assert page.status_code == 200
    match = re.search(r'data-state="(\w+)"(?: data-expires="([^"]+)")?', page.text)
    assert match, page.text
    return match[1], datetime.fromisoformat(match[2]) if match[2] else datetime.min.replace(tzinfo=UTC)


def notices(user: Browserless) -> set[str]:
    """Return what JupyterLab is told."""
    answer = user.request("GET", f"{user.base()}jupyterhub-sessions/notices")
    assert answer.status_code == 200, answer.text
    return {notice["id"] for notice in answer.json()["notices"]}


@contextlib.contextmanager
def new_kernel(user: Browserless, server: str = "", name: str = "python3") -> Iterator[Kernel]:
    """Lend a kernel."""
    kernel = user.kernel(server, name)
    try:
        yield kernel
    finally:
        kernel.shutdown()


def state_directory(default: str) -> Path:
    """Return the VMs' state directory: $CYGNET_STATE, or that of the scenario's first system."""
    return Path(os.environ.get("CYGNET_STATE") or PROJECT / "build" / "vms" / default)
