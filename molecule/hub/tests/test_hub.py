"""The hub, its proxy and nginx: what they answer to whom, and what they may do on the machine."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from testing import ACCOUNTS, Browserless, Service

Say = Callable[[str], str]


def test_hub_is_healthy(service: Service) -> None:
    answer = service.get("/hub/health")
    assert answer.status_code == 200


def test_an_unknown_path_shows_our_page_of_a_missing_one(service: Service, say: Say) -> None:
    answer = service.get("/hub/no-such-page")
    assert answer.status_code == 404
    assert say("Page not found") in answer.text


@pytest.mark.parametrize("offered", ["h2", "http/1.1"])
def test_tls_speaks_http_versions(service: Service, offered: str) -> None:
    address = urlsplit(service.url)
    context = ssl.create_default_context(cafile=str(service.ca_file))
    context.set_alpn_protocols([offered])
    plain = socket.create_connection(("localhost", address.port or 443), timeout=30)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        assert tls.selected_alpn_protocol() == offered


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_refuses_old_versions(service: Service) -> None:
    address = urlsplit(service.url)
    context = ssl.create_default_context(cafile=str(service.ca_file))
    # Python's own lower limit stands in the way of offering what the server must refuse.
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    plain = socket.create_connection(("localhost", address.port or 443), timeout=30)
    with plain, pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("path", ["/hub/login", "/hub/no-such-page"])
def test_browsers_are_told_to_stay_with_https(service: Service, path: str) -> None:
    header = service.get(path).headers.get("Strict-Transport-Security", "")
    match = re.fullmatch(r"max-age=(\d+)", header)
    assert match and int(match[1]) >= 180 * 24 * 3600, header


def test_http_leads_to_https(hub: Any) -> None:
    answer = hub.check_output("curl -s -o /dev/null -w '%{http_code} %{redirect_url}' 'http://127.0.0.1/hub/login?a=b'")
    assert answer == "301 https://127.0.0.1/hub/login?a=b"


def test_metrics_are_for_the_bearer_of_the_token(service: Service, hub: Any) -> None:
    token = hub.check_output("cat /etc/jupyterhub/metrics_token")
    answer = service.get("/hub/metrics", headers={"Authorization": f"token {token}"})
    assert answer.status_code == 200
    assert "jupyterhub_running_servers" in answer.text


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token 0123456789abcdef"}])
def test_metrics_are_refused_without_the_token(service: Service, headers: dict[str, str]) -> None:
    answer = service.get("/hub/metrics", headers=headers, allow_redirects=False)
    assert answer.status_code in {302, 403}
    assert "jupyterhub_running_servers" not in answer.text


def test_metrics_token_opens_nothing_else(service: Service, hub: Any) -> None:
    token = hub.check_output("cat /etc/jupyterhub/metrics_token")
    answer = service.get("/hub/api/users", headers={"Authorization": f"token {token}"})
    assert answer.status_code == 403


# -- who may log in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice", "tanya", "ada"])
def test_right_password_logs_in(service: Service, name: str) -> None:
    user = Browserless(service, name, ACCOUNTS[name]["password"])
    user.login()
    answer = user.request("GET", f"/hub/api/users/{name}")
    assert answer.json()["name"] == name


def test_wrong_password_stays_on_the_login_page(service: Service, say: Say) -> None:
    user = Browserless(service, "alice", "not-her-password")
    answer = user.try_login()
    assert 'id="login-error"' in answer.text
    assert say("The user name or the password is wrong.") in answer.text
    assert not user.logged_in()


def test_who_has_no_account_reads_the_same_as_with_a_wrong_password(service: Service, say: Say) -> None:
    answer = Browserless(service, "nobody-of-this-name", "x").try_login()
    assert say("The user name or the password is wrong.") in answer.text


@pytest.mark.destructive
def test_wrong_passwords_lock_the_account_of_the_hub_alone(service: Service, say: Say, hub: Any) -> None:
    try:
        for _attempt in range(5):
            answer = Browserless(service, "tanya", "wrong").try_login()
            assert say("The user name or the password is wrong.") in answer.text
        user = Browserless(service, "TANYA", ACCOUNTS["tanya"]["password"])
        answer = user.try_login()
        assert 'id="login-error"' in answer.text and not user.logged_in()
        assert say("The user name or the password is wrong.") not in answer.text
        Browserless(service, "alice", ACCOUNTS["alice"]["password"]).login()
        assert "tanya" not in hub.run("faillock").stdout
    finally:
        hub.check_output("faillock --dir /run/jupyterhub/faillock --user tanya --reset")
    user.login()


@pytest.mark.parametrize("name", ["gordon", "root"])
def test_who_is_in_no_allowed_group_is_refused(service: Service, name: str) -> None:
    user = Browserless(service, name, ACCOUNTS.get(name, {}).get("password", "x"))
    user.try_login()
    assert not user.logged_in()


def test_who_may_not_log_in_is_told_that_the_password_is_right(service: Service, say: Say) -> None:
    answer = Browserless(service, "gordon", ACCOUNTS["gordon"]["password"]).try_login()
    assert answer.status_code == 403
    sentence = say(
        "Your password is right, but the account %(user)s may not use this service. "
        "If you think it should, please tell the support."
    )
    assert sentence % {"user": "gordon"} in answer.text


@pytest.mark.parametrize(("name", "is_admin"), [("ada", True), ("alice", False), ("tanya", False)])
def test_administrators_are_those_of_the_admin_groups(service: Service, name: str, is_admin: bool) -> None:
    user = Browserless(service, name, ACCOUNTS[name]["password"])
    user.login()
    assert user.request("GET", "/hub/admin").status_code == (200 if is_admin else 403)
    assert (user.request("GET", "/hub/api/users").status_code == 200) is is_admin


# Run on the machine itself: its requests come from another address than those of all other tests. Each request claims
# another address of its client, which must not help.
GUESS = """
import http.client, json, ssl
context = ssl.create_default_context(cafile="/etc/nginx/tls/certificate.pem")
answers = []
for attempt in range(150):
    connection = http.client.HTTPSConnection("localhost", 443, context=context, timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": f"192.0.2.{attempt}"}
    connection.request("POST", "/hub/login", f"username=alice&password=guess-{attempt}", headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    answers.append(answer.status)
    if answer.status == 429:
        break
tickets = []
while len(tickets) < 150 and 429 not in tickets:
    connection = http.client.HTTPSConnection("localhost", 443, context=context, timeout=30)
    connection.request("POST", "/hub/ticket", "password=guess", headers)
    tickets.append(connection.getresponse().status)
connection = http.client.HTTPSConnection("localhost", 443, context=context, timeout=30)
connection.request("GET", "/hub/login")
look = connection.getresponse().status
print(json.dumps({"answers": answers, "look": look, "tickets": tickets, "body": body}))
"""


def test_guessing_passwords_is_stopped_for_that_address_only(service: Service, hub: Any) -> None:
    result = json.loads(hub.check_output("python3 -c %s", GUESS))
    # A burst is allowed: a lecture hall shares one address.
    assert 30 < len(result["answers"]) <= 150
    assert result["answers"][-1] == 429, result["answers"]
    ours = hub.check_output("cat /var/www/cygnet/429.html")
    assert result["body"].strip() == ours.strip()
    # The other page that takes a password is no way round: one or the other is let through as the seconds pass.
    assert result["tickets"][-1] == 429 and len(result["tickets"]) <= 10, result["tickets"]
    # Who looks at the page is no guesser, and other addresses log in as before.
    assert result["look"] == 200
    Browserless(service, "alice", ACCOUNTS["alice"]["password"]).login()


# -- what the services may do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "most"), [("jupyterhub", 3.0), ("chp", 4.0), ("nginx", 4.0)])
def test_unit_is_hardened(hub: Any, unit: str, most: float) -> None:
    # Other versions of systemd ask for more or less: the figure is that of the machine's own.
    out = hub.check_output(f"systemd-analyze security --no-pager {unit}.service")
    match = re.search(r"exposure level for \S+: ([\d.]+)", out)
    assert match, out
    bad = [line for line in out.splitlines() if line.startswith("✗")]
    assert float(match[1]) <= most, "\n".join(bad)


def test_only_nginx_and_sshd_listen_on_tcp(hub: Any) -> None:
    listeners = hub.check_output("ss -Hltnp").splitlines()
    assert listeners
    names = {name for line in listeners for name in re.findall(r'\("([^"]+)"', line)}
    assert names <= {"nginx", "sshd"}, "\n".join(listeners)


def test_nothing_of_the_machine_failed(hub: Any) -> None:
    assert hub.run("systemctl is-system-running").stdout.strip() == "running", hub.run("systemctl --failed").stdout
