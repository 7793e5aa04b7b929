"""A staged hub, the browsers that look at it, and what is expected of every page."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.cookiejar
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babel.messages.extract import extract_from_dir

from jupyterhub_sessions import i18n, pages

if TYPE_CHECKING:
    from playwright.sync_api import Page as BrowserPage

PACKAGE = Path(pages.__file__).parent
PLACEHOLDER = re.compile(r"%\(\w+\)s")


def sources() -> set[str]:
    """Return the messages that the package's Python and templates use."""
    found = extract_from_dir(
        PACKAGE,
        method_map=[("tests/**", "ignore"), ("**.py", "python"), ("templates/**", "jinja2")],
        # Not silent: a template that does not parse shall fail here rather than lose its messages.
        options_map={"templates/**": {"trimmed": "true", "silent": "false"}},
    )
    messages: set[str] = set()
    for _file, _line, message, _comments, _context in found:
        messages.update([message] if isinstance(message, str) else message)
    return messages


class Visible(HTMLParser):
    """Collect what a person reads or hears of a page."""

    SILENT = ("script", "style")
    VOID = ("meta", "link", "img", "input", "br", "hr", "path", "circle")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.language = ""
        self.texts: list[str] = []
        self._stack: list[tuple[str, bool]] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        """All of it, one piece per line."""
        return "\n".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note attributes that are read out, and what has a language of its own."""
        given = dict(attrs)
        if tag == "html":
            self.language = given.get("lang") or ""
        foreign = tag in self.SILENT or (tag != "html" and "lang" in given)
        if tag not in self.VOID:
            self._stack.append((tag, foreign))
        for name in ("title", "aria-label", "placeholder", "alt", "data-label"):
            if not foreign and given.get(name):
                self.texts.append(given[name] or "")

    def handle_endtag(self, tag: str) -> None:
        """Close an element; an unbalanced page is a broken page."""
        if tag not in self.VOID:
            opened, _foreign = self._stack.pop()
            assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        """Note text."""
        if data.strip() and not any(foreign for _tag, foreign in self._stack):
            self.texts.append(" ".join(data.split()))


@dataclasses.dataclass(frozen=True)
class Page:
    """An answer of the hub."""

    status: int
    url: str
    html: str

    @functools.cached_property
    def visible(self) -> Visible:
        """What a person sees of it."""
        return Visible(self.html)

    def field(self, pattern: str) -> str:
        """Return the only group of a pattern."""
        match = re.search(pattern, self.html)
        assert match, f"no {pattern} in {self.html}"
        return match[1]


class Browser:
    """A person's browser, without scripts."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        ).open

    def get(self, path: str, method: str = "GET", form: dict[str, str] | None = None, json: str = "") -> Page:
        """Ask for a page, following redirects, and take an error page for a page."""
        data = json.encode() or (urllib.parse.urlencode(form).encode() if form else None)
        request = urllib.request.Request(urllib.parse.urljoin(self.base, path), data=data, method=method)
        if json:
            request.add_header("Content-Type", "application/json")
        request.add_header("Accept", "text/html")
        request.add_header("Sec-Fetch-Mode", "navigate")
        try:
            answer = self._open(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Page(answer.status, answer.url, answer.read().decode())

    def login(self, user: str, password: str = "right") -> Page:
        """Fill in the login form."""
        form = self.get("/hub/login")
        xsrf = form.field(r'name="_xsrf" value="([^"]+)"')
        return self.get("/hub/login?next=/hub/token", "POST", {"username": user, "password": password, "_xsrf": xsrf})

    def api(self, method: str, path: str, body: str = "{}") -> Page:
        """Send a request as the pages' scripts do."""
        xsrf = self.get("/hub/token").field(r'xsrf_token: "([^"]+)"')
        return self.get(f"/hub/api/{path}?_xsrf={xsrf}", method, json=body)


@dataclasses.dataclass(frozen=True)
class Hub:
    """A running hub."""

    language: str
    directory: Path
    base: str

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.directory / "log"

    def visitor(self) -> Browser:
        """Return a fresh browser."""
        return Browser(self.base)

    def user(self, name: str) -> Browser:
        """Return the browser of somebody logged in."""
        browser = self.visitor()
        page = browser.login(name)
        assert page.url.endswith("/hub/token"), page.html
        return browser


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_hub(language: str, directory: Path, slow_start_s: float = 0.0) -> Iterator[Hub]:
    """Run a hub in a language, whose answers wait so long for the end of a start."""
    port = free_port()
    environment = os.environ | {
        "STAGED_LANGUAGE": language,
        "STAGED_PORT": str(port),
        "STAGED_SLOW_START": str(slow_start_s),
        "PYTHONPATH": str(PACKAGE.parent),
        "JUPYTERHUB_SESSIONS_STACKS": str(directory / "stacks"),
        "JUPYTERHUB_SESSIONS_ANNOUNCEMENT": str(directory / "announcement.txt"),
    }
    running = Hub(language, directory, f"http://127.0.0.1:{port}")
    with running.log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(PACKAGE / "tests" / "staged_hub.py")],
            cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if running.visitor().get("/hub/health").status == 200:
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, running.log.read_text()
                time.sleep(0.2)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def assert_speaks(page: Page, language: str) -> None:
    """Find the page in the language and, if that is not English, nothing English on it."""
    assert page.visible.language == language
    if language == "en":
        own = page.visible.text.replace("Лаборатория", "")
        assert not re.search("[а-яё]", own, re.IGNORECASE), own
        return
    lines = page.visible.texts
    left = {message for message in sources() if PLACEHOLDER.sub("", message) == message and message in lines}
    assert left == set()
    # Also what nobody marked for translation: two words of Latin letters in a row are English.
    english = re.findall(r"[A-Za-z]{2,} [A-Za-z]{2,}", page.visible.text.replace("Caps Lock", ""))
    assert english == [], page.visible.text


def wait_for(condition: Callable[[], Page | None]) -> Page:
    """Return the first page that the condition gives, within some seconds."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        page = condition()
        if page:
            return page
        time.sleep(0.3)
    raise AssertionError("nothing came")


def said(hub: Hub, message: str) -> str:
    """Return a message in the hub's language."""
    return i18n.catalog(hub.language).gettext(message)


@contextlib.contextmanager
def chromium_page(**options: Any) -> Iterator[BrowserPage]:
    """Open a page in Chromium and, at the end, fail on errors of its scripts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                  "--disable-sync"],
        )  # fmt: skip
        try:
            page = chromium.new_page(**options)
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            yield page
            assert errors == []
        finally:
            chromium.close()
