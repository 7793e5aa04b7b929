"""The ways to a program's window in the browser that are compared: through our hub, Xpra alone, and the peer."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playwright.sync_api import APIResponse, Browser, BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError

from vm import Vm, VmError

HERE = Path(__file__).parent
USER = "alice"
VIEWPORT = {"width": 1280, "height": 800}
# A VM without virtualisation hardware starts all of this slowly, and a narrow line brings pages later still.
PATIENCE_S = 300.0
_PAUSE_S = 0.2
# Ports of the VM: molecule/bench/vms.json and peer.yml.
PEER_PORT = 8001
PEER_HUB_PORT = 8002
DIRECT_PORT = 8003
PEER_TOKEN = "bench"  # noqa: S105 - of a server that nobody but the bench reaches

# What is shown; peer.yml reads the same file. `terminal` is the window whose painting and typing is timed: its colour
# is one that nothing else has, and `cat` shows at once what is typed.
PROGRAMS: dict[str, list[str]] = json.loads((HERE / "programs.json").read_text())
TERMINAL = "terminal"
COLOUR = (32, 96, 64)
# Of the camera of Geomview, that the mouse finds it.
MODEL_COLOUR = (26, 51, 102)


def wait_for(what: str, condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Return what a condition gives as soon as that is true.

    Raises
    ------
    VmError
        It stays false.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise VmError(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(_PAUSE_S)
    return value


class Agent:
    """The program agent.py in the VM, over one connection: to be asked without the time that a login takes."""

    def __init__(self, machine: Vm) -> None:
        self._command = machine.command("python3", "-I", "-u", "-c", (HERE / "agent.py").read_text())

    def __enter__(self) -> Self:
        # A program's words could fill a pipe that nobody reads.
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def ask(self, order: str, *arguments: Any) -> Any:
        """Have one of the agent's functions called; return what it returns.

        Raises
        ------
        VmError
            It failed.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([order, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise VmError(f"The agent in the VM has ended: {self._errors.read().strip()}")
        answer = json.loads(line)
        if "error" in answer:
            raise VmError(f"In the VM: {answer['error']}")
        return answer["value"]


class Hub:
    """A hub, as a browser uses it.

    Parameters
    ----------
    url
        Its address, without a path.
    password
        Of the user.
    """

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self._password = password

    def log_in(self, context: BrowserContext) -> None:
        """Log in, and open no page but the login's."""
        wait_for("the hub's login", lambda: _answers(context, f"{self.url}/hub/login"))
        form: dict[str, str | float | bool] = {
            "username": USER,
            "password": self._password,
            "_xsrf": self._token(context, "/hub/"),
        }
        answer = context.request.post(f"{self.url}/hub/login", form=form, max_redirects=0)
        if answer.status != 302:
            raise VmError(f"{self.url} refuses {USER}: status {answer.status}.")
        # A page sets the token that belongs to the login.
        self._get(context, "/hub/token")

    def start(self, context: BrowserContext, **options: str) -> None:
        """Start a session and enter it, with none of the pages that a browser would show."""
        self._ask(context, "POST", f"/hub/api/users/{USER}/server", options)
        wait_for("the session", lambda: self._servers(context).get("", {}).get("ready"))
        # Brings the session's own cookie.
        wait_for("the session's login", lambda: self._get(context, f"/user/{USER}/lab").ok)

    def stop(self, context: BrowserContext) -> None:
        """Stop the session, if there is one."""

        def stopped() -> bool:
            if self._servers(context):
                self._ask(context, "DELETE", f"/hub/api/users/{USER}/server", allowed=(400, 404))
            return not self._servers(context)

        wait_for("the end of the session", stopped)

    def ask(self, context: BrowserContext, method: str, path: str, wish: Any = None) -> Any:
        """Send a request to the session's API, as its pages do; return what it answers.

        Raises
        ------
        VmError
            It refuses.
        """
        return self._ask(context, method, f"/user/{USER}/{path}", wish)

    def _servers(self, context: BrowserContext) -> dict[str, Any]:
        return dict(self._ask(context, "GET", f"/hub/api/users/{USER}")["servers"])

    def _ask(
        self, context: BrowserContext, method: str, path: str, wish: Any = None, allowed: Sequence[int] = ()
    ) -> Any:
        headers = {"X-XSRFToken": self._token(context, path), "Referer": f"{self.url}/hub/home", "Accept": "*/*"}
        if wish is not None:
            headers["Content-Type"] = "application/json"
        data = None if wish is None else json.dumps(wish)
        answer = context.request.fetch(
            self.url + path, method=method, headers=headers, data=data, timeout=PATIENCE_S * 1000
        )
        if not answer.ok and answer.status not in allowed:
            raise VmError(f"{method} {path} answers {answer.status}: {answer.text()}")
        text = answer.text()
        return json.loads(text) if text else None

    def _get(self, context: BrowserContext, path: str) -> APIResponse:
        return context.request.get(self.url + path, timeout=PATIENCE_S * 1000)

    def _token(self, context: BrowserContext, path: str) -> str:
        found = [cookie for cookie in context.cookies(self.url + path) if cookie["name"] == "_xsrf"]
        # A browser sends the one of the longest path first.
        return max(found, key=lambda cookie: len(cookie["path"]))["value"] if found else ""


class Way(ABC):
    """One way to a program's window: what is opened, and what it costs.

    Parameters
    ----------
    agent
        In the VM where the programs run.
    browser
        Chromium, on this machine.
    """

    def __init__(self, agent: Agent, browser: Browser) -> None:
        self.agent = agent
        self._browser = browser
        self._context: BrowserContext | None = None
        self.page: Page | None = None

    def renew(self) -> None:
        """Begin anew: a server in which no display has run, and a browser that has nothing of its pages."""
        self.close()
        self._context = new_context(self._browser)
        self._renew(self._context)

    def show(self, program: str = TERMINAL) -> float:
        """Have a program's window in a page of its own, in place of the last one; return since when it is waited for.

        Returns
        -------
        float
            The click, in milliseconds since 1970.
        """
        assert self._context, "renew() comes first"
        self._hide()
        if self.page:
            self.page.close()
        self.page = self._context.new_page()
        return self._show(self.page, program)

    def close(self) -> None:
        """End what is open, servers too."""
        if self._context:
            self._hide()
            self._end(self._context)
            self._context.close()
        self._context = self.page = None

    @abstractmethod
    def memory_mib(self) -> float:
        """Return the proportional set size of everything that the display has, its program too."""

    @abstractmethod
    def _renew(self, context: BrowserContext) -> None: ...

    @abstractmethod
    def _show(self, page: Page, program: str) -> float: ...

    @abstractmethod
    def _hide(self) -> None: ...

    @abstractmethod
    def _end(self, context: BrowserContext) -> None: ...

    def _memory_mib(self, pids: Sequence[int]) -> float:
        return float(self.agent.ask("memory_kib", pids)) / 1024


class Ours(Way):
    """A display of a session that our hub has started: nginx, the hub's proxy, the Jupyter server, Xpra."""

    def __init__(self, agent: Agent, browser: Browser, hub: Hub) -> None:
        super().__init__(agent, browser)
        self._hub = hub
        self._display: dict[str, Any] | None = None

    def _renew(self, context: BrowserContext) -> None:
        self._hub.log_in(context)
        self._hub.stop(context)
        # The others' homes are on the local disk, too.
        self._hub.start(context, kind="lab", home="temporary")

    def _show(self, page: Page, program: str) -> float:
        begin = _now_ms()
        self._display = self._hub.ask(page.context, "POST", "xpra/api/displays", {"command": PROGRAMS[program]})
        page.goto(self._hub.url + self._display["url"], wait_until="commit")
        return begin

    def _hide(self) -> None:
        if self._display and self._context:
            self._hub.ask(self._context, "DELETE", f"xpra/api/displays/{self._display['id']}")
        self._display = None

    def _end(self, context: BrowserContext) -> None:
        self._hub.stop(context)

    def memory_mib(self) -> float:
        """Return that of all processes with the display's mark: supervisor, X server, Xpra, program."""
        assert self._display
        return self._memory_mib(self.agent.ask("marked", f"JUPYTER_XPRA_DISPLAY={self._display['id']}"))


class Direct(Way):
    """Xpra with its own client, opened directly: no hub, no proxy, no TLS, nobody who asks for a login."""

    _OFF = "mdns systemd-run pulseaudio notifications webcam printing dbus-control file-transfer exit-with-children"
    # The screen that ours have.
    _XVFB = "Xvfb +extension GLX +extension Composite -screen 0 1920x1080x24+32 -dpi 96 -nolisten tcp -noreset"
    # Debian's configuration would start a whole desktop session.
    _EMPTY = ("XPRA_SYSTEM_CONF_DIRS", "XPRA_DEFAULT_CONF_DIRS", "XPRA_USER_CONF_DIRS")
    _NAME = "xpra"

    def __init__(self, agent: Agent, browser: Browser, port: int) -> None:
        super().__init__(agent, browser)
        self._url = f"http://127.0.0.1:{port}/"
        self._runs = False

    def _show(self, page: Page, program: str) -> float:
        command = [
            *("xpra", "start", "--daemon=no", f"--bind-tcp=0.0.0.0:{DIRECT_PORT}", "--html=on", "--dbus-launch="),
            *(f"--{option}=no" for option in self._OFF.split()),
            *("--speaker=disabled", "--microphone=disabled", "--socket-dir={directory}/run"),
            f"--xvfb={self._XVFB} -auth $XAUTHORITY",
            f"--start={shlex.join(PROGRAMS[program])}",
        ]
        begin = _now_ms()
        self.agent.ask("start", self._NAME, USER, command, dict.fromkeys(self._EMPTY, "/nonexistent"))
        self._runs = True
        self.agent.ask("wait_listening", self._NAME, DIRECT_PORT, PATIENCE_S)
        page.goto(self._url, wait_until="commit")
        return begin

    def _hide(self) -> None:
        if self._runs:
            self.agent.ask("stop", self._NAME)
        self._runs = False

    def _renew(self, context: BrowserContext) -> None:
        """Have nothing else to begin anew."""

    def _end(self, context: BrowserContext) -> None:
        """Have nothing else to end."""

    def memory_mib(self) -> float:
        """Return that of all that Xpra started."""
        return self._memory_mib(self.agent.ask("of_program", self._NAME))


class Peer(Way):
    """jupyter-remote-desktop-proxy in a plain Jupyter server: TigerVNC's server with openbox, and noVNC in the page.

    It has one desktop a server, where the terminal is from the start; the other programs are started on it by turns.
    """

    UNIT = "peer.service"
    _HOME = "/var/lib/peer"
    _NAME = "program"

    def __init__(self, agent: Agent, browser: Browser, port: int) -> None:
        super().__init__(agent, browser)
        self._url = f"http://127.0.0.1:{port}"
        self._runs = False

    def _renew(self, context: BrowserContext) -> None:
        self.agent.ask("unit", "restart", self.UNIT)
        wait_for("the peer's server", lambda: _answers(context, f"{self._url}/api/status?token={PEER_TOKEN}"))

    def _show(self, page: Page, program: str) -> float:
        begin = _now_ms()
        page.goto(f"{self._url}/desktop/?token={PEER_TOKEN}", wait_until="commit")
        if program != TERMINAL:
            (display,) = wait_for(
                "the peer's X server", lambda: self.agent.ask("x_displays", "Xtigervnc", self._pids())
            )
            environment = {"DISPLAY": display, "XAUTHORITY": f"{self._HOME}/.Xauthority"}
            self.agent.ask("start", self._NAME, USER, PROGRAMS[program], environment)
            self._runs = True
        return begin

    def _hide(self) -> None:
        if self._runs:
            self.agent.ask("stop", self._NAME)
        self._runs = False

    def _end(self, context: BrowserContext) -> None:
        self.agent.ask("unit", "stop", self.UNIT)

    def memory_mib(self) -> float:
        """Return that of the unit without the Jupyter server: VNC server, openbox, terminal, and what starts them."""
        return self._memory_mib(self._pids())

    def _pids(self) -> list[int]:
        return list(self.agent.ask("of_unit", self.UNIT)[1:])


class Desktop(ABC):
    """A way from a hub to a desktop in the browser.

    Parameters
    ----------
    agent
        In the VM of the hub.
    browser
        Chromium, on this machine.
    hub
        Which starts the session.
    """

    #: Of systemd, that the session is.
    unit: str

    def __init__(self, agent: Agent, browser: Browser, hub: Hub) -> None:
        self._agent = agent
        self._browser = browser
        self._hub = hub

    def measure(self, rest_s: float) -> tuple[float, float]:
        """Start a session and end it.

        Parameters
        ----------
        rest_s
            After the first picture and before the memory is measured, in seconds.

        Returns
        -------
        tuple[float, float]
            Seconds from the start to the first picture of the desktop, and the proportional set size of all processes
            of the session in MiB.
        """
        with new_context(self._browser) as context:
            self._hub.log_in(context)
            self._hub.stop(context)
            begin, page = _now_ms(), self._open(context.new_page())
            picture = when(page, "picture")
            time.sleep(rest_s)
            memory = self._agent.ask("memory_kib", self._agent.ask("of_unit", self.unit)) / 1024
            self._hub.stop(context)
        return (picture - begin) / 1000, memory

    @abstractmethod
    def _open(self, page: Page) -> Page:
        """Start the session, and return the page in which the desktop will be."""


class OurDesktop(Desktop):
    """A session that is a desktop."""

    unit = f"jupyter-{USER}.service"

    def _open(self, page: Page) -> Page:
        # The other's home is on the local disk, too.
        page.goto(f"{self._hub.url}/hub/spawn?opt-kind=desktop&opt-home=temporary", wait_until="commit")
        return page


class PeerDesktop(Desktop):
    """A session with JupyterLab, whose launcher opens the desktop of jupyter-remote-desktop-proxy."""

    unit = f"peer-{USER}.service"

    def _open(self, page: Page) -> Page:
        page.goto(f"{self._hub.url}/hub/spawn", wait_until="commit")
        card = page.locator(".jp-LauncherCard", has_text="Desktop").first
        with page.expect_popup(timeout=PATIENCE_S * 1000) as opened:
            card.click()
        return opened.value


def when(page: Page, what: str) -> float:
    """Wait for the first `picture` or `window` of a page; return the moment, in milliseconds since 1970."""
    # The pages before it, such as the hub's that says to wait, are left by themselves.
    found = page.wait_for_function(f"() => window.bench?.{what}", timeout=PATIENCE_S * 1000)
    return float(found.json_value())


def new_context(browser: Browser) -> BrowserContext:
    """Open a browser without cookies and cache, whose pages tell what is painted."""
    context = browser.new_context(ignore_https_errors=True, viewport=VIEWPORT)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_S * 1000)
    context.set_default_navigation_timeout(PATIENCE_S * 1000)
    context.add_init_script(script())
    return context


def script(colour: Sequence[int] = COLOUR) -> str:
    """Return what tells in a page what is painted, and when a window of a colour is."""
    return f"window.benchColour = {list(colour)};\n{(HERE / 'canvas.js').read_text()}"


def _answers(context: BrowserContext, url: str) -> bool:
    try:
        return bool(context.request.get(url).ok)
    except PlaywrightError:
        # Nobody listens yet.
        return False


def _now_ms() -> float:
    return time.time() * 1000
