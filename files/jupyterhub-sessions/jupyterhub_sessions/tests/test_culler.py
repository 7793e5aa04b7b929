"""The culler reaches a hub that listens on a unix socket only."""

from pathlib import Path

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import Resolver, bind_unix_socket
from tornado.web import Application, RequestHandler

from jupyterhub_sessions.culler import HubSocketResolver


class Hub(RequestHandler):
    def get(self) -> None:
        self.write("the hub")


async def test_any_name_leads_to_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    server = HTTPServer(Application([("/hub/api", Hub)]))
    server.add_socket(bind_unix_socket(path))
    Resolver.configure(HubSocketResolver, path=path)
    try:
        answer = await AsyncHTTPClient(force_instance=True).fetch("http://hub/hub/api")
    finally:
        Resolver.configure(None)
        server.stop()
    assert answer.body == b"the hub"
