"""The directory's accounts on the machine: who is known, who may log in, and what holds while the servers are away."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from testing import PEOPLE, Vms, taken_away, wait_for

#: What a login may take while the servers are silent.
REFUSED_SECONDS = 10.0
BACK_SECONDS = 60.0

# Asks PAM as any service does that has no file in /etc/pam.d; prints what it answers.
ASK_PAM = r"""
import ctypes, json, sys, time
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_void_p, cast, sizeof
pam, libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL("libc.so.6")
libc.calloc.restype = libc.strdup.restype = c_void_p
class Message(Structure):
    _fields_ = [("style", c_int), ("text", c_char_p)]
class Response(Structure):
    _fields_ = [("text", c_void_p), ("code", c_int)]
TALK = ctypes.CFUNCTYPE(c_int, c_int, POINTER(POINTER(Message)), POINTER(POINTER(Response)), c_void_p)
class Conversation(Structure):
    _fields_ = [("talk", TALK), ("data", c_void_p)]
user, password = sys.argv[1:]
said = []
@TALK
def talk(count, messages, responses, data):
    answer = cast(libc.calloc(count, sizeof(Response)), POINTER(Response))
    for number in range(count):
        message = messages[number].contents
        if message.style in (1, 2):
            answer[number].text = libc.strdup(password.encode())
        else:
            said.append(message.text.decode())
    responses[0] = answer
    return 0
