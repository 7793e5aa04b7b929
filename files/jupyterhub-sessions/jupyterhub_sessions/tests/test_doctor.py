"""The doctor finds each layer that is broken, says what to do, and waits for nothing that is silent."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jupyterhub import orm

from jupyterhub_sessions import doctor, pam, probe, units
from jupyterhub_sessions.doctor import AbsentError, BrokenError, Doctor, Site
from jupyterhub_sessions.tests.hubs import free_port, running_hub


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have units that ended, and no long waits."""

    async def show(unit: str) -> units.UnitState:
        return units.UnitState("loaded", "failed", "exit-code", 1, "0123")

    async def journal(invocation: str, lines: int) -> str:
        return "first\nlast words\n"

    monkeypatch.setattr(units, "show", show)
    monkeypatch.setattr(units, "journal", journal)
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 0.5)


def ask(look: Callable[[], Any]) -> str:
    """Return what a look finds, as the doctor does."""
    found: str = asyncio.run(look())
    return found


def broken(look: Callable[[], Any]) -> str:
    """Expect a layer to be broken; return what was found and the remedy."""
    with pytest.raises(BrokenError) as raised:
        ask(look)
    assert raised.value.remedy
    return f"{raised.value.found} / {raised.value.remedy}"


# -- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead", "said"), [(1200, "1200 s ahead of"), (-1200, "1200 s behind")])
def test_clock_that_is_wrong(ahead: float, said: str) -> None:
    found = broken(Doctor(Site(now=time.time() - ahead)).clock)
    assert said in found and "timedatectl" in found


def test_clock_that_is_right() -> None:
    assert "from the control node's" in ask(Doctor(Site(now=time.time() - 30)).clock)
    with pytest.raises(AbsentError):
        ask(Doctor(Site()).clock)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"f_bavail": 10}, "The file system of / is full: 0 MiB"),
        ({"f_favail": 10}, "10 files are left"),
        ({"f_flag": os.ST_RDONLY}, "The file system of / is read-only"),
    ],
)
def test_disk(monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], said: str) -> None:
    good = {"f_bavail": 10**7, "f_blocks": 10**8, "f_frsize": 4096, "f_files": 10**6, "f_favail": 10**5, "f_flag": 0}
    monkeypatch.setattr(os, "statvfs", lambda _place: SimpleNamespace(**good))
    assert "/ 38.1 GiB free" in ask(Doctor(Site()).disk)
    monkeypatch.setattr(os, "statvfs", lambda _place: SimpleNamespace(**good | changes))
    assert said in broken(Doctor(Site()).disk)


def test_small_file_system_need_not_have_what_a_large_one_must(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"f_bavail": 5000, "f_blocks": 10000, "f_frsize": 4096, "f_files": 0, "f_favail": 0, "f_flag": 0}
    monkeypatch.setattr(os, "statvfs", lambda _place: SimpleNamespace(**small))
    assert "0.0 GiB free" in ask(Doctor(Site()).disk)


def test_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "localhost is " in ask(Doctor(Site(names=["localhost"])).dns)

    def unknown(*_arguments: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = broken(Doctor(Site(names=["hub.example.org"])).dns)
    assert "hub.example.org is not known (Name or service not known)" in found and "nginx_server_names" in found


def test_name_servers_that_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: time.sleep(1.5))
    assert "do not answer for hub.example.org" in broken(Doctor(Site(names=["hub.example.org"])).dns)


# -- the way in -------------------------------------------------------------------------------------------------------


