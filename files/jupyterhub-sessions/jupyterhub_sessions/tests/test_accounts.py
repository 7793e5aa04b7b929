"""Who may log in: PAM's answers, counted and explained."""

import asyncio
import ctypes
import grp
import os
import pwd
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pamela
import pytest
import yaml

from jupyterhub_sessions import accounts, pam
from jupyterhub_sessions.accounts import AccountsAuthenticator, NotAllowedError, RefusedError, WrongPasswordError
from jupyterhub_sessions.pam import Answer, Code

ROLE = Path(accounts.__file__).parents[3] / "roles" / "jupyterhub"
ME = pwd.getpwuid(os.getuid()).pw_name


# --- the PAM service of the role, with real modules; pam_debug answers in the place of those that know passwords --


class Stack:
    """A rendered PAM service in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "faillock").mkdir()

    def write(self, *, local: bool = True, unix: str = "auth_err", sss: str = "auth_err", **inputs: Any) -> None:
        """Render the template; `unix` and `sss` are what these modules answer."""
        values = {"jupyterhub_lockout_attempts": 3, "jupyterhub_lockout_minutes": 10, "jupyterhub_pam_directory": True}
        values |= {"ansible_managed": "#", "ansible_facts": {"os_family": "Debian"}} | inputs
        environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
        environment.filters |= {"comment": str, "bool": bool}
        names = yaml.safe_load((ROLE / "vars/main.yml").read_text())
        options = environment.from_string(names["__jupyterhub_faillock"]).render(values)
        template = environment.from_string((ROLE / "templates/etc/pam.d/jupyterhub.j2").read_text())
        text = template.render(values, __jupyterhub_faillock=options.strip())
        text = text.replace("/run/jupyterhub/faillock", str(self.directory / "faillock"))
        for old, new in (
            ("pam_localuser.so", f"pam_localuser.so file={'/etc/passwd' if local else '/dev/null'}"),
            ("pam_unix.so nodelay", f"pam_debug.so auth={unix}"),
            ("pam_sss.so", f"pam_debug.so auth={sss}"),
            ("@include common-account", "account required pam_permit.so"),
            ("@include common-auth", "auth required pam_debug.so auth=cred_unavail"),
        ):
            text = text.replace(old, new)
        (self.directory / "jupyterhub").write_text(text)

    def ask(self, user: str = ME) -> Answer:
        """Log in."""
        return pam.ask("jupyterhub", user, ["secret"], "192.0.2.1")


def read_services_from(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have libpam read services from a directory instead of /etc/pam.d."""
    start = pamela.LIBPAM.pam_start_confdir
    start.argtypes = [*pamela.PAM_START.argtypes[:3], ctypes.c_char_p, pamela.PAM_START.argtypes[3]]

    def start_there(service: bytes, user: bytes, conversation: Any, handle: Any) -> Any:
        return start(service, user, conversation, str(directory).encode(), handle)

    monkeypatch.setattr(pamela, "PAM_START", start_there)
    monkeypatch.setattr(pam, "_kept", {})


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Give a place for a PAM service."""
    read_services_from(tmp_path, monkeypatch)
    return Stack(tmp_path)


def locked(answer: Answer) -> bool:
    return "locked" in " ".join(answer.messages)


@pytest.mark.parametrize("local", [True, False])
def test_wrong_passwords_lock_the_account(stack: Stack, local: bool) -> None:
    other = {"sss" if local else "unix": "success"}
    stack.write(local=local, **other)
    for _attempt in range(3):
        answer = stack.ask()
        assert answer.code == Code.AUTH_ERR and not locked(answer)
    answer = stack.ask()
    assert answer.code == Code.AUTH_ERR and locked(answer) and not answer.asked
    # Also with the right password, until the time is over.
    stack.write(local=local, unix="success", sss="success")
    assert locked(stack.ask())
    assert "10 minutes" in str(accounts.refusal(stack.ask(), ME, locked_minutes=10).jupyterhub_message)


def test_lock_is_over_after_its_time(stack: Stack) -> None:
    stack.write()
    for _attempt in range(4):
        answer = stack.ask()
    assert locked(answer)
    tally = stack.directory / "faillock" / ME
    # Records of 64 bytes that end in the time (pam_faillock's faillock.h).
    records = tally.read_bytes()
    then = (int(time.time()) - 601).to_bytes(8, "little")
    tally.write_bytes(b"".join(records[at : at + 56] + then for at in range(0, len(records), 64)))
    stack.write(unix="success")
    assert stack.ask().code == Code.SUCCESS


def test_right_password_ends_the_count(stack: Stack) -> None:
    for unix in ["auth_err", "auth_err", "success"] * 3:
        stack.write(unix=unix)
        assert stack.ask().code == (Code.SUCCESS if unix == "success" else Code.AUTH_ERR)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("authinfo_unavail", Code.AUTHINFO_UNAVAIL),
        ("acct_expired", Code.ACCT_EXPIRED),
        ("perm_denied", Code.PERM_DENIED),
        ("new_authtok_reqd", Code.NEW_AUTHTOK_REQD),
        ("system_err", Code.OTHER),
    ],
)
@pytest.mark.parametrize("local", [True, False])
def test_other_refusals_keep_their_code_and_are_not_counted(stack: Stack, local: bool, answer: str, code: Code) -> None:
    stack.write(local=local, unix=answer, sss=answer)
    for _attempt in range(5):
        assert stack.ask().code == code
    assert not list((stack.directory / "faillock").glob("*")) or not (stack.directory / "faillock" / ME).stat().st_size


def test_unknown_account_is_refused(stack: Stack) -> None:
    stack.write(local=False, sss="user_unknown")
    assert stack.ask("nobody-of-this-name").code == Code.USER_UNKNOWN
    stack.write(sss="auth_err")
    assert stack.ask("nobody-of-this-name").code == Code.AUTH_ERR


@pytest.mark.parametrize(("unix", "sss"), [("auth_err", "success"), ("success", "auth_err")])
@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("attempts", [0, 3])
def test_each_account_has_one_password(stack: Stack, attempts: int, local: bool, unix: str, sss: str) -> None:
    stack.write(local=local, unix=unix, sss=sss, jupyterhub_lockout_attempts=attempts)
    right = unix if local else sss
    assert stack.ask().code == (Code.SUCCESS if right == "success" else Code.AUTH_ERR)


def test_without_directory_the_machine_alone_is_asked(stack: Stack) -> None:
    stack.write(sss="success", jupyterhub_pam_directory=False)
    assert stack.ask().code == Code.AUTH_ERR
    stack.write(unix="success", jupyterhub_pam_directory=False)
    assert stack.ask().code == Code.SUCCESS


def test_without_lock_and_directory_the_machines_own_service_is_asked(stack: Stack) -> None:
    stack.write(unix="success", jupyterhub_pam_directory=False, jupyterhub_lockout_attempts=0)
    assert stack.ask().number == 15, "PAM_CRED_UNAVAIL, of what stands for common-auth"


def test_password_reaches_the_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_services_from(tmp_path, monkeypatch)
    check = tmp_path / "check"
    check.write_text("#!/bin/sh\n[ \"$(tr -d '\\000')\" = 'тайна 1' ] && [ $PAM_RHOST = 192.0.2.1 ]\n")
    check.chmod(0o755)
    (tmp_path / "asks").write_text(
        f"auth required pam_exec.so expose_authtok quiet {check}\naccount required pam_permit.so\n"
    )
    right = pam.ask("asks", ME, ["тайна 1"], "192.0.2.1")
    assert right.code == Code.SUCCESS and right.asked
    assert pam.ask("asks", ME, ["тайна 2"], "192.0.2.1").code != Code.SUCCESS
    assert pam.ask("asks", ME, [], "192.0.2.1").code != Code.SUCCESS


def test_account_part_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_services_from(tmp_path, monkeypatch)
    (tmp_path / "own").write_text("auth required pam_deny.so\naccount required pam_debug.so acct=acct_expired\n")
    answer = pam.ask("own", ME)
    assert answer.code == Code.ACCT_EXPIRED and answer.account
    with pytest.raises(RefusedError, match="403"):
        accounts.check_account(ME, service="own")


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "account", "asked", "said"),
    [
        (Code.AUTH_ERR, False, True, "name or the password is wrong"),
        (Code.USER_UNKNOWN, False, True, "name or the password is wrong"),
        (Code.AUTH_ERR, False, False, "locked after too many"),
        (Code.PERM_DENIED, False, True, "account alice is locked"),
        (Code.ACCT_EXPIRED, False, True, "alice has expired"),
        (Code.ACCT_EXPIRED, True, True, "alice has expired"),
        (Code.NEW_AUTHTOK_REQD, True, True, "change it at https://id.example.org"),
        (Code.PERM_DENIED, True, True, "may not use this service"),
        (Code.AUTHINFO_UNAVAIL, False, True, "directory of accounts cannot be reached"),
        (Code.OTHER, False, True, "error in the service"),
    ],
)
def test_each_refusal_has_its_sentence(code: Code, account: bool, asked: bool, said: str) -> None:
    answer = Answer(code, int(code), account, asked, ())
    error = accounts.refusal(answer, "alice", locked_minutes=10, password_url="https://id.example.org")
    assert said in error.jupyterhub_message
    # The web server puts its own pages in the place of these.
    assert error.status_code not in {429, 502, 503, 504}


@pytest.mark.parametrize(("messages", "minutes"), [(("(1 minute left to unlock)",), "1 minute."), ((), "10 minutes.")])
def test_lock_says_how_long(messages: tuple[str, ...], minutes: str) -> None:
    answer = Answer(Code.AUTH_ERR, 7, False, False, messages)
    assert minutes in accounts.refusal(answer, "alice", locked_minutes=10).jupyterhub_message


@pytest.mark.parametrize(("states", "offline"), [(["true"], False), (["true", "false"], True), ([], False)])
def test_sssd_tells_whether_the_directory_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: list[str], offline: bool
) -> None:
    paths = " ".join(f'\\"/domains/{state}\\"' for state in states)
    busctl = tmp_path / "busctl"
    busctl.write_text(
        '#!/bin/sh\ncase "$7" in\n'
        f'ListDomains) echo "ao {len(states)} {paths}" ;;\n'
        'IsOnline) echo "b ${5##*/}" ;;\nesac\n'
    )
    busctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert accounts.directory_offline() is offline


# --- the authenticator, with a PAM that answers as the test says --


class Machine:
    """The accounts of a machine: `alice` and `Maria`, whose password is `right`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.offline = False
        self.asked: list[str] = []
        self.group_lookups: list[str] = []
        self.groups = {"students": 100, "admins": 200}
        self.belongs = {"alice": [1, 100], "Maria": [1, 200]}

    def getpwnam(self, name: str) -> Any:
        for known in self.belongs:
            if name in {known, "alice@example.org"}:
                return SimpleNamespace(pw_name=known, pw_gid=1)
        raise KeyError(name)

    def getgrnam(self, name: str) -> Any:
        self.group_lookups.append(name)
        return SimpleNamespace(gr_gid=self.groups[name])

    def ask(self, service: str, user: str, passwords: list[str] | None = None, address: str = "") -> Answer:
        self.asked.append(user)
        time.sleep(self.seconds)
        right = passwords == ["right"]
        return Answer(Code.SUCCESS if right else Code.AUTH_ERR, 0 if right else 7, right, True, ())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    fake = Machine()
    monkeypatch.setattr(pam, "ask", fake.ask)
    monkeypatch.setattr(pwd, "getpwnam", fake.getpwnam)
    monkeypatch.setattr(grp, "getgrnam", fake.getgrnam)
    monkeypatch.setattr(os, "getgrouplist", lambda user, _gid: fake.belongs[user])
    monkeypatch.setattr(accounts, "directory_offline", lambda: fake.offline)
    accounts._group_ids.clear()
    yield fake
    accounts._group_ids.clear()