handle, conversation = c_void_p(), Conversation(talk, None)
assert pam.pam_start(b"cygnet-test", user.encode(), byref(conversation), byref(handle)) == 0
begin = time.monotonic()
auth = pam.pam_authenticate(handle, 0)
account = pam.pam_acct_mgmt(handle, 0) if auth == 0 else None
print(json.dumps({"auth": auth, "account": account, "said": said, "seconds": time.monotonic() - begin}))
"""
SUCCESS, PERM_DENIED, AUTH_ERR = 0, 6, 7


@pytest.fixture(scope="module")
def campus(vms: Vms) -> Any:
    """Give root's shell on the university's own machine."""
    return vms.host("campus")


def log_in(hub: Any, user: str, password: str = "") -> dict[str, Any]:
    """Ask the machine's PAM; the password is the account's own unless another is given."""
    password = password or PEOPLE[user.lower()]["password"]
    command = ["python3", "-c", ASK_PAM, user, password]
    answer: dict[str, Any] = json.loads(hub.check_output(shlex.join(command)))
    return answer


def online(hub: Any) -> bool:
    """Tell whether SSSD reaches the directory."""
    return "Online status: Online" in hub.run("sssctl domain-status -o example.org").stdout


@contextmanager
def away(hub: Any, campus: Any, how: str, which: str = "all") -> Iterator[None]:
    """Take servers away for a while."""
    try:
        with taken_away(campus, how, which):
            yield
    finally:
        wait_for("SSSD to reach the directory again", lambda: online(hub), BACK_SECONDS)


# -- who is known ---------------------------------------------------------------------------------------------------


def test_numbers_and_groups_are_those_of_the_directory(hub: Any) -> None:
    names = " ".join(PEOPLE)
    lines = hub.check_output(f"for u in {names}; do id -u $u; id -gn $u; id -Gn $u; done").splitlines()
    for number, person in enumerate(PEOPLE.values()):
        uid, primary, groups = lines[3 * number : 3 * number + 3]
        assert (int(uid), primary) == (person["uid"], person["primary_group"])
        # RFC 2307 nests no groups: nobody is in more of them than the list says.
        assert set(groups.split()) == {person["primary_group"], *person["groups"]}


def test_capital_letter_is_the_same_account(hub: Any) -> None:
    assert hub.check_output("getent passwd Maria").split(":")[0] == "maria"


@pytest.mark.destructive
def test_primary_group_of_thousands_costs_nothing(hub: Any) -> None:
    hub.check_output("sss_cache --everything")
    begin = time.monotonic()
    assert "physics" in hub.check_output("id galina")
    assert time.monotonic() - begin < 5
    assert hub.check_output("getent group physics").endswith(":")


def test_local_accounts_are_what_they_were(hub: Any) -> None:
    assert hub.run("getent -s sss passwd root").rc != 0
    assert hub.check_output("id -u root; id -u admin") == "0\n1000"


# -- who may log in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["alice", "ivan.petrov", "maria", "Maria", "galina", "tanya", "ada"])
def test_right_password_logs_in(hub: Any, user: str) -> None:
    answer = log_in(hub, user)
    assert (answer["auth"], answer["account"]) == (SUCCESS, SUCCESS), answer


def test_who_is_refused_and_how(hub: Any) -> None:
    assert log_in(hub, "alice", "not-her-password")["auth"] == AUTH_ERR
    # The password is right; the group is not among sssd_allowed_groups.
    gordon = log_in(hub, "gordon")
    assert (gordon["auth"], gordon["account"]) == (SUCCESS, PERM_DENIED)
    # The KDC says that the account has expired before it looks at the password.
    assert log_in(hub, "olga")["auth"] == AUTH_ERR
    since = hub.check_output("journalctl --since -1min --no-pager --output=cat")
    assert "received for user olga: 13 (User account has expired)" in since


@pytest.mark.destructive
def test_password_of_the_directory_opens_no_local_account(hub: Any) -> None:
    # Not by useradd: it knows the directory's account, and refuses.
    hub.check_output(
        "cp -p /etc/passwd /etc/shadow /run/ && echo tanya:x:1777:65534::/nonexistent:/bin/sh >> /etc/passwd"
        " && echo tanya:$(openssl passwd -6 a-local-password):20000:0:99999:7::: >> /etc/shadow"
    )
    try:
        assert log_in(hub, "tanya")["auth"] == AUTH_ERR
        local = log_in(hub, "tanya", "a-local-password")
        assert (local["auth"], local["account"]) == (SUCCESS, SUCCESS)
    finally:
        hub.check_output("mv /run/passwd /run/shadow /etc/")


# -- the ticket -------------------------------------------------------------------------------------------------------

SANDBOX = "systemd-run --quiet --wait --pipe --collect -p User=alice -p PrivateTmp=yes -p ProtectSystem=strict"


def test_ticket_is_seen_in_a_sandbox_and_outlives_its_keeper(hub: Any) -> None:
    assert log_in(hub, "alice")["auth"] == SUCCESS
    first = hub.check_output(f"{SANDBOX} klist")
    assert "krbtgt/EXAMPLE.ORG@EXAMPLE.ORG" in first and "renew until" in first
    hub.check_output("systemctl restart sssd-kcm")
    assert hub.check_output(f"{SANDBOX} klist") == first
    # Nobody else has it.
    assert "alice" not in hub.run(f"{SANDBOX.replace('User=alice', 'User=bob')} klist -A").stdout


# -- servers away -----------------------------------------------------------------------------------------------------


@pytest.mark.destructive
@pytest.mark.parametrize("how", ["freeze", "stop"])
def test_directory_and_kdc_away(hub: Any, campus: Any, how: str) -> None:
    assert log_in(hub, "alice")["auth"] == SUCCESS
    hub.check_output("id bob")
    with away(hub, campus, how):
        # Known, but never logged in: nothing to compare the password with. The first to notice waits longest.
        stranger = log_in(hub, "p0002", "x")
        cached = log_in(hub, "alice")
        wrong = log_in(hub, "alice", "not-her-password")
        begin = time.monotonic()
        hub.check_output("getent passwd admin no-such-account root || true; sudo -u admin true")
        assert time.monotonic() - begin < 3
    assert stranger["auth"] == AUTH_ERR and stranger["seconds"] < REFUSED_SECONDS, stranger
    assert (cached["auth"], cached["account"]) == (SUCCESS, SUCCESS) and cached["seconds"] < REFUSED_SECONDS, cached
    assert any("cached credentials" in text for text in cached["said"])
    assert wrong["auth"] == AUTH_ERR


@pytest.mark.destructive
def test_kdc_alone_silent(hub: Any, campus: Any) -> None:
    assert log_in(hub, "alice")["auth"] == SUCCESS
    with away(hub, campus, "freeze", "kdc"):
        cached = log_in(hub, "alice")
    assert cached["auth"] == SUCCESS and cached["seconds"] < REFUSED_SECONDS, cached


# -- clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.destructive
@pytest.mark.parametrize("minutes", [-20, 20])
def test_clock_of_the_kdc_is_wrong(hub: Any, campus: Any, minutes: int) -> None:
    campus.check_output("date --set=%s", f"{minutes} minutes")
    try:
        done = hub.run("check-directory alice")
        alice, bob = log_in(hub, "alice"), log_in(hub, "bob", "not-his-password")
    finally:
        campus.check_output("date --set=%s", f"{-minutes} minutes")
    assert done.rc == 1 and re.search(r"^FAILED  clock: .*1[12]\d\d s", done.stdout, re.MULTILINE), done.stdout
    # The library learns the KDC's time from its first answer.
    assert (alice["auth"], alice["account"]) == (SUCCESS, SUCCESS)
    assert bob["auth"] == AUTH_ERR


# -- wrong settings ---------------------------------------------------------------------------------------------------

FILES = "/etc/sssd/sssd.conf /etc/krb5.conf /etc/ssl/certs/sssd-ca.pem /etc/security/access-sssd.conf"
CANDIDATE = "/run/candidate"


def test_checker_finds_no_fault(hub: Any) -> None:
    done = hub.run("check-directory alice")
    assert done.rc == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "change", "layer", "found"),
    [
        ("etc/sssd/sssd.conf", "s/ldap.example.org/ldpa.example.org/", "DNS", "ldpa.example.org is not known"),
        ("etc/sssd/sssd.conf", "s/ldap.example.org/ldap.example.org:3899/", "TCP", "port 3899 refuses connections"),
        ("etc/sssd/sssd.conf", "s/^ldap_uri.*/ldap_uri = ldap:\\/\\/10.0.2.11:22/", "TLS", ""),
        (
            "etc/sssd/sssd.conf",
            "s/^krb5_realm.*/krb5_realm = EXAMPLE.COM/",
            "KDC",
            "does not serve the realm EXAMPLE.COM",
        ),
        ("etc/sssd/sssd.conf", "s/^krb5_server.*/krb5_server = kdc.example.org:8888/", "TCP", "Correct sssd_kdcs"),
        ("etc/sssd/sssd.conf", "s/swan-bind-1/wrong/", "bind", "invalid credentials"),
        ("etc/sssd/sssd.conf", "s/^\\(ldap_search_base.*\\)dc=org/\\1dc=com/", "search", "has no dc=example,dc=com"),
        ("etc/sssd/sssd.conf", "s/^min_id.*/min_id = 20000/", "search", "uidNumber of alice is 10001, outside"),
        ("etc/sssd/sssd.conf", "s/^ldap_search_base/ldap_serach_base/", "configuration", "ldap_serach_base"),
        ("etc/ssl/certs/sssd-ca.pem", "other", "TLS", "is not accepted"),
    ],
)
def test_layer_of_a_wrong_setting_is_named(hub: Any, file: str, change: str, layer: str, found: str) -> None:
    path = f"{CANDIDATE}/{file}"
    edit = f"sed -i {shlex.quote(change)} {path}"
    if change == "other":
        edit = f"openssl req -x509 -newkey rsa:2048 -noenc -days 9 -subj /CN=Other -keyout /dev/null -out {path}"
    hub.check_output(f"mkdir -p {CANDIDATE}/etc && cp --parents /{file} {CANDIDATE} && {edit} && chmod 600 {path}")
    try:
        done = hub.run(f"check-directory --root={CANDIDATE} alice")
    finally:
        hub.check_output(f"rm -r {CANDIDATE}")
    failed = re.search(r"^FAILED  (\w+): (.*)", done.stdout, re.MULTILINE)
    assert done.rc == 1 and failed, done.stdout
    assert failed[1] == layer and found in failed[2], done.stdout


@pytest.mark.destructive
@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"sssd_bind_password": "wrong-bind-9"}, "nothing was changed. bind: ldap.example.org refuses"),
        # Nothing but SSSD itself sees this one.
        (
            {"sssd_settings": {"domain": {"ldap_user_uid_number": "employeeNumber"}}},
            "SSSD does not know alice. The previous configuration is back.",
        ),
    ],
)
def test_wrong_setting_never_replaces_a_working_one(
    hub: Any, refused: Callable[..., str], variables: dict[str, Any], found: str
) -> None:
    before = hub.check_output(f"sha256sum {FILES}")
    out = refused("site.yml", variables, "--tags", "sssd")
    assert found in out
    assert "wrong-bind-9" not in out and "swan-bind-1" not in out
    assert hub.check_output(f"sha256sum {FILES}") == before
    assert hub.check_output("ls /run | grep -c -e cygnet-sssd -e check-directory || true") == "0"
    assert log_in(hub, "alice")["account"] == SUCCESS
