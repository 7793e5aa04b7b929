"""Start a session as a student would, run a cell in it and open a display: the last layers that the doctor looks at.

It goes the way of a browser, over the web server, with a token of the student's own that is made for the occasion in
the hub's database, and taken back afterwards. So no secret that could do so lies on the machine between two runs.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
import uuid
from typing import Any
from urllib.parse import quote

from jupyterhub import orm
from jupyterhub.roles import assign_default_roles
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

#: Name of the session, beside whatever else the student has.
SERVER = "doctor"
TOKEN_SECONDS = 900
CELL_SECONDS = 90.0


class ProbeError(Exception):
    """What was asked for was refused, or did not come; the message says what was found."""


def make_token(url: str, user: str) -> tuple[str, int]:
    """Make a token of a student, who need not have been here before.

    Parameters
    ----------
    url
        SQLAlchemy URL of the hub's database.
    user
        Name of the account.

    Returns
    -------
    The token, which ends by itself after a quarter of an hour, and the number by which it is taken back.
    """
    session = orm.new_session_factory(url)()
    try:
        account = orm.User.find(session, user)
        if account is None:
            account = orm.User(name=user)
            session.add(account)
            session.commit()
            assign_default_roles(session, account)
        token: str = account.new_api_token(note="doctor", expires_in=TOKEN_SECONDS)
        return token, orm.APIToken.find(session, token).id
    finally:
        session.close()


class Student:
    """A student with a session for the doctor.

    Parameters
    ----------
    address
        Address of the service without a path. Its certificate is not looked at: another layer does so.
    user
        Name of the account.
    token
        One of its own.
    """

    def __init__(self, address: str, user: str, token: str) -> None:
        self.address = address
        self.user = user
        self._headers = {"Authorization": f"token {token}"}
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        ).open
        self.account = f"/hub/api/users/{quote(user)}"
        self.server = f"{self.account}/servers/{SERVER}"
        self.session = f"/user/{quote(user)}/{SERVER}"

    def _send(self, method: str, path: str, body: Any, seconds: float) -> str:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data=data, method=method, headers=headers)  # noqa: S310
        try:
            with self._open(request, timeout=seconds) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            try:
                said = json.loads(error.read())["message"]
            except (ValueError, KeyError, TypeError):
                said = error.reason
            raise ProbeError(f"{method} {path} is answered with {error.code}: {said}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ProbeError(f"{method} {path} is not answered: {getattr(error, 'reason', error)}") from error

    def ask(self, method: str, path: str, body: Any = None, seconds: float = 60.0) -> Any:
        """Send a request and return the JSON of the answer, None where it has none.

        Raises
        ------
        ProbeError
            The answer is a refusal, or none came.
        """
        text = self._send(method, path, body, seconds)
        return json.loads(text) if text.strip() else None

    # -- session ------------------------------------------------------------------------------------------------------

    def start(self, kind: str) -> float:
        """Start the session and wait until it is ready; return how many seconds it took.

        Raises
        ------
        ProbeError
            It is refused, or fails; how long it may take, the hub's own settings say.
        """
        begin = time.monotonic()
        self.ask("POST", self.server, {"kind": kind})
        # What the page of the start is shown: a stream of events, of which the last says how it ended. The hub sends
        # something all the time while it lasts.
        stream = self._send("GET", f"{self.server}/progress", None, 60.0)
        events = [json.loads(line.removeprefix("data:")) for line in stream.splitlines() if line.startswith("data:")]
        if not events or not events[-1].get("ready"):
            raise ProbeError(events[-1]["message"] if events else "The hub does not tell how the start ended")
        return time.monotonic() - begin

    def stop(self) -> None:
        """Stop the session and forget its name."""
        self.ask("DELETE", self.server, {"remove": True})

    def forget_token(self, number: int) -> None:
        """Take the token back, with the last request that it is good for."""
        self.ask("DELETE", f"{self.account}/tokens/a{number}")

    # -- what runs in it ----------------------------------------------------------------------------------------------

    async def run_cell(self, code: str) -> str:
        """Start a kernel, run a cell, and return what it printed.

        Raises
        ------
        ProbeError
            The kernel does not start or does not answer.
        """
        kernel = await asyncio.to_thread(self.ask, "POST", f"{self.session}/api/kernels", {"name": "python3"})
        path = f"{self.session}/api/kernels/{kernel['id']}"
        try:
            return await asyncio.wait_for(self._execute(f"{path}/channels", code), CELL_SECONDS)
        except TimeoutError:
            raise ProbeError(f"The kernel does not answer within {CELL_SECONDS:.0f} s") from None
        except Exception as error:
            raise ProbeError(f"The kernel cannot be reached: {error}") from error
        finally:
            await asyncio.to_thread(self.ask, "DELETE", path)

    async def _execute(self, path: str, code: str) -> str:
        address = self.address.replace("http", "ws", 1) + path
        socket = await websocket_connect(HTTPRequest(address, headers=self._headers, ssl_options=self._tls))
        # Jupyter's messaging protocol, version 5.3.
        identifier = uuid.uuid4().hex
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        header = {"msg_id": identifier, "msg_type": "execute_request", "version": "5.3", "username": "", "session": "a"}
        message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        try:
            await socket.write_message(json.dumps(message))
            while True:
                text = await socket.read_message()
                if text is None:
                    raise ProbeError("The kernel's WebSocket was closed")
                answer = json.loads(text)
                if answer["parent_header"].get("msg_id") != identifier:
                    continue
                if answer["msg_type"] == "stream":
                    return str(answer["content"]["text"]).strip()
                if answer["msg_type"] == "error":
                    raise ProbeError(f"The cell fails: {answer['content']['evalue']}")
        finally:
            socket.close()

    def open_display(self) -> str:
        """Open a display, close it, and return what was found; empty where the session has none.

        Raises
        ------
        ProbeError
            It does not run.
        """
        displays = f"{self.session}/xpra/api"
        try:
            status = self.ask("GET", f"{displays}/status")
        except ProbeError as error:
            if "answered with 404" in str(error):
                return ""
            raise
        if status["problem"]:
            raise ProbeError(str(status["problem"]))
        programs = [program["name"] for program in status["programs"] if program["available"]]
        wish = {"program": programs[0]} if programs else {"kind": "desktop"}
        display = self.ask("POST", f"{displays}/displays", wish)
        self.ask("DELETE", f"{displays}/displays/{display['id']}")
        if display["state"] != "running":
            raise ProbeError(f"The display is {display['state']}: {display['reason']}")
        return f"Xpra {status['xpra']} showed {programs[0] if programs else 'a desktop'}"
