"""Log in with the university's accounts: who gets in, what the others read, and the Kerberos ticket of a session."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from testing import PEOPLE, Browserless, Service, new_kernel, notices, person, ticket_of, wait_for

Say = Callable[[str], str]

MAY = [name for name, person in PEOPLE.items() if person["role"] in {"student", "teacher", "admin"}]
WRONG = "The user name or the password is wrong."
UNREACHABLE = (
    "The university’s directory of accounts cannot be reached, so your password cannot be checked. Those who "
    "logged in here lately can still do so, with the password they used then. Please try again later."
)
#: How soon a login must be answered when the directory is away.
ANSWER_SECONDS = 10


def refused(user: Browserless) -> str:
    """Try to log in, and return what the login page says to it."""
    answer = user.try_login()
    assert answer.status_code == 403, answer.text
    assert not user.logged_in()
    match = re.search(r'id="login-error">(.*?)</p>', answer.text, re.DOTALL)
    assert match, answer.text
    return html.unescape(re.sub(r"<[^>]+>", "", match[1]))


# -- who gets in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAY)
def test_accounts_of_the_directory_log_in(service: Service, name: str) -> None:
    user = person(service, name)
    user.login()
    assert user.request("GET", f"/hub/api/users/{name}").json()["name"] == name
    is_admin = PEOPLE[name]["role"] == "admin"
    assert (user.request("GET", "/hub/api/users").status_code == 200) is is_admin


@pytest.mark.parametrize("typed", ["Maria", "MARIA", "maria", "  maria "])
def test_name_is_written_as_one_likes(service: Service, typed: str) -> None:
    user = person(service, "maria", typed)
    user.login()
    assert user.request("GET", "/hub/api/user").json()["name"] == "maria"


def test_a_group_of_thousands_delays_nobody(service: Service) -> None:
    person(service, "galina").login()
    begin = time.monotonic()
    person(service, "galina").login()
    assert time.monotonic() - begin < 10


def test_a_class_logs_in_at_once(service: Service) -> None:
    with ThreadPoolExecutor(30) as threads:
        logins = [threads.submit(person(service, MAY[number % len(MAY)]).login) for number in range(30)]
    assert [login.exception() for login in logins] == [None] * 30


@pytest.mark.destructive
def test_password_changed_on_the_server(service: Service, say: Say, campus: Any) -> None:
    old = person(service, "bob")
    old.login()
    campus.check_output("campus-ctl password bob swan-lake-changed")
    try:
        assert refused(old) == say(WRONG)
        Browserless(service, "bob", "swan-lake-changed").login()
    finally:
        campus.check_output("campus-ctl password bob %s", PEOPLE["bob"]["password"])
    # Lest SSSD's cache keeps the other one.
    person(service, "bob").login()


# -- what the others read ---------------------------------------------------------------------------------------------


def test_wrong_password_and_unknown_name_read_the_same(service: Service, say: Say) -> None:
    assert refused(Browserless(service, "alice", "wrong")) == say(WRONG)
    assert refused(Browserless(service, "nobody-of-this-name", "wrong")) == say(WRONG)


def test_expired_account(service: Service, say: Say) -> None:
    said = say("The account %(user)s has expired. Please tell the support.") % {"user": "olga"}
    assert refused(person(service, "olga")) == said


def test_not_in_an_allowed_group(service: Service, say: Say) -> None:
    sentence = say(
        "Your password is right, but the account %(user)s may not use this service. "
        "If you think it should, please tell the support."
    )
    assert refused(person(service, "gordon")) == sentence % {"user": "gordon"}
    # Who guesses learns nothing of it.
    assert refused(Browserless(service, "gordon", "wrong")) == say(WRONG)


LATER = """
import pathlib, time
path = pathlib.Path("/run/jupyterhub/faillock/bob")
records = path.read_bytes()
then = (int(time.time()) - 3600).to_bytes(8, "little")
path.write_bytes(b"".join(records[at:at + 56] + then for at in range(0, len(records), 64)))
"""


@pytest.mark.destructive
def test_wrong_passwords_lock_one_account_for_a_time(service: Service, say: Say, hub: Any) -> None:
    for _attempt in range(5):
        assert refused(Browserless(service, "bob", "wrong")) == say(WRONG)
    # Under any spelling of the name, also with the right password.
    for typed in ("bob", "BOB"):
        said = refused(person(service, "bob", typed))
        assert "bob" in said and re.search(r"\b10\b", said) and said != say(WRONG)
    person(service, "alice").login()
    # The machine itself is not locked: ssh and the console count apart.
    assert "bob" not in hub.run("faillock").stdout
    hub.check_output("python3 -c %s", LATER)
    person(service, "bob").login()


@pytest.mark.destructive
@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_directory_out_of_reach(service: Service, say: Say, hub: Any, campus: Any, fault: str) -> None:
    # Nobody but bob has logged in here; galina is known, with no password kept; tanya is not even known.
    hub.check_output("systemctl stop sssd && rm -f /var/lib/sss/db/* /var/lib/sss/mc/* && systemctl start sssd")
    begin = time.monotonic()
    person(service, "bob").login()
    # What a login costs this machine anyway: the rest is what the missing directory costs.
    allowed = ANSWER_SECONDS + time.monotonic() - begin
    hub.check_output("id galina")
    campus.check_output(f"campus-ctl {fault} all")
    try:
        for attempt in range(2):
            for name in ("galina", "tanya"):
                begin = time.monotonic()
                assert refused(person(service, name)) == say(UNREACHABLE)
                assert time.monotonic() - begin < allowed, f"{name}, attempt {attempt}"
            begin = time.monotonic()
            person(service, "bob").login()
            assert time.monotonic() - begin < allowed
            assert refused(Browserless(service, "bob", "wrong")) == say(WRONG)
        # What could not be checked was no wrong password.
        assert hub.run("stat -c %%s /run/jupyterhub/faillock/galina").stdout.strip() in {"", "0"}
    finally:
        campus.check_output(f"campus-ctl {'start' if fault == 'stop' else 'thaw'} all")
    wait_for("a login with the directory", lambda: person(service, "tanya").try_login().status_code == 200, 180)


def test_root_cannot_be_locked_out_of_the_machine(service: Service, hub: Any) -> None:
    for _attempt in range(6):
        refused(Browserless(service, "root", "wrong"))
    assert not [line for line in hub.run("faillock --user root").stdout.splitlines() if line.endswith("V")]


# -- the ticket -----------------------------------------------------------------------------------------------------


def renew(user: Browserless, password: str) -> Any:
    """Send the form of the page."""
    page = user.request("GET", "/hub/ticket")
    match = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
    assert match
    return user.request("POST", "/hub/ticket", data={"password": password, "_xsrf": match[1]})


def test_kernel_has_a_ticket_and_uses_it(service: Service, alice: Browserless) -> None:
    alice.login()
    alice.enter()
    with new_kernel(alice) as kernel:
        status, listing = kernel.shell("klist")
        assert status == 0 and "alice@EXAMPLE.ORG" in listing and "KCM:10001" in listing, listing
        whoami = "LDAPTLS_CACERT=/etc/ssl/certs/sssd-ca.pem ldapwhoami -Q -Y GSSAPI -H ldap://ldap.example.org -ZZ"
        status, answer = kernel.shell(whoami)
        assert status == 0 and "uid=alice," in answer, answer
    state, expires = ticket_of(alice)
    assert state == "valid" and expires > datetime.now(UTC)
    assert notices(alice) == set()


def test_nobody_sees_the_ticket_of_another(alice: Browserless, bob: Browserless) -> None:
    alice.login()
    with new_kernel(bob) as kernel:
        for cache in ("KCM:10001", "KCM:10001:0"):
            status, listing = kernel.shell(f"klist -c {cache}")
            assert status != 0 and "alice" not in listing, listing


def test_ticket_is_not_renewed_by_a_wrong_password(alice: Browserless, say: Say) -> None:
    before = ticket_of(alice)
    answer = renew(alice, "wrong")
    assert answer.status_code == 403 and say("The password is wrong.") in answer.text
    assert ticket_of(alice) == before


def test_wrong_passwords_for_the_ticket_lock_as_well(service: Service, alice: Browserless, say: Say) -> None:
    for _attempt in range(5):
        renew(alice, "wrong")
    assert refused(person(service, "alice")) != say(WRONG)


@pytest.mark.destructive
def test_ticket_is_renewed_by_itself(hub: Any, short_ticket: Callable[[str, str], Browserless]) -> None:
    # sssd-kcm looks at the tickets once in this time, and renews those of which half the life is over.
    interval = hub.check_output("sed -n 's/^krb5_renew_interval = //p' /etc/sssd/sssd.conf")
    match = re.fullmatch(r"(\d+)([smh]?)", interval)
    assert match, interval
    seconds = int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    life = max(120, 4 * seconds)
    user = short_ticket(f"{life}s", "1d")
    state, first = ticket_of(user)
    assert state == "valid"
    wait_for("a longer ticket", lambda: ticket_of(user)[1] > first, life, 5)
    assert ticket_of(user)[0] == "valid"