Login = Callable[..., Any]


@pytest.fixture
def login(machine: Machine) -> Login:
    """Log in; what is configured can be changed at the function's attribute."""
    authenticator = AccountsAuthenticator(
        allowed_groups={"students"}, admin_groups={"admins"}, directory=True, refusal_s=0, timeout_s=5
    )

    async def log_in(user: str = "alice", password: str = "right") -> Any:
        return await authenticator.get_authenticated_user(None, {"username": user, "password": password})

    log_in.authenticator = authenticator  # type: ignore[attr-defined]
    return log_in


async def test_right_password(login: Login) -> None:
    model = await login()
    assert (model["name"], model["admin"]) == ("alice", False)


async def test_wrong_password_is_left_to_the_hub(login: Login) -> None:
    assert await login(password="wrong") is None
    assert await login("nobody") is None


@pytest.mark.parametrize("password", ["right\0", "x" * 600])
async def test_what_pam_would_cut_is_wrong(login: Login, machine: Machine, password: str) -> None:
    assert await login(password=password) is None
    assert machine.asked == []


@pytest.mark.parametrize("typed", ["alice", "ALICE", "Alice@example.org"])
async def test_name_is_the_databases(login: Login, machine: Machine, typed: str) -> None:
    assert (await login(typed))["name"] == "alice"
    # Otherwise each spelling had a count of wrong passwords of its own.
    assert machine.asked == ["alice"]


