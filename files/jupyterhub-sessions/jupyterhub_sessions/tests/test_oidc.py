"""Single sign-on: a provider on loopback says who somebody is, and the machine whether that account may log in."""

import asyncio
import base64
import contextlib
import hashlib
import http.server
import json
import logging
import pwd
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from oauthenticator.oauth2 import _serialize_state
from tornado.web import HTTPError
from traitlets.config import Config

from jupyterhub_sessions import accounts, oidc, upstream
from jupyterhub_sessions.accounts import RefusedError
from jupyterhub_sessions.oidc import OidcAuthenticator

VERIFIER = "a-verifier-of-forty-three-characters-or-more-x"
SECRET = "the-secret-of-the-hub"
ACCOUNTS = {"alice": 10001, "ivan.petrov": 10007, "maria": 10008, "olga": 10006, "gordon": 10005, "root": 0}
GROUPS = {"alice": {"students"}, "maria": {"students"}, "olga": {"students"}, "root": {"students"}}


class Provider(http.server.ThreadingHTTPServer):
    """Answer as a provider does that has just sent a browser back with a code."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.issuer = self.url
        self.claims: Any = {"sub": "1", "preferred_username": "alice"}
        self.token: Any = {"access_token": "token-1", "token_type": "Bearer", "id_token": "identity-1"}
        self.refusal: dict[str, str] | None = None
        self.asked: list[str] = []


class Answers(http.server.BaseHTTPRequestHandler):
    """The three answers of a provider."""

    server: Provider

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class calls it so)
        """Keep silent."""

    def _answer(self, status: int, content: Any) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Describe the provider, or the person whose token it is."""
        self.server.asked.append(self.path)
        url = self.server.url
        if self.path == "/.well-known/openid-configuration":
            found = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
            description = {name: f"{url}/{path}" for name, path in found.items()}
            self._answer(200, description | {"issuer": self.server.issuer, "end_session_endpoint": f"{url}/logout?a&b"})
        elif self.headers["Authorization"] == "Bearer token-1":
            self._answer(200, self.server.claims)
        else:
            self._answer(401, {})

    def do_POST(self) -> None:
        """Exchange the code, for the client that knows its secret and the verifier."""
        self.server.asked.append(self.path)
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        if self.server.refusal:
            self._answer(400, self.server.refusal)
        elif (form["client_id"], form["client_secret"]) != ("hub", SECRET):
            self._answer(401, {"error": "invalid_client"})
        elif form["code"] != "code-1" or form["code_verifier"] != VERIFIER:
            self._answer(400, {"error": "invalid_grant"})
        else:
            self._answer(200, self.server.token)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Run a provider."""
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine with some accounts, one of them expired."""

    def getpwnam(name: str) -> Any:
        return SimpleNamespace(pw_name=name, pw_uid=ACCOUNTS[name], pw_gid=20000)

    def check_account(user: str, **settings: Any) -> None:
        assert settings["service"] == "jupyterhub"
        if user == "olga":
            raise RefusedError("The account olga has expired.")

    def in_groups(user: str, groups: set[str]) -> bool:
        return bool(GROUPS.get(user, set()) & groups)

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    monkeypatch.setattr(oidc, "check_account", check_account)
    monkeypatch.setattr(accounts, "in_groups", in_groups)


Make = Callable[..., OidcAuthenticator]


@pytest.fixture
def make(provider: Provider) -> Make:
    """Return a function that makes the authenticator with further settings."""

    def make(**settings: Any) -> OidcAuthenticator:
        config = Config()
        config.OidcAuthenticator.update(
            {"client_id": "hub", "client_secret": SECRET, "issuer": provider.url, **settings}
        )
        config.PAMAuthenticator.allowed_groups = {"students", "staff"}
        config.PAMAuthenticator.admin_groups = {"staff"}
        config.AccountsAuthenticator.directory = False
        return OidcAuthenticator(config=config)

    return make


def browser(code: str = "code-1", verifier: str = VERIFIER) -> Any:
    """Return the request with which a browser comes back from the provider."""
    state = _serialize_state({"state_id": "1", "code_verifier": verifier})
    return SimpleNamespace(
        get_argument=lambda name: {"code": code}[name],
        get_state_cookie=lambda: state,
        hub=SimpleNamespace(server=SimpleNamespace(base_url="/hub/")),
        request=SimpleNamespace(protocol="https", host="hub.example.org", remote_ip="192.0.2.1"),
    )


