"""In the place of Xpra: a server on its socket that echoes over the WebSocket."""

from __future__ import annotations

import asyncio
import json
import sys

from tornado import httpserver, netutil, web, websocket


class Echo(websocket.WebSocketHandler):
    """Send back what comes; `close CODE` closes, `request` is answered with the request."""

    max_message_size = 2**40

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "binary" if "binary" in subprotocols else None

    def check_origin(self, origin: str) -> bool:
        return True

    async def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith("close"):
            self.close(int(message.split()[1]), "as asked")
        elif message == "request":
            await self.write_message({"uri": self.request.uri, "headers": dict(self.request.headers)})
        else:
            await self.write_message(message, binary=isinstance(message, bytes))


class Page(web.RequestHandler):
    """Answer who asks whether it is there."""

    async def get(self) -> None:
        self.finish("here")


async def main() -> None:
    """Listen on the socket of the command line."""
    (path,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--bind=")]
    server = httpserver.HTTPServer(web.Application([("/websocket", Echo), ("/.*", Page)]))
    server.add_socket(netutil.bind_unix_socket(path))
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("xpra v6.5-r0")
    elif sys.argv[1] in {"start", "start-desktop"}:
        asyncio.run(main())
    else:
        sys.exit(json.dumps(sys.argv))
