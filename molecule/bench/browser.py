"""A student's browser, as far as a session needs one: log in, start, wait for JupyterLab, stop."""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

# Between two requests that ask whether something has come to be.
_PAUSE_S = 0.05
# For a start or a stop on a busy machine without virtualisation hardware.
_PATIENCE_S = 300


class BrowserError(Exception):
    """The hub did not answer as a hub does."""


class Browser:
    """One user's browser at one hub.

    Parameters
    ----------
    url
        Address of the hub, without a path.
    certificate
        File of the certificate to trust, or None for plain HTTP.
    """

    def __init__(self, url: str, user: str, certificate: str | None = None) -> None:
        self.user = user
        self._url = URL(url)
        self._certificate = certificate

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._certificate)
        self._session = aiohttp.ClientSession(
            # Cookies of an IP address, which aiohttp calls unsafe: both hubs are on the loopback address.
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=_PATIENCE_S),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def log_in(self, password: str) -> None:
        """Log in once the hub answers.

        Raises
        ------
        BrowserError
            The hub does not answer in time, or refuses the password.
        """
        await self.open_login()
        await self.send_login(password)
        # A page sets the token that belongs to the login.
        await self._status("/hub/token")

    async def open_login(self, patience_s: float = 60) -> None:
        """Get the form of the login once the hub answers.

        Raises
        ------
        BrowserError
            The hub does not answer in time.
        """
        deadline = time.monotonic() + patience_s
        while (status := await self._status("/hub/login")) != 200:
            if time.monotonic() > deadline:
                raise BrowserError(f"{self._url}/hub/login answers {status} after {patience_s:.0f} s.")
            await asyncio.sleep(1)

    async def send_login(self, password: str) -> None:
        """Send the form of the login, and do not follow where it leads: that would start a session.

        Raises
        ------
        BrowserError
            The hub refuses the password.
        """
        form = {"username": self.user, "password": password, "_xsrf": self._token()}
        async with self._session.post(self._url / "hub/login", data=form, allow_redirects=False) as answer:
            if answer.status != 302:
                raise BrowserError(f"{self._url} refuses {self.user}: status {answer.status}.")

    async def start(self, options: Mapping[str, str]) -> float:
        """Start the user's session with these options and return the seconds until JupyterLab's page was there.

        Goes the way of a browser: the start, the events of the waiting page, JupyterLab through the hub's login. So
        no question that only the measurement asks keeps the hub busy.

        Raises
        ------
        BrowserError
            The session did not start.
        """
        begin = time.monotonic()
        async with self._session.get((self._url / "hub/spawn").with_query(options)) as answer:
            await answer.read()
            if answer.status != 200:
                raise BrowserError(f"{answer.url} answers {answer.status}.")
        await self._wait_ready()
        while True:
            async with self._session.get(self._url / f"user/{self.user}/lab") as answer:
                await answer.read()
                # A 200 of another page is the hub's, which says to wait.
                if answer.status == 200 and answer.url.path == f"/user/{self.user}/lab":
                    return time.monotonic() - begin
                if answer.status < 500 and answer.status not in {200, 424}:
                    raise BrowserError(f"{answer.url} answers {answer.status}.")
            if time.monotonic() - begin > _PATIENCE_S:
                raise BrowserError(f"{answer.url} answers {answer.status} after {_PATIENCE_S} s.")
            await asyncio.sleep(_PAUSE_S)

    async def stop(self) -> None:
        """Stop the user's session and wait for its end, if it runs.

        Raises
        ------
        BrowserError
            It does not end.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while (await self._api("GET", f"users/{self.user}"))["servers"]:
            if time.monotonic() > deadline:
                raise BrowserError(f"{self._url}: the session of {self.user} does not end.")
            await self._api("DELETE", f"users/{self.user}/server")
            await asyncio.sleep(0.5)

    async def _wait_ready(self) -> None:
        url = self._url / f"hub/api/users/{self.user}/server/progress"
        async with self._session.get(url, headers=self._headers()) as answer:
            async for line in answer.content:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line.removeprefix(b"data:"))
                if event.get("ready"):
                    return
                if event.get("failed"):
                    raise BrowserError(f"{self._url}: {event['message']}")
            raise BrowserError(f"{url} answers {answer.status} and ends.")

    async def _api(self, method: str, path: str) -> Any:
        url = self._url / "hub/api" / path
        async with self._session.request(method, url, headers=self._headers()) as answer:
            text = await answer.text()
            # Of a DELETE: 404 when the session has ended meanwhile, 400 while it is still starting.
            if answer.status >= 400 and not (method == "DELETE" and answer.status in {400, 404}):
                raise BrowserError(f"{method} {url} answers {answer.status}: {text}")
        return json.loads(text) if text else None

    async def _status(self, path: str) -> int | str:
        try:
            async with self._session.get(self._url.with_path(path)) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientConnectionError as error:
            return str(error)

    def _token(self) -> str:
        return self._session.cookie_jar.filter_cookies(self._url / "hub/")["_xsrf"].value

    def _headers(self) -> dict[str, str]:
        return {"X-XSRFToken": self._token(), "Referer": str(self._url / "hub/home"), "Accept": "*/*"}
