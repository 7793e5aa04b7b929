#!/usr/bin/python3
"""Try the way from this machine to the directory, layer by layer, as SSSD is configured to go it.

The layers are: configuration, DNS, TCP, TLS, KDC, clock, bind, search. The first that fails is named, with what was
found and what to do. The programs ldapsearch and kinit judge, as they stand on the libraries that SSSD uses; the probes
written out here tell why they refuse. Each step is bounded to a few seconds. Nothing is changed.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import configparser
import datetime
import os
import re
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dns.exception
import dns.resolver

#: Seconds for one step of a probe, and for a program that takes several.
STEP_SECONDS = 4.0
PROGRAM_SECONDS = 7.0
#: What Kerberos tolerates (RFC 4120, section 5.2.7.2 and the defaults of all KDCs).
SKEW_SECONDS = 300

T = TypeVar("T")


class Problem(Exception):  # noqa: N818 - it is not a fault of the program
    """A layer that fails: its name, what was found, and what to do."""

    def __init__(self, layer: str, found: str, remedy: str) -> None:
        super().__init__(f"{layer}: {found} {remedy}")
        self.layer = layer
        self.found = found


@dataclass
class Server:
    """One address of a service."""

    host: str
    port: int
    uri: str = ""


@dataclass
class Outcome:
    """What a program did; no status means that it was stopped for want of time."""

    status: int | None
    text: str


class Configuration:
    """What sssd.conf says of its first domain.

    Parameters
    ----------
    root
        Directory whose files stand before those of the machine; empty for the machine alone.
    """

    def __init__(self, root: str = "") -> None:
        self.root = root
        self.sssd_conf = self.file("/etc/sssd/sssd.conf")
        self.krb5_conf = self.file("/etc/krb5.conf")
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
        try:
            with open(self.sssd_conf, encoding="utf-8") as file:
                parser.read_file(file)
            domains = [name.strip() for name in parser.get("sssd", "domains").split(",") if name.strip()]
            self._domain = dict(parser[f"domain/{domains[0]}"])
        except (OSError, UnicodeError, configparser.Error, KeyError, IndexError) as error:
            raise Problem(
                "configuration", f"{self.sssd_conf} cannot be read: {error}.", "Run the role sssd."
            ) from error
        self.domain = domains[0]

    def file(self, path: str) -> str:
        """Return where a file of the machine is read."""
        candidate = self.root + path
        return candidate if self.root and os.path.exists(candidate) else path

    def get(self, name: str, default: str = "") -> str:
        """Return a setting of the domain."""
        return self._domain.get(name, default).strip()

    def yes(self, name: str) -> bool:
        """Tell whether a setting is on."""
        return self.get(name).lower() in {"true", "yes", "1"}

    @property
    def keytab(self) -> str:
        """Path of the keytab with which SSSD binds; empty for a password."""
        return self.file(self.get("ldap_krb5_keytab", "/etc/krb5.keytab")) if self.get("ldap_sasl_mech") else ""

    @property
    def ca_file(self) -> str:
        """Path of the certificates that are trusted."""
        return self.file(self.get("ldap_tls_cacert", "/etc/ssl/certs/ca-certificates.crt"))

    @property
    def realm(self) -> str:
        """The Kerberos realm; empty without Kerberos."""
        return self.get("krb5_realm") if self.keytab or self.get("auth_provider") == "krb5" else ""

    @property
    def base(self) -> str:
        """Where people are searched."""
        return (self.get("ldap_user_search_base") or self.get("ldap_search_base")).split("?")[0]

    @property
    def user_attribute(self) -> str:
        """Attribute with the name of an account."""
        return self.get("ldap_user_name", "sAMAccountName" if self.get("ldap_schema").lower() == "ad" else "uid")

    @property
    def user_class(self) -> str:
        """Class of the accounts."""
        default = "user" if self.get("ldap_schema").lower() == "ad" else "posixAccount"
        return self.get("ldap_user_object_class", default)


# -- tools ------------------------------------------------------------------------------------------------------------


def say(layer: str, text: str) -> None:
    """Report a layer that is well."""
    print(f"ok      {layer}: {text}", flush=True)


def bounded(function: Callable[[], T], seconds: float = STEP_SECONDS) -> T:
    """Return what the function returns; TimeoutError when it takes longer, and it is left alone then."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(function).result(seconds)
    except concurrent.futures.TimeoutError as error:
        raise TimeoutError from error
    finally:
        pool.shutdown(wait=False)