class Answer(BaseHTTPRequestHandler):
    """Answer with the status that the server was given."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def address_string(self) -> str:
        """Name nobody: a unix socket has no address."""
        return ""

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


class UnixServer(HTTPServer):
    """A server on a unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Bind without looking for the name of a host."""
        self.socket.bind(self.server_address)


def certificate(path: Path, name: str = "hub.example.org", start: float = -30, end: float = 30) -> Path:
    """Write a certificate with its key, valid from and to so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + datetime.timedelta(days=start))
        .not_valid_after(now + datetime.timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return the function that runs a web server with a certificate, and gives the site."""
    servers = []

    def run(status: int = 200, tls: str = "self_signed", **of_certificate: Any) -> Site:
        server = HTTPServer(("127.0.0.1", 0), Answer)
        server.status = status  # type: ignore[attr-defined]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path / "pem", **of_certificate))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Site(names=["hub.example.org"], port=server.server_port, tls=tls)

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def test_web_server_that_is_well(serve: Callable[..., Site]) -> None:
    site = serve()
    assert "nginx answers" in ask(Doctor(site).web_server)
    assert "29 more days" in ask(Doctor(site).tls)
    assert "comes through" in ask(Doctor(site).way_in)


def test_web_server_that_ended() -> None:
    found = broken(Doctor(Site(port=free_port())).web_server)
    assert "nginx.service is failed (exit-code), its log ends: last words" in found and "nginx -t" in found


def test_web_server_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "does not answer" in broken(Doctor(Site(port=silent.getsockname()[1])).web_server)


@pytest.mark.parametrize(
    ("tls", "remedy"), [("acme", "certbot renew"), ("files", "nginx_tls_certificate"), ("self_signed", "Remove")]
)
def test_certificate_that_expired(serve: Callable[..., Site], tls: str, remedy: str) -> None:
    found = broken(Doctor(serve(tls=tls, end=-1)).tls)
    assert "The certificate expired on 20" in found and remedy in found


def test_certificate_of_tomorrow(serve: Callable[..., Site]) -> None:
    found = broken(Doctor(serve(start=1)).tls)
    assert "is valid from" in found and "Check the clock" in found


def test_certificate_of_another_name(serve: Callable[..., Site]) -> None:
    assert "for www.example.org, not for hub.example.org" in broken(Doctor(serve(name="www.example.org")).tls)


def test_certificate_of_a_whole_domain(serve: Callable[..., Site]) -> None:
    assert "more days" in ask(Doctor(serve(name="*.example.org")).tls)


def test_way_that_ends_behind_the_web_server(serve: Callable[..., Site]) -> None:
    found = broken(Doctor(serve(status=502)).way_in)
    assert "answers with 502" in found and "error.log" in found


@pytest.mark.parametrize(("layer", "unit"), [("proxy", "chp"), ("hub", "jupyterhub")])
def test_proxy_and_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, unit: str) -> None:
    path = tmp_path / "sock"
    monkeypatch.setattr(doctor, f"{layer.upper()}_SOCKET", path)
    look = getattr(Doctor(Site()), layer)
    # Dead, and its socket gone.
    found = broken(look)
    assert f"{unit}.service is failed" in found and f"systemctl restart {unit}.service" in found
    # Dead, and its socket left.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert "Connection refused" in broken(look)
    path.unlink()
    # Alive, and silent.
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        assert "timed out" in broken(look)
    path.unlink()
    server = UnixServer(str(path), Answer)  # type: ignore[arg-type]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.status = 503  # type: ignore[attr-defined]
    # What the proxy says where the hub is away is no fault of the proxy's.
    if layer == "hub":
        assert "answers with 503" in broken(look)
    else:
        assert "chp answers" in ask(look)
    server.status = 200  # type: ignore[attr-defined]
    assert f"{unit} answers" in ask(look)
    server.shutdown()
    server.server_close()


def test_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets, database = tmp_path / "secrets.json", tmp_path / "hub.sqlite"
    monkeypatch.setattr(doctor, "SECRETS", secrets)
    assert "Run site.yml" in broken(Doctor(Site()).database)
    secrets.write_text(json.dumps({"db_url": f"sqlite:///{database}"}))
    assert "There is no" in broken(Doctor(Site()).database) and not database.exists()
    orm.new_session_factory(f"sqlite:///{database}")
    assert ask(Doctor(Site()).database) == "0 users"
    damaged = bytearray(database.read_bytes())
    damaged[4096:12288] = b"\xff" * 8192
    database.write_bytes(damaged)
    found = broken(Doctor(Site()).database)
    assert "damaged" in found or "cannot be read" in found
    assert "restore a backup" in found


# -- accounts and mounts ----------------------------------------------------------------------------------------------


def program(path: Path, text: str) -> Path:
    """Write a program that prints a text."""
    path.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(text)}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("said", "found", "remedy"),
    [
        (
            "ok      DNS: fine\nFAILED  TCP: ldap.example.org port 389 refuses connections. Correct sssd_servers.\n",
            "TCP: ldap.example.org port 389 refuses connections",
            "Correct sssd_servers.",
        ),
        ("Traceback", "check-directory says: Traceback", "Run `site.yml --tags sssd`."),
    ],
)
def test_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, found: str, remedy: str) -> None:
    monkeypatch.setattr(doctor, "CHECK_DIRECTORY", tmp_path / "check")
    with pytest.raises(AbsentError):
        ask(Doctor(Site(user="alice")).directory)
    program(tmp_path / "check", said)
    assert broken(Doctor(Site(user="alice")).directory) == f"{found} / {remedy}"
    program(tmp_path / "check", "ok      search: alice is there\n")
    assert "knows alice" in ask(Doctor(Site(user="alice")).directory)
    with pytest.raises(AbsentError, match="no doctor_probe_user"):
        ask(Doctor(Site()).directory)


def test_account(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not know the account no-such-user" in broken(Doctor(Site(user="no-such-user")).pam)
    answers = [pam.Answer(code, int(code), True, False, ()) for code in (pam.Code.SUCCESS, pam.Code.ACCT_EXPIRED)]
    monkeypatch.setattr(pam, "ask", lambda _service, _user: answers.pop(0))
    assert ask(Doctor(Site(user="root")).pam) == "root may log in"
    assert "root may not log in: PAM account" in broken(Doctor(Site(user="root")).pam)


@pytest.mark.parametrize("there", [True, False])
def test_repository_whose_server_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    server = f"http://127.0.0.1:{free_port()}/cvmfs/sft.example.org"
    program(tmp_path / "cvmfs_config", f"CVMFS_SERVER_URL='{server}'    # from X\nCVMFS_HTTP_PROXY=DIRECT  # from Y\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    patient = Doctor(Site(repositories=["sft.example.org"]))
    monkeypatch.setattr(patient.availability, "wait", lambda paths, _seconds: dict.fromkeys(paths, there))
    found = broken(patient.cvmfs)
    assert ("goes on from its cache" if there else "is not there") in found
    assert f"{server} by DIRECT does not answer" in found


def test_repository_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Site]) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    server.status = 200  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = f"CVMFS_SERVER_URL='http://127.0.0.1:{free_port()}/a;http://127.0.0.1:{server.server_port}/a' # from X\n"
    program(tmp_path / "cvmfs_config", settings + "CVMFS_HTTP_PROXY='DIRECT'\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    patient = Doctor(Site(repositories=["sft.example.org"]))
    monkeypatch.setattr(patient.availability, "wait", lambda paths, _seconds: dict.fromkeys(paths, True))
    assert "mounted, servers answer" in ask(patient.cvmfs)
    # Its servers answer, and yet it is not mounted.
    monkeypatch.setattr(patient.availability, "wait", lambda paths, _seconds: dict.fromkeys(paths, False))
    assert "it is not mounted" in broken(patient.cvmfs)
    server.shutdown()
    server.server_close()


def test_eos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECK_EOS", tmp_path / "check")
    patient = Doctor(Site(eos=["user"]))
    program(tmp_path / "check", "FAILED  user: TCP: eos.example.org refuses connections. Start the server.\n")
    assert broken(patient.eos) == "user: TCP: eos.example.org refuses connections / Start the server."
    program(tmp_path / "check", "ok      user: path\n")
    monkeypatch.setattr(patient.availability, "wait", lambda paths, _seconds: dict.fromkeys(paths, False))
    assert "The server answers, but /eos/user does not" in broken(patient.eos)
    monkeypatch.setattr(patient.availability, "wait", lambda paths, _seconds: dict.fromkeys(paths, True))
    assert ask(patient.eos) == "/eos/user: mounted"


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_as(command: Any, seconds: float, environment: Any, **_ids: int) -> units.Finished:
        return await units.run(command, seconds, environment)

    monkeypatch.setattr(units, "run_as", run_as)
    patient = Doctor(Site(user="root", home_template=f"{tmp_path}/eos/{{user}}"))
    assert "not connected" in broken(patient.home)
    (tmp_path / "eos").mkdir()
    assert ask(patient.home) == "root has none yet"
    (tmp_path / "eos/root").mkdir()
    assert ask(patient.home) == "root has one"


# -- a session --------------------------------------------------------------------------------------------------------


def test_session_of_a_student_who_was_never_here(tmp_path: Path) -> None:
    with running_hub("en", tmp_path) as hub:
        url = f"sqlite:///{tmp_path}/hub.sqlite"
        token, number = probe.make_token(url, "picks-doctor")
        student = probe.Student(hub.base, "picks-doctor", token)
        assert student.start("lab") < 60
        servers = student.ask("GET", student.account)["servers"]
        assert servers["doctor"]["ready"]
        student.stop()
        assert "doctor" not in student.ask("GET", f"{student.account}?include_stopped_servers=1")["servers"]
        student.forget_token(number)
        with pytest.raises(probe.ProbeError, match="answered with 403"):
            student.ask("GET", student.account)
        # A start that fails says why, and a token opens nobody else's.
        token, _ = probe.make_token(url, "refused")
        with pytest.raises(probe.ProbeError, match="Reason: memory"):
            probe.Student(hub.base, "refused", token).start("lab")
        with pytest.raises(probe.ProbeError, match="answered with 40"):
            probe.Student(hub.base, "picks-doctor", token).start("lab")


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[probe.Student]:
    """Run a Jupyter server where a session would be."""
    port = free_port()
    options = {
        "ServerApp.port": port,
        "ServerApp.base_url": "/user/alice/doctor/",
        "IdentityProvider.token": "swan",
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "ServerApp.root_dir": tmp_path,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *(f"--{name}={value}" for name, value in options.items())],
        env=os.environ | {"HOME": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    student = probe.Student(f"http://127.0.0.1:{port}", "alice", "swan")
    try:
        for _ in range(100):
            try:
                student.ask("GET", f"{student.session}/api/status")
                break
            except probe.ProbeError:
                assert process.poll() is None
                time.sleep(0.3)
        yield student
    finally:
        process.terminate()
        process.wait(20)


def test_kernel_and_display(jupyter: probe.Student, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Doctor(Site(), student=jupyter)
    assert ask(patient.kernel) == "a cell runs"
    assert jupyter.ask("GET", f"{jupyter.session}/api/kernels") == []
    with pytest.raises(probe.ProbeError, match="The cell fails: swan"):
        asyncio.run(jupyter.run_cell("raise ValueError('swan')"))
    with pytest.raises(AbsentError, match="not in the group xpra"):
        ask(patient.display)
    monkeypatch.setattr(probe, "CELL_SECONDS", 2.0)
    with pytest.raises(probe.ProbeError, match="does not answer within 2 s"):
        asyncio.run(jupyter.run_cell("while True: pass"))


def test_session_only_where_it_was_asked_for() -> None:
    for site, why in (
        (Site(user="alice"), "doctor_spawn is false"),
        (Site(user="alice", spawn=True), "jupyterhub_named_servers_per_user is 0"),
        (Site(spawn=True, named_servers=1), "no doctor_probe_user"),
        (Site(user="alice", spawn=True, named_servers=1, kinds=["desktop"]), "only desktops"),
    ):
        with pytest.raises(AbsentError, match=why):
            ask(Doctor(site).session)


# -- all of them ------------------------------------------------------------------------------------------------------


class Patient(Doctor):
    """Somebody with three layers."""

    def layers(self) -> Any:
        """Have one that is well, one that is broken in some way, and some that need it."""

        async def well() -> str:
            return "fine"

        async def absent() -> str:
            raise AbsentError("there is none")

        return [
            ("disk", well, ()),
            ("hub", self.hub, ()),
            ("session", well, ["hub"]),
            ("kernel", well, ["session"]),
            ("EOS", absent, ()),
            ("home", well, ["EOS"]),
        ]


async def raises(error: BaseException) -> str:
    """Fail."""
    raise error


async def hangs() -> str:
    """Wait for ever."""
    await asyncio.sleep(600)
    raise AssertionError


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (lambda: raises(BrokenError("It ended", "Start it.")), "It ended"),
        (lambda: raises(OSError("unforeseen")), "It could not be looked at: OSError('unforeseen')"),
        (hangs, "It does not answer"),
    ],
)
def test_what_is_broken_is_named_and_what_needs_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[], Any], found: str
) -> None:
    monkeypatch.setattr(doctor, "LAYER_SECONDS", 0.3)
    patient = Patient(Site())
    monkeypatch.setattr(patient, "hub", look)
    layers = asyncio.run(patient.examine())
    assert [layer.state for layer in layers] == ["ok", "BROKEN", "not tried", "not tried", "not here", "ok"]
    lines = doctor.report(layers).splitlines()
    assert lines[:2] == ["ok      disk        fine", f"BROKEN  hub         {found}"]
    assert "not tried: session (needs hub), kernel (needs session)" in lines
    assert "not here:  EOS (there is none)" in lines
    assert lines[-1].startswith(f"Broken: hub. {layers[1].remedy}")


def test_first_cause_comes_last() -> None:
    layers = [
        doctor.Layer("disk", "BROKEN", "full", "Free room."),
        doctor.Layer("hub", "BROKEN", "dead", "Start it."),
    ]
    last = doctor.report(layers).splitlines()[-1]
    assert last == "Broken: disk. Free room. Then look again: hub may follow from it."
    assert doctor.report([doctor.Layer("hub", "ok", "fine")]).splitlines()[-1] == "Nothing is broken."


def test_order_is_that_of_causes_and_fits_a_screen() -> None:
    layers = Doctor(Site()).layers()
    names = [name for name, _, _ in layers]
    assert all(names.index(need) < number for number, (_, _, needs) in enumerate(layers) for need in needs)
    assert len(layers) < 24 and max(map(len, names)) <= 11


def test_program(tmp_path: Path) -> None:
    """Run it where there is no hub: it says so, and does not wait."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub_sessions.doctor"],
        input=json.dumps({"port": free_port(), "now": time.time()}),
        env=os.environ | {"PYTHONPATH": str(Path(doctor.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "BROKEN  hub" in done.stdout and "not tried: TLS (needs web server)" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Broken: web server.")
    assert time.monotonic() - begin < 30