async def log_in(authenticator: OidcAuthenticator, request: Any = None) -> Any:
    """Log in as the hub does."""
    return await authenticator.get_authenticated_user(request or browser(), None)


async def refusal(authenticator: OidcAuthenticator, request: Any = None) -> RefusedError:
    """Log in in vain."""
    with pytest.raises(RefusedError) as caught:
        await log_in(authenticator, request)
    return caught.value


# -- who it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "claims", "account"),
    [
        ({}, {"preferred_username": "alice"}, "alice"),
        ({}, {"preferred_username": "Maria"}, "maria"),
        ({"username_claim": "uid"}, {"preferred_username": "olga", "uid": "alice"}, "alice"),
        ({"username_domain": "example.org"}, {"preferred_username": "alice@example.org"}, "alice"),
        ({"username_domain": "Example.org"}, {"preferred_username": "Alice@EXAMPLE.ORG"}, "alice"),
    ],
)
async def test_claim_names_the_account(
    make: Make, provider: Provider, settings: dict[str, str], claims: dict[str, str], account: str
) -> None:
    provider.claims = claims
    user = await log_in(make(**settings))
    assert user["name"] == account


async def test_nothing_of_the_provider_is_kept(make: Make) -> None:
    user = await log_in(make())
    assert "token-1" not in json.dumps(user) and "identity-1" not in json.dumps(user)
    assert user["auth_state"] is None


async def test_provider_is_asked_for_its_addresses_once(make: Make, provider: Provider) -> None:
    authenticator = make()
    await log_in(authenticator)
    await log_in(authenticator)
    assert provider.asked.count("/.well-known/openid-configuration") == 1


async def test_addresses_may_be_given_in_place_of_the_issuer(make: Make, provider: Provider) -> None:
    url = provider.url
    user = await log_in(
        make(issuer="", authorize_url=f"{url}/authorize", token_url=f"{url}/token", userdata_url=f"{url}/userinfo")
    )
    assert user["name"] == "alice"
    assert "/.well-known/openid-configuration" not in provider.asked


# -- who may not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vera", "root", "x" * 300, "al\0ice", "alice@example.org"])
async def test_no_account_is_refused_with_both_names(make: Make, provider: Provider, name: str) -> None:
    provider.claims = {"preferred_username": name}
    error = await refusal(make())
    assert error.status_code == 403
    assert f"You are logged in as {name}, but there is no account {name}" in error.jupyterhub_message


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "@example.org", "alice@example.org.example.com"])
async def test_other_domain_is_refused(make: Make, provider: Provider, name: str) -> None:
    provider.claims = {"preferred_username": name}
    error = await refusal(make(username_domain="example.org"))
    assert error.status_code == 403 and "only accounts of example.org" in error.jupyterhub_message


async def test_expired_account_is_refused_in_the_words_of_pam(make: Make, provider: Provider) -> None:
    provider.claims = {"preferred_username": "olga"}
    assert "has expired" in (await refusal(make())).jupyterhub_message


async def test_account_in_no_group_is_refused(make: Make, provider: Provider) -> None:
    provider.claims = {"preferred_username": "gordon"}
    error = await refusal(make())
    assert error.status_code == 403 and "logged in as gordon" in error.jupyterhub_message
    # They gave no password here.
    assert "password" not in error.jupyterhub_message


async def test_who_is_refused_can_log_in_as_somebody_else(make: Make, provider: Provider) -> None:
    provider.claims = {"preferred_username": "<b>"}
    error: Any = await refusal(make())
    assert f'<a href="{provider.url}/logout?a&amp;b">' in error.jupyterhub_html_message
    assert "<b>" not in error.jupyterhub_html_message


async def test_groups_decide_who_administers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await log_in(make()))["admin"] is False
    monkeypatch.setitem(GROUPS, "alice", {"staff"})
    assert (await log_in(make()))["admin"] is True