async def test_capital_letter_of_the_database_is_kept(login: Login) -> None:
    login.authenticator.allowed_groups = {"admins"}  # type: ignore[attr-defined]
    model = await login("Maria")
    assert (model["name"], model["admin"]) == ("Maria", True)


async def test_not_in_an_allowed_group(login: Login) -> None:
    with pytest.raises(NotAllowedError):
        await login("Maria")


async def test_wrong_password_tells_nobody_that_the_account_may_not_log_in(login: Login) -> None:
    assert await login("Maria", "wrong") is None


async def test_groups_are_looked_up_once(login: Login, machine: Machine) -> None:
    for _login in range(5):
        await login()
    assert sorted(machine.group_lookups) == ["admins", "students"]


async def test_administrator_stays_one_while_the_directory_has_no_groups(login: Login, machine: Machine) -> None:
    del machine.groups["admins"]
    assert (await login())["admin"] is None


async def test_unknown_user_while_the_directory_is_out_of_reach(login: Login, machine: Machine) -> None:
    machine.offline = True
    with pytest.raises(RefusedError, match="403") as caught:
        await login("nobody")
    assert "cannot be reached" in caught.value.jupyterhub_message
    assert await login(password="wrong") is None, "PAM knew better"


@pytest.mark.parametrize(("offline", "said"), [(True, "cannot be reached"), (False, "account alice is locked")])
async def test_password_that_sssd_does_not_keep(
    login: Login, machine: Machine, monkeypatch: pytest.MonkeyPatch, offline: bool, said: str
) -> None:
    machine.offline = offline
    monkeypatch.setattr(pam, "ask", lambda *_args: Answer(Code.PERM_DENIED, 6, False, True, ()))
    with pytest.raises(RefusedError) as caught:
        await login()
    assert said in caught.value.jupyterhub_message