def run(command: list[str], environment: dict[str, str] | None = None, seconds: float = PROGRAM_SECONDS) -> Outcome:
    """Run a program without a terminal; return its status and all it printed."""
    try:
        process = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            timeout=seconds,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,  # no terminal to ask for a password
        )
    except subprocess.TimeoutExpired:
        return Outcome(None, "")
    return Outcome(process.returncode, process.stdout)


def service_records(name: str) -> list[Server]:
    """Look up SRV records (RFC 2782) by the machine's own resolver, in the order of their priority.

    Raises
    ------
    TimeoutError
        The name servers are silent.
    """
    try:
        records = dns.resolver.resolve(name, "SRV", lifetime=STEP_SECONDS)
    except dns.exception.Timeout:
        raise TimeoutError from None
    except dns.exception.DNSException:
        return []
    ordered = sorted(records, key=lambda record: (record.priority, -record.weight))
    return [Server(record.target.to_text(omit_final_dot=True), record.port) for record in ordered]


def addresses(host: str, port: int, remedy: str) -> list[str]:
    """Look a host up.

    Raises
    ------
    Problem
        DNS.
    """
    try:
        found = bounded(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise Problem("DNS", f"The name servers did not answer for {host}.", "Check /etc/resolv.conf.") from None
    except OSError as error:
        raise Problem("DNS", f"{host} is not known ({error.strerror}).", remedy) from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def connect(server: Server, remedy: str) -> socket.socket:
    """Open a TCP connection.

    Raises
    ------
    Problem
        DNS or TCP.
    """
    found = addresses(server.host, server.port, remedy)
    where = f"{server.host} ({', '.join(found)}) port {server.port}"
    try:
        return socket.create_connection((server.host, server.port), timeout=STEP_SECONDS)
    except ConnectionRefusedError:
        raise Problem("TCP", f"{where} refuses connections: nothing listens there.", remedy) from None
    except TimeoutError:
        raise Problem(
            "TCP", f"{where} does not answer.", "Check that the machine is up, and the firewalls on the way."
        ) from None
    except OSError as error:
        raise Problem("TCP", f"{where} cannot be reached ({error.strerror}).", remedy) from error


# -- LDAP -------------------------------------------------------------------------------------------------------------

#: An LDAP message with the extended request StartTLS (RFC 4511, section 4.14), number 1.
START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"


def ldap_servers(config: Configuration) -> list[Server]:
    """List the LDAP servers.

    Raises
    ------
    Problem
        DNS: discovery finds none.
    """
    servers = []
    for uri in (uri.strip() for uri in config.get("ldap_uri", "_srv_").split(",")):
        if uri == "_srv_":
            service = config.get("ldap_dns_service_name", "ldap")
            name = f"_{service}._tcp.{config.get('dns_discovery_domain', config.domain)}"
            try:
                found = service_records(name)
            except TimeoutError:
                found = []
            if not found:
                raise Problem("DNS", f"There are no SRV records {name}.", "Name the servers in sssd_servers.")
            servers += [Server(item.host, item.port, f"{service}://{item.host}:{item.port}") for item in found]
        else:
            match = re.fullmatch(r"(ldaps?)://(\[[^]]+\]|[^:/]+)(?::(\d+))?/?", uri)
            if not match:
                raise Problem("configuration", f"'{uri}' is no URI of an LDAP server.", "Correct sssd_servers.")
            port = int(match[3] or (636 if match[1] == "ldaps" else 389))
            servers.append(Server(match[2].strip("[]"), port, uri))
    return servers


def receive(connection: socket.socket) -> int | None:
    """Read the answer to an extended request; return its result code, None when the server hung up."""
    data = b""
    while len(data) < 12:
        part = connection.recv(4096)
        if not part:
            return None
        data += part
    # The headers around it have one length form or another: the result code is the first ENUMERATED.
    place = data.find(b"\x0a\x01")
    return data[place + 2] if 0 <= place < len(data) - 2 else None


def describe_certificate(der: bytes | None) -> str:
    """Say whom a certificate names and who signed it."""
    if not der or not shutil.which("openssl"):
        return ""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        command = ["openssl", "x509", "-noout", "-subject", "-issuer", "-enddate", "-ext", "subjectAltName"]
        text = run([*command, "-in", file.name]).text
    return "; ".join(line.strip() for line in text.splitlines() if line.strip() and "X509v3" not in line)


def probe_tls(config: Configuration, server: Server) -> None:
    """Connect and shake hands as the configuration says.

    Raises
    ------
    Problem
        DNS, TCP or TLS.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Problem(
            "TLS",
            f"{config.get('ldap_tls_cacert')} holds no certificates ({error}).",
            "Give a PEM file in sssd_ca_certificate.",
        ) from error
    # Python 3.13 asks more of an authority's certificate than SSSD's libraries do.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # Sees a certificate that is refused, to tell whose it is; nothing else goes over it.
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    ldaps = server.uri.startswith("ldaps")

    def handshake(context: ssl.SSLContext) -> bytes | None:
        with connect(server, "Correct sssd_servers.") as plain:
            if not ldaps:
                plain.sendall(START_TLS)
                code = receive(plain)
                if code != 0:
                    raise Problem(
                        "TLS",
                        f"{server.host} refuses StartTLS ({'it hung up' if code is None else f'result {code}'}).",
                        "Set sssd_tls: ldaps, or give the server a certificate.",
                    )
            with context.wrap_socket(plain, server_hostname=server.host) as secure:
                return secure.getpeercert(binary_form=True)

    if not (ldaps or config.yes("ldap_id_use_start_tls")):
        connect(server, "Correct sssd_servers.").close()
        return
    try:
        handshake(context)
    except ssl.SSLCertVerificationError as error:
        try:
            certificate = describe_certificate(handshake(blind))
        except (Problem, OSError):
            certificate = ""
        remedies = {
            9: "Check the clock of this machine.",
            10: "Renew the server's certificate, or check the clock of this machine.",
            62: f"Name the server in sssd_servers as its certificate does, not {server.host}.",
        }
        remedy = "Give the certificate of the authority that signed it in sssd_ca_certificate."
        raise Problem(
            "TLS",
            f"The certificate of {server.host} is not accepted with {config.get('ldap_tls_cacert')}:"
            f" {error.verify_message}." + (f" Its certificate says: {certificate}." if certificate else ""),
            remedies.get(error.verify_code, remedy),
        ) from error
    except TimeoutError:
        raise Problem(
            "TLS",
            f"{server.host} port {server.port} takes the connection but says nothing.",
            "Check that the LDAP server works" + (", and that this port speaks TLS." if ldaps else "."),
        ) from None
    except (ssl.SSLError, OSError) as error:
        raise Problem(
            "TLS",
            f"{server.host} port {server.port} does not shake hands ({error}).",
            "Check whether this port speaks TLS (ldaps) or not (start_tls).",
        ) from error


class Directory:
    """Asks one LDAP server by ldapsearch.

    Parameters
    ----------
    config
        How.
    server
        Whom.
    environment
        Where Kerberos keeps its configuration and its ticket.
    scratch
        Directory for the password, for this program alone.
    """

    def __init__(self, config: Configuration, server: Server, environment: dict[str, str], scratch: str) -> None:
        self.config = config
        self.server = server
        self._environment = {**environment, "LDAPTLS_CACERT": config.ca_file, "LDAPTLS_REQCERT": "demand"}
        self._command = ["ldapsearch", "-LLL", "-H", server.uri, "-o", "nettimeout=4", "-o", "ldif-wrap=no", "-l", "5"]
        if config.yes("ldap_id_use_start_tls") and not server.uri.startswith("ldaps"):
            self._command += ["-ZZ"]
        if config.keytab:
            self._command += ["-Q", "-Y", config.get("ldap_sasl_mech")]
            if not config.yes("ldap_sasl_canonicalize"):
                self._command += ["-N"]
        else:
            password = Path(scratch) / "password"
            password.touch(0o600)
            password.write_text(config.get("ldap_default_authtok"), encoding="utf-8")
            self._command += ["-x", "-D", config.get("ldap_default_bind_dn"), "-y", str(password)]

    def search(self, base: str, scope: str, what: str, *attributes: str) -> Outcome:
        """Search."""
        return run([*self._command, "-b", base, "-s", scope, what, *attributes], self._environment)

    def check_base(self) -> None:
        """See that the base is there, and if not, which layer fails.

        Raises
        ------
        Problem
            DNS, TCP, TLS, bind or search.
        """
        base = self.config.base
        outcome = self.search(base, "base", "(objectClass=*)", "1.1")
        if outcome.status == 0:
            return
        if outcome.status in {None, 245, 255} or "tls" in outcome.text.lower():  # no connection
            probe_tls(self.config, self.server)
        explain_ldap(self.config, self.server, outcome)

    def check_user(self, user: str) -> str:
        """See that the account is there with all that a login needs; say what it has.

        Raises
        ------
        Problem
            search.
        """
        config, base = self.config, self.config.base
        name = f"({config.user_attribute}={escape(user)})"
        what = f"(&(objectClass={config.user_class}){name})"
        mapping = config.yes("ldap_id_mapping")
        attributes = ["objectSid"] if mapping else ["uidNumber", "gidNumber"]
        outcome = self.search(base, "sub", what, *attributes)
        # Size or time exceeded, and referrals, come with entries.
        if outcome.status not in {0, 3, 4, 10}:
            explain_ldap(config, self.server, outcome)
        entries = parse_ldif(outcome.text)
        if not entries:
            outside = parse_ldif(self.search(base, "sub", name, "objectClass").text)
            if outside:
                classes = ", ".join(outside[0].get("objectclass", []))
                raise Problem(
                    "search",
                    f"{user} is in the directory ({outside[0]['dn'][0]}) as {classes}, but not as {config.user_class}.",
                    "Check sssd_schema, and that the account has Unix attributes.",
                )
            raise Problem(
                "search",
                f"{self.server.host} shows no account {user} below {base} ({what}).",
                "Check sssd_base, sssd_schema, sssd_probe_user, and what the bind account may read.",
            )
        entry = entries[0]
        missing = [attribute for attribute in attributes if attribute.lower() not in entry]
        if missing:
            raise Problem(
                "search",
                f"The entry {entry['dn'][0]} shows no {' and no '.join(missing)}.",
                "Let the bind account read it, give the account Unix attributes, or"
                " (Active Directory) set sssd_id_mapping: true.",
            )
        if not mapping:
            smallest, largest = int(config.get("min_id", "1")), int(config.get("max_id", "0"))
            for attribute in attributes:
                value = int(entry[attribute.lower()][0])
                if value < smallest or (largest and value > largest):
                    raise Problem(
                        "search",
                        f"{attribute} of {user} is {value}, outside {smallest} to {largest or 'any'}.",
                        "Set sssd_min_uid and sssd_max_uid so that accounts and their primary groups are inside.",
                    )
        return entry["dn"][0]


def explain_ldap(config: Configuration, server: Server, outcome: Outcome) -> None:
    """Say what an unsuccessful ldapsearch means.

    Raises
    ------
    Problem
        Always: bind, search or TLS.
    """
    text = " ".join(outcome.text.split())
    if outcome.status is None:
        raise Problem(
            "search", f"{server.host} did not answer within {PROGRAM_SECONDS:.0f} s.", "Check the LDAP server's load."
        )
    who = "the keytab's principal" if config.keytab else config.get("ldap_default_bind_dn") or "nobody (anonymous)"
    if outcome.status == 49:
        raise Problem(
            "bind",
            f"{server.host} refuses {who}: invalid credentials ({text}).",
            "Correct sssd_keytab." if config.keytab else "Correct sssd_bind_dn and sssd_bind_password.",
        )
    if outcome.status == 32:
        matched = re.search(r"Matched DN: (\S.*?)(?: Additional|$)", text)
        raise Problem(
            "search",
            f"{server.host} has no {config.base}, or does not show it to {who}."
            + (f" The longest part that exists is {matched[1]}." if matched else ""),
            "Correct sssd_base.",
        )
    if outcome.status == 34 or "Invalid DN" in text:
        raise Problem("search", f"A DN is not well formed ({text}).", "Correct sssd_base and sssd_bind_dn.")
    if outcome.status in {8, 13, 48, 50, 53} or "bind" in text:
        raise Problem(
            "bind",
            f"{server.host} does not let {who} read ({text}).",
            "Give an account that may search, in sssd_bind_dn and sssd_bind_password or sssd_keytab.",
        )
    if outcome.status in {245, 255}:
        raise Problem(
            "TLS", f"ldapsearch cannot connect to {server.uri} ({text}).", "Run it by hand with -d 1 to see more."
        )
    raise Problem("search", f"{server.host} answers: {text}.", "Look into the LDAP server's log.")


def escape(value: str) -> str:
    """Write a value so that it means itself in a filter (RFC 4515)."""
    return re.sub(r"[\\*()\0]", lambda match: f"\\{ord(match[0]):02x}", value)


def parse_ldif(text: str) -> list[dict[str, list[str]]]:
    """Read the entries of LDIF without wrapped lines; names of attributes in small letters."""
    entries: list[dict[str, list[str]]] = []
    for block in re.split(r"\n\s*\n", text):
        entry: dict[str, list[str]] = {}
        for name, double, value in re.findall(r"^([A-Za-z][\w;.-]*):(:?) ?(.*)$", block, re.MULTILINE):
            if double:
                value = base64.b64decode(value).decode("utf-8", "replace")
            entry.setdefault(name.lower(), []).append(value)
        if "dn" in entry:
            entries.append(entry)
    return entries


# -- Kerberos ---------------------------------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    """Write a value of ASN.1 by the distinguished rules."""
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def integer(value: int) -> bytes:
    """Write an INTEGER."""
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def parse_der(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the values that stand one after the other."""
    while len(data) >= 2:
        tag, length, start = data[0], data[1], 2
        if length & 0x80:
            start = 2 + (length & 0x7F)
            length = int.from_bytes(data[2:start], "big")
        yield tag, data[start : start + length]
        data = data[start + length :]


def ticket_request(user: str, realm: str) -> bytes:
    """Write an AS-REQ without preauthentication (RFC 4120, section 5.4.1)."""

    def name(kind: int, *parts: str) -> bytes:
        strings = der(0x30, *(der(0x1B, part.encode()) for part in parts))
        return der(0x30, der(0xA0, integer(kind)), der(0xA1, strings))

    body = der(
        0x30,
        der(0xA0, der(3, b"\0" * 5)),
        der(0xA1, name(1, *user.split("/"))),
        der(0xA2, der(0x1B, realm.encode())),
        der(0xA3, name(2, "krbtgt", realm)),
        der(0xA5, der(0x18, b"20370101000000Z")),
        der(0xA7, integer(secrets.randbits(31))),
        der(0xA8, der(0x30, *(integer(number) for number in (18, 17, 20, 19, 23)))),
    )
    return der(0x6A, der(0x30, der(0xA1, integer(5)), der(0xA2, integer(10)), der(0xA4, body)))


def parse_answer(answer: bytes) -> tuple[int, datetime.datetime | None]:
    """Return the error code of a KDC's answer (0 for a ticket) and its clock, if the answer tells it."""
    (tag, content), *_ = parse_der(answer)
    if tag == 0x6B:
        return 0, None
    if tag != 0x7E:
        raise ValueError
    fields = {tag: next(parse_der(value))[1] for tag, value in parse_der(next(parse_der(content))[1])}
    clock = datetime.datetime.strptime(fields[0xA4].decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)
    return int.from_bytes(fields[0xA6], "big"), clock


def kdcs(config: Configuration) -> list[Server]:
    """List the KDCs.

    Raises
    ------
    Problem
        DNS: discovery finds none.
    """
    names = [name.strip() for name in config.get("krb5_server").split(",") if name.strip() not in {"", "_srv_"}]
    if names:
        split = [re.fullmatch(r"(?:\[([^]]+)\]|([^:]+))(?::(\d+))?", name) for name in names]
        return [Server(match[1] or match[2], int(match[3] or 88)) for match in split if match]
    tried = []
    for domain in dict.fromkeys([config.realm.lower(), config.get("dns_discovery_domain", config.domain).lower()]):
        for protocol in ("tcp", "udp"):
            tried.append(f"_kerberos._{protocol}.{domain}")
            try:
                found = service_records(tried[-1])
            except TimeoutError:
                continue
            if found:
                return found
    raise Problem("DNS", f"There are no SRV records {', '.join(tried)}.", "Name the KDCs in sssd_kdcs.")


def ask_kdc(server: Server, request: bytes) -> bytes:
    """Send a request by TCP, by UDP when nothing listens there; return the answer.

    Raises
    ------
    Problem
        DNS, TCP or KDC.
    """
    silent = Problem(
        "KDC",
        f"{server.host} port {server.port} says nothing.",
        "Check that the KDC works, and the firewalls on the way.",
    )
    try:
        with connect(server, "Correct sssd_kdcs.") as connection:
            connection.sendall(struct.pack(">I", len(request)) + request)
            data = b""
            while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
                part = connection.recv(65536)
                if not part:
                    raise silent
                data += part
            return data[4:]
    except TimeoutError:
        raise silent from None
    except Problem as problem:
        if problem.layer != "TCP":
            raise
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                datagram.settimeout(1.0)
                datagram.connect((server.host, server.port))
                datagram.send(request)
                return datagram.recv(65536)
        except OSError:
            raise problem from None
    except OSError as error:
        raise Problem("KDC", f"{server.host} hung up ({error.strerror}).", "Look into the KDC's log.") from error


def check_kdc(server: Server, user: str, realm: str) -> str:
    """Ask a KDC for a ticket without a password, and say what its answer tells.

    Raises
    ------
    Problem
        DNS, TCP, KDC or clock.
    """
    try:
        code, clock = parse_answer(ask_kdc(server, ticket_request(user, realm)))
    except (ValueError, KeyError, IndexError, StopIteration):
        raise Problem(
            "KDC", f"{server.host} port {server.port} does not speak Kerberos.", "Correct sssd_kdcs."
        ) from None
    if clock is not None:
        skew = clock.timestamp() - time.time()
        if abs(skew) > SKEW_SECONDS:
            raise Problem(
                "clock",
                f"The clock of {server.host} is {abs(skew):.0f} s {'before' if skew > 0 else 'behind'} this machine's.",
                "Have both follow a time server (systemd-timesyncd, chrony); Kerberos tolerates five minutes.",
            )
    if code in {0, 25}:
        return "knows the realm and the account"
    if code in {1, 12, 18}:
        return "knows the realm; it refuses the account for now (expired or locked)"
    # MIT's KDC says the same of an unknown realm: ask for the realm's own account, as MIT's and as Microsoft's name it.
    if code == 6 and any(
        parse_answer(ask_kdc(server, ticket_request(name, realm)))[0] not in {6, 7}
        for name in (f"krbtgt/{realm}", "krbtgt")
    ):
        raise Problem(
            "KDC",
            f"{server.host} knows no account {user}@{realm}.",
            "Check sssd_realm and sssd_probe_user: the name in the directory must be the one in Kerberos.",
        )
    if code in {6, 7, 68}:
        raise Problem("KDC", f"{server.host} does not serve the realm {realm}.", "Correct sssd_realm or sssd_kdcs.")
    raise Problem("KDC", f"{server.host} answers with error {code}.", "RFC 4120, section 7.5.9, lists them.")


def check_kinit(config: Configuration, user: str, environment: dict[str, str]) -> None:
    """See that the library finds its way by krb5.conf as well.

    Raises
    ------
    Problem
        KDC.
    """
    outcome = run(["kinit", f"{user}@{config.realm}"], environment)
    text = " ".join(outcome.text.split())
    if outcome.status is None:
        raise Problem("KDC", f"kinit had no answer in {PROGRAM_SECONDS:.0f} s.", f"Check {config.krb5_conf}.")
    # It got as far as to ask for the password, or the account was refused as the KDC had told.
    if re.search(r"[Pp]assword|expired|revoked", text) or outcome.status == 0:
        return
    raise Problem("KDC", f"kinit says: {text}.", "Check sssd_realm, sssd_kdcs and the files in /etc/krb5.conf.d.")


def check_keytab(config: Configuration, environment: dict[str, str]) -> None:
    """Get a ticket with the keytab.

    Raises
    ------
    Problem
        KDC.
    """
    principal = config.get("ldap_sasl_authid")
    command = ["kinit", "-k", "-t", config.keytab, *([principal] if principal else [])]
    outcome = run(command, environment)
    text = " ".join(outcome.text.split())
    if outcome.status == 0:
        return
    if outcome.status is None:
        raise Problem("KDC", "kinit had no answer.", "Check the KDC.")
    remedies = {
        "not found in Kerberos database": "Add the machine to Kerberos, or give a keytab of this realm in sssd_keytab.",
        "no suitable keys": "Give a keytab that holds this principal in sssd_keytab.",
        "Preauthentication failed": "The keys were changed since: export the keytab anew.",
        "Password incorrect": "The keys were changed since: export the keytab anew.",
        "Clock skew": "Set the clock; Kerberos tolerates five minutes.",
    }
    remedy = next((remedy for part, remedy in remedies.items() if part in text), "Correct sssd_keytab.")
    raise Problem("KDC", f"No ticket for {principal or 'the keytab'}: {text}.", remedy)


# -- all together -----------------------------------------------------------------------------------------------------


def first_that_works(servers: list[Server], check: Callable[[Server], str], layer: str) -> Server:
    """Check all servers; one that works is enough, of the others a note is made.

    Raises
    ------
    Problem
        Of the first server, when none works.
    """
    problems, good = [], []
    for server in servers:
        try:
            said = check(server)
        except Problem as problem:
            problems.append(problem)
        else:
            say(layer, f"{server.host} {said}")
            good.append(server)
    if not good:
        if len(problems) > 1:
            raise Problem(problems[0].layer, " ".join(str(problem) for problem in problems), "")
        raise problems[0]
    for other in problems:
        print(f"warning {other}", flush=True)
    return good[0]


@contextmanager
def scratch_directory() -> Iterator[str]:
    """Lend a directory in memory, for root alone."""
    with tempfile.TemporaryDirectory(prefix="check-directory-", dir="/run") as path:
        yield path


def check_syntax(config: Configuration) -> None:
    """Let SSSD's own checker look for names that it does not know.

    Raises
    ------
    Problem
        configuration.
    """
    if not shutil.which("sssctl"):
        return
    command = ["sssctl", "config-check", f"--config={config.sssd_conf}", "--snippet=/etc/sssd/conf.d"]
    outcome = run(command, seconds=30)
    # Its status tells of a missing directory as well.
    lines = [line for line in outcome.text.splitlines() if line.startswith("[rule/")]
    if lines or (outcome.status and "Issues identified" not in outcome.text):
        raise Problem(
            "configuration",
            f"sssctl config-check says: {' '.join(lines) or ' '.join(outcome.text.split())}",
            "Correct sssd_settings.",
        )


def check(config: Configuration, user: str) -> None:
    """Go the whole way.

    Raises
    ------
    Problem
        The layer that fails.
    """
    check_syntax(config)
    with scratch_directory() as scratch:
        environment = {
            "KRB5_CONFIG": config.krb5_conf,
            "KRB5CCNAME": f"FILE:{scratch}/ticket",
            # Else the way that SSSD found to the KDC would be taken, not the one that krb5.conf shows.
            "SSSD_KRB5_LOCATOR_DISABLE": "1",
        }
        if config.realm:
            realm = config.realm
            first_that_works(kdcs(config), lambda server: check_kdc(server, user, realm), "KDC")
            check_kinit(config, user, environment)
        if config.keytab:
            check_keytab(config, environment)
            say("KDC", "the keytab is good for a ticket")

        def check_server(server: Server) -> str:
            directory = Directory(config, server, environment, scratch)
            directory.check_base()
            return f"speaks TLS, lets this machine bind, and shows {directory.check_user(user)}"

        first_that_works(ldap_servers(config), check_server, "LDAP")


def main(arguments: list[str] | None = None) -> int:
    """Check, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("user", help="an account of the directory")
    parser.add_argument("--root", default="", help="directory whose etc/ stands before the machine's: a candidate")
    options = parser.parse_args(arguments)
    try:
        check(Configuration(options.root), options.user)
    except Problem as problem:
        print(f"FAILED  {problem}".strip(), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    # A look-up that never ends must not hold the program's own end.
    status = main()
    sys.stdout.flush()
    os._exit(status)