async def test_directory_out_of_reach_is_said(make: Make, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.claims = {"preferred_username": "vera"}
    authenticator = make()
    authenticator.accounts.directory = True
    monkeypatch.setattr(oidc, "directory_offline", lambda: True)
    message = (await refusal(authenticator)).jupyterhub_message
    assert "directory of accounts cannot be reached" in message and "password" not in message


# -- a provider that does not do its part ---------------------------------------------------------------------------


async def test_code_works_with_its_verifier_only(make: Make) -> None:
    assert (await refusal(make(), browser(verifier="another"))).status_code == 400


async def test_used_code_asks_for_a_new_login(make: Make) -> None:
    error = await refusal(make(), browser(code="code-0"))
    assert error.status_code == 400 and "once more" in error.jupyterhub_message


async def test_wrong_secret_is_not_the_users_fault(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    error = await refusal(make(client_secret="another-secret"))
    assert error.status_code == 500 and "cannot be asked who you are" in error.jupyterhub_message
    assert "invalid_client" in caplog.text
    assert "another-secret" not in caplog.text


async def test_missing_claim_is_logged_with_those_there_are(
    make: Make, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.claims = {"sub": "1", "email": "alice@example.org"}
    assert (await refusal(make())).status_code == 500
    assert "preferred_username" in caplog.text and "email, sub" in caplog.text
    assert "alice@example.org" not in caplog.text


@pytest.mark.parametrize("token", [{"id_token": "identity-1"}, "no JSON, identity-1", [], None])
async def test_answer_without_a_token_leaks_nothing(
    make: Make, provider: Provider, caplog: pytest.LogCaptureFixture, token: Any
) -> None:
    provider.token = token
    error = await refusal(make())
    assert error.status_code == 500
    assert "identity-1" not in caplog.text + str(error) + error.jupyterhub_message


async def test_issuer_must_be_the_one_that_was_asked(
    make: Make, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.issuer = "https://elsewhere.example.org"
    assert (await refusal(make())).status_code == 500
    assert "https://elsewhere.example.org" in caplog.text
    assert provider.asked == ["/.well-known/openid-configuration"]


async def test_provider_away_is_said(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    authenticator = make(issuer="http://127.0.0.1:1")
    assert "cannot be asked who you are" in (await refusal(authenticator)).jupyterhub_message
    assert "http://127.0.0.1:1" in caplog.text


async def test_silent_provider_delays_for_a_bounded_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "ANSWER_SECONDS", 0.3)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    with contextlib.closing(server):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await asyncio.wait_for(refusal(make(issuer=url)), 5)
    assert error.status_code == 500


# -- the handler and the settings -----------------------------------------------------------------------------------


def test_code_challenge_is_of_the_verifier() -> None:
    verifier, challenge = oidc.LoginHandler._generate_pkce_params(SimpleNamespace())
    digest = hashlib.sha256(verifier.encode()).digest()
    assert challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.mark.parametrize(
    ("message", "ours"),
    [
        ("OAuth state missing from cookies", "once more"),
        ("OAuth state mismatch", "once more"),
        ("OAuth callback made without a code", "once more"),
        ("OAuth error: pay at http://elsewhere.example.org", "ended without a login"),
    ],
)
def test_sentences_of_oauthenticator_are_ours(message: str, ours: str) -> None:
    translated = upstream.translate(message)
    assert ours in translated and "elsewhere" not in translated


def test_ticket_page_is_there_where_there_are_tickets(make: Make) -> None:
    authenticator = make()
    assert "/ticket" not in [handler[0] for handler in authenticator.get_handlers(None)]
    authenticator.accounts.kerberos = True
    assert "/ticket" in [handler[0] for handler in authenticator.get_handlers(None)]


def test_inputs_of_the_role_are_the_settings() -> None:
    spec = oidc.__file__.rpartition("/files/")[0] + "/roles/jupyterhub/meta/argument_specs.yml"
    with open(spec, encoding="utf-8") as file:
        options = yaml.safe_load(file)["argument_specs"]["main"]["options"]["jupyterhub_oidc"]["options"]
    traits = OidcAuthenticator.class_traits(config=True)
    assert not options.keys() - traits.keys()
    told = {name: option["default"] for name, option in options.items() if "default" in option}
    assert told == {name: traits[name].default() for name in told}


async def test_errors_of_the_hub_stay_errors(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = make()
    logging.getLogger(__name__)

    def fail(*_arguments: Any) -> None:
        raise HTTPError(400, "Authentication Cancelled.")

    monkeypatch.setattr(authenticator, "build_access_tokens_request_params", fail)
    with pytest.raises(HTTPError) as caught:
        await log_in(authenticator)
    assert caught.value.status_code == 400