async def test_unknown_name_and_wrong_password_take_the_same_time(login: Login) -> None:
    login.authenticator.refusal_s = 0.3  # type: ignore[attr-defined]
    for user in ("alice", "nobody"):
        begin = time.monotonic()
        await login(user, "wrong")
        assert 0.3 <= time.monotonic() - begin < 0.6


async def test_thirty_log_in_at_once_and_the_hub_goes_on(login: Login, machine: Machine) -> None:
    machine.seconds = 0.2
    turns = 30 / login.authenticator.executor_threads  # type: ignore[attr-defined]
    begin = last = time.monotonic()
    longest = 0.0

    async def watch() -> None:
        nonlocal last, longest
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    watching = asyncio.create_task(watch())
    models = await asyncio.gather(*(login() for _user in range(30)))
    watching.cancel()
    assert [model["name"] for model in models] == ["alice"] * 30
    assert time.monotonic() - begin < turns * machine.seconds + 2 and longest < 0.4


async def test_no_answer_is_not_awaited_for_ever(login: Login, machine: Machine) -> None:
    login.authenticator.timeout_s = 0.2  # type: ignore[attr-defined]
    machine.seconds = 1
    with pytest.raises(RefusedError) as caught:
        await login()
    assert "cannot be reached" in caught.value.jupyterhub_message


async def test_who_waits_for_a_turn_is_not_refused(login: Login, machine: Machine) -> None:
    login.authenticator.timeout_s = 0.8  # type: ignore[attr-defined]
    machine.seconds = 0.5
    assert len(await asyncio.gather(*(login() for _user in range(40)))) == 40


async def test_password_asked_again(login: Login, machine: Machine) -> None:
    authenticator = login.authenticator  # type: ignore[attr-defined]
    assert await authenticator.try_password("alice", "right") is None
    assert (await authenticator.try_password("alice", "wrong")).jupyterhub_message == "The password is wrong."
    with pytest.raises(WrongPasswordError):
        await authenticator.check_password("alice", ["wrong"])
