#!/usr/bin/python3
"""Make this VM the campus: a directory (OpenLDAP) and a realm (MIT Kerberos), and play their faults for the tests.

Installed as /usr/local/sbin/campus_ctl.py, and campus-ctl for short; runs as root. It needs Debian's packages and
Python's standard library alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REALM = "EXAMPLE.ORG"
# Two directories with the same people: the first has the groups of RFC 2307 (names of members), the second those of
# RFC 2307bis (their entries, nested).
BASE, BASE_BIS = BASES = ("dc=example,dc=org", "dc=example,dc=net")
SERVICE_PASSWORD = "swan-bind-1"  # noqa: S105 (of VMs only)
NAMES = ("campus.example.org", "ldap.example.org", "kdc.example.org", "auth.example.org")
PACKAGES = ("slapd", "ldap-utils", "krb5-kdc", "krb5-admin-server", "krb5-user", "libsasl2-modules-gssapi-mit")
SERVICES = {"ldap": ["slapd"], "kdc": ["krb5-kdc", "krb5-admin-server"]}
SERVICES["all"] = [*SERVICES["ldap"], *SERVICES["kdc"]]
# Only where the program of that name was run.
SERVICES["oidc"] = ["nginx", "lemonldap-ng-fastcgi-server"]
SERVICES["database"] = ["postgresql"]
SERVICES["acme"] = ["pebble"]
SERVICES["dns"] = ["dnsmasq"]
SERVICES["cvmfs"] = ["campus-cvmfs"]
SERVICES["eos"] = ["xrootd@eos"]
#: Ports of services that can be cut off.
PORTS = {"cvmfs": 8000, "eos": 1094}
EXPIRED_DAYS, EXPIRED = 18262, "2020-01-01"  # the same day for LDAP and Kerberos

STATE = Path("/var/lib/campus")
TLS = STATE / "tls"
KEYTABS = STATE / "keytabs"
STAMP = STATE / "seed.sha256"
COMMAND = Path("/usr/local/sbin/campus-ctl")
SLAPD_KEYTAB = Path("/etc/ldap/ldap.keytab")

FILES = {
    "/etc/krb5.conf": f"""\
[libdefaults]
    default_realm = {REALM}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    rdns = false
    # The directory has several names, and a key for each.
    ignore_acceptor_hostname = true

[realms]
    {REALM} = {{
        kdc = kdc.example.org
        admin_server = kdc.example.org
    }}

[domain_realm]
    .example.org = {REALM}
""",
    "/etc/krb5kdc/kdc.conf": f"""\
[kdcdefaults]
    kdc_ports = 88
    kdc_tcp_ports = 88

[realms]
    {REALM} = {{
        max_life = 10h
        max_renewable_life = 7d
        default_principal_flags = +preauth
        acl_file = /etc/krb5kdc/kadm5.acl
    }}
""",
    "/etc/krb5kdc/kadm5.acl": f"*/admin@{REALM} *\n",
    "/etc/default/slapd": f"""\
SLAPD_CONF=/etc/ldap/slapd.d
SLAPD_USER=openldap
SLAPD_GROUP=openldap
SLAPD_SERVICES="ldap:/// ldaps:/// ldapi:///"
SLAPD_OPTIONS=""
# Debian 12 sources this in a shell, Debian 13 hands it to systemd, which passes over the second line.
KRB5_KTNAME={SLAPD_KEYTAB}
export KRB5_KTNAME
""",
    "/etc/ldap/ldap.conf": f"BASE {BASE}\nURI ldap://ldap.example.org\nTLS_CACERT {TLS}/ca.pem\n",
}

ROOT = "gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth"

CONFIGURATION = f"""\
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: /run/slapd/slapd.pid
olcArgsFile: /run/slapd/slapd.args
olcTLSCACertificateFile: {TLS}/ca.pem
olcTLSCertificateFile: {TLS}/cert.pem
olcTLSCertificateKeyFile: {TLS}/key.pem
olcSaslRealm: {REALM}
olcAuthzRegexp: {{0}}"uid=host/([^.,]+)\\.example\\.org(,cn=example.org)?,cn=gssapi,cn=auth" "cn=$1,ou=services,{BASE}"
olcAuthzRegexp: {{1}}"uid=([^/,]+)(,cn=example.org)?,cn=gssapi,cn=auth" "uid=$1,ou=people,{BASE}"

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif
include: file:///etc/ldap/schema/cosine.ldif
include: file://{STATE}/nis.ldif
include: file:///etc/ldap/schema/inetorgperson.ldif

dn: olcDatabase={{0}}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {{0}}config
olcAccess: to * by dn.exact={ROOT} manage by * none
"""

# Nobody searches without a name, and no password crosses the network in the clear. Whoever has a name, person or
# service, reads all but the passwords.
DATABASE = """
dn: olcDatabase={{{number}}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{{number}}}mdb
olcSuffix: {base}
olcDbDirectory: {directory}
olcDbMaxSize: 268435456
olcDbNoSync: TRUE
olcDbIndex: objectClass,uid,uidNumber,gidNumber,cn,member,memberUid eq
olcRequires: authc
olcSecurity: simple_bind=128
olcAccess: to attrs=userPassword by dn.exact={root} manage by anonymous auth by * none
olcAccess: to * by dn.exact={root} manage
  by dn.regex="^(uid=[^,]+,ou=people|cn=[^,]+,ou=services),dc=example,dc=(org|net)$" read by * none
"""


def run(*command: str, stdin: str | None = None, **environment: str) -> str:
    """Run a program and return what it printed; end with its words when it fails."""
    result = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if result.returncode:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}: {result.stderr or result.stdout}")
    return result.stdout


def kadmin(*queries: str) -> str:
    """Ask the realm's database; kadmin.local itself never fails, so its complaints do."""
    result = subprocess.run(["kadmin.local"], input="\n".join(queries), capture_output=True, text=True, check=False)
    complaints = [line for line in result.stderr.splitlines() if not line.startswith(("No policy", "WARNING"))]
    if result.returncode or complaints:
        sys.exit(f"kadmin.local: {' '.join(complaints)}")
    return result.stdout


def principal(name: str) -> str:
    """Name a principal of the realm."""
    return f"{name}@{REALM}"


def entry(user: str, base: str = BASE) -> str:
    """Name a person's entry."""
    return f"uid={user},ou=people,{base}"


# -- setup ----------------------------------------------------------------------------------------------------------


def ldif(dn: str, **attributes: Any) -> str:
    """Write an entry; values may be lists."""
    lines = [f"dn: {dn}"]
    for name, values in attributes.items():
        for value in values if isinstance(values, list) else [values]:
            text = str(value)
            encoded = base64.b64encode(text.encode()).decode()
            lines.append(f"{name}: {text}" if text.isascii() else f"{name}:: {encoded}")
    return "\n".join(lines) + "\n\n"


def hashed(password: str) -> str:
    """Hash a password as slapd's {SSHA}."""
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt).digest()  # noqa: S324 (slapd knows no better without a module)
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def person(people: dict[str, Any], base: str, account: dict[str, Any]) -> str:
    """Write a person's entry, with a Unix account if there is a number for it."""
    user = account.get("directory_name", account["user"])
    name = account.get("name", user)
    attributes: dict[str, Any] = {
        "objectClass": ["inetOrgPerson"],
        "uid": user,
        "cn": name,
        "sn": name.split()[-1],
        "displayName": name,
        "mail": f"{account['user']}@example.org",
    }
    if "password" in account:
        attributes["userPassword"] = hashed(account["password"])
    if "uid" in account:
        attributes["objectClass"] += ["posixAccount", "shadowAccount"]
        attributes |= {
            "uidNumber": account["uid"],
            "gidNumber": people["groups"][account["primary_group"]],
            "homeDirectory": f"/home/{account['user']}",
            "loginShell": "/bin/bash",
        }
    if account.get("role") == "expired":
        attributes["shadowExpire"] = EXPIRED_DAYS
    return ldif(entry(user, base), **attributes)


def directory(people: dict[str, Any], base: str) -> Iterator[str]:
    """Write all entries of a directory."""
    yield ldif(base, objectClass=["organization", "dcObject"], o="Example University", dc=base.split(",")[0][3:])
    for unit in ("people", "groups", "services"):
        yield ldif(f"ou={unit},{base}", objectClass="organizationalUnit", ou=unit)
    yield ldif(
        f"cn=hub,ou=services,{base}",
        objectClass=["organizationalRole", "simpleSecurityObject"],
        cn="hub",
        userPassword=hashed(SERVICE_PASSWORD),
    )
    physicists = [
        {"user": f"p{number:04}", "uid": 11000 + number, "primary_group": "physics", "groups": ["physics"]}
        for number in range(1, people["members_of_physics"] + 1)
    ]
    accounts = [*people["people"], *physicists]
    for account in [*accounts, *people["without_account"]]:
        yield person(people, base, account)
    for group, number in people["groups"].items():
        members = [person for person in accounts if group in person["groups"]]
        names = [member.get("directory_name", member["user"]) for member in members]
        dn = f"cn={group},ou=groups,{base}"
        if base == BASE:
            yield ldif(
                dn, objectClass=["organizationalRole", "posixGroup"], cn=group, gidNumber=number, memberUid=names
            )
            continue
        entries = [entry(name, base) for name in names]
        if group == "students":
            entries.remove(entry("bob", base))
            entries.append(f"cn=first-year,ou=groups,{base}")
        # A group of this kind must have a member, if only itself.
        yield ldif(dn, objectClass=["groupOfNames", "posixGroup"], cn=group, gidNumber=number, member=entries or [dn])


def install_packages(packages: Sequence[str]) -> None:
    """Install what is missing, without a question and without starting what is not configured yet."""
    installed = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}\n", *packages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.stdout.split() == ["installed"] * len(packages):
        return
    policy = Path("/usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        run("apt-get", "update", "-qq")
        run(
            "apt-get", "install", "-qq", "--no-install-recommends", "-o", "Dpkg::Options::=--force-unsafe-io",
            *packages, DEBIAN_FRONTEND="noninteractive",
        )  # fmt: skip
    finally:
        policy.unlink()


def make_certificates() -> None:
    """Make a CA, once, and with it a certificate for all names of this machine."""
    if (TLS / "cert.pem").exists():
        return
    TLS.mkdir(parents=True, exist_ok=True)
    names = ",".join(f"DNS:{name}" for name in NAMES)
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "3650", "-batch"]
    ca, ca_key = f"{TLS}/ca.pem", f"{TLS}/ca.key"
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    run(*new, "-subj", "/CN=Campus CA", *usage, "-keyout", ca_key, "-out", ca)
    run(
        *new, "-subj", f"/CN={NAMES[0]}", "-CA", ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE",
        "-addext", f"subjectAltName={names}", "-keyout", f"{TLS}/key.pem", "-out", f"{TLS}/cert.pem",
    )  # fmt: skip
    run("chgrp", "openldap", f"{TLS}/key.pem")
    Path(TLS / "key.pem").chmod(0o640)


def make_realm(people: dict[str, Any], keytab_hosts: list[str]) -> None:
    """Make the realm's people anew; machines keep their keys, which others may hold already."""
    if not Path("/var/lib/krb5kdc/principal").exists():
        run("kdb5_util", "-r", REALM, "create", "-s", "-P", secrets.token_hex(16))
    KEYTABS.mkdir(mode=0o700, exist_ok=True)
    there = [word for word in kadmin("listprincs").split() if word.endswith(f"@{REALM}")]
    queries = [f"delprinc -force {name}" for name in there if "/" not in name]
    for account in people["people"]:
        # A client may ask for the name as the directory writes it, or as Unix does.
        for name in {account["user"], account.get("directory_name", account["user"])}:
            expire = f"-expire {EXPIRED} " if account["role"] == "expired" else ""
            queries.append(f"addprinc {expire}-pw {account['password']} {principal(name)}")
    machines = [(f"ldap/{name}", SLAPD_KEYTAB) for name in NAMES[:2]]
    machines += [(f"host/{host}", KEYTABS / f"{host.split('.')[0]}.keytab") for host in [*keytab_hosts, NAMES[0]]]
    for name, keytab in machines:
        if principal(name) in there:
            continue
        queries += [f"addprinc -randkey {principal(name)}", f"ktadd -k {keytab} {principal(name)}"]
    kadmin(*queries)
    run("chown", "openldap:openldap", str(SLAPD_KEYTAB))


def make_directory(people: dict[str, Any]) -> None:
    """Make the directory anew."""
    # Debian's schema of RFC 2307, but with groups as RFC 2307bis has them: beside another class that lists members.
    # For clients of RFC 2307 they look the same.
    schema = Path("/etc/ldap/schema/nis.ldif").read_text().replace("\n ", "")
    lines = [
        line.replace("STRUCTURAL", "AUXILIARY") if "NAME 'posixGroup'" in line else line for line in schema.splitlines()
    ]
    (STATE / "nis.ldif").write_text("\n".join(lines) + "\n")
    directories = [Path(f"/var/lib/ldap/{base.split('=')[-1]}") for base in BASES]
    run("rm", "-rf", "/etc/ldap/slapd.d", *map(str, directories))
    configuration = CONFIGURATION
    for number, (base, path) in enumerate(zip(BASES, directories, strict=True), start=1):
        path.mkdir(parents=True)
        configuration += DATABASE.format(number=number, base=base, directory=path, root=ROOT)
    Path("/etc/ldap/slapd.d").mkdir()
    # slapadd opens files as it likes: standard input is not one of them for `include:`.
    with tempfile.NamedTemporaryFile("w", suffix=".ldif", dir=STATE) as file:
        file.write(configuration)
        file.flush()
        run("slapadd", "-n", "0", "-F", "/etc/ldap/slapd.d", "-l", file.name)
    for base in BASES:
        run("slapadd", "-q", "-F", "/etc/ldap/slapd.d", "-b", base, stdin="".join(directory(people, base)))
    run("chown", "-R", "openldap:openldap", "/etc/ldap/slapd.d", "/var/lib/ldap")


def setup() -> None:
    """Make the campus from the people on standard input; say "changed" if it was not so already.

    What it is made from is remembered as a checksum: it is made anew when that changes, and otherwise left alone.
    """
    text = sys.stdin.read()
    units = SERVICES["all"]
    stamp = hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()
    seeded = STAMP.exists() and STAMP.read_text() == stamp
    if seeded and all(active(unit) for unit in units):
        return
    if not seeded:
        seed = json.loads(text)
        run("debconf-set-selections", stdin="slapd slapd/no_configuration boolean true\n")
        install_packages(PACKAGES)
        run("systemctl", "stop", *units)
        for name, content in FILES.items():
            Path(name).write_text(content)
        make_certificates()
        make_realm(seed, seed["keytab_hosts"])
        make_directory(seed)
    COMMAND.unlink(missing_ok=True)
    COMMAND.symlink_to(Path(__file__).name)
    run("systemctl", "start", *units)
    STAMP.write_text(stamp)
    print("changed")


def active(unit: str) -> bool:
    """Tell whether a service runs."""
    return subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


# -- what tests do to it --------------------------------------------------------------------------------------------


def names_of(user: str) -> set[str]:
    """Return the names a person has: as the directory writes it and as Unix does."""
    found = run("ldapsearch", "-LLL", "-Q", "-Y", "EXTERNAL", "-H", "ldapi:///", "-b", BASE, f"(uid={user})", "uid")
    names = {line.split(": ")[1] for line in found.splitlines() if line.startswith("uid: ")}
    if not names:
        sys.exit(f"There is nobody {user!r} in the directory.")
    return names | {name.lower() for name in names}


def modify(user: str, change: str) -> None:
    """Change a person's entry in both directories."""
    changes = "".join(f"dn: {entry(user, base)}\nchangetype: modify\n{change}\n\n" for base in BASES)
    run("ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", "ldapi:///", stdin=changes)


def password(user: str, new: str) -> None:
    """Give a person another password, in the directory and in the realm."""
    kadmin(*(f"cpw -pw {new} {principal(name)}" for name in names_of(user)))
    modify(user, f"replace: userPassword\nuserPassword: {hashed(new)}")


def expire(user: str) -> None:
    """Let a person's account have ended."""
    kadmin(*(f"modprinc -expire {EXPIRED} {principal(name)}" for name in names_of(user)))
    modify(user, f"replace: shadowExpire\nshadowExpire: {EXPIRED_DAYS}")


def unexpire(user: str) -> None:
    """Let a person's account never end."""
    kadmin(*(f"modprinc -expire never {principal(name)}" for name in names_of(user)))
    modify(user, "replace: shadowExpire")


def ticket_life(user: str, life: str, renewable: str) -> None:
    """Limit how long a person's tickets are valid, and how long they may be renewed: 2m, 10h, 7d."""
    limits = f"-maxlife {life} -maxrenewlife {renewable}"
    kadmin(*(f"modprinc {limits} {principal(name)}" for name in names_of(user)))


def crowd(count: str) -> None:
    """Let the first of the physicists log in as students; print their users and passwords as JSON."""
    accounts = [(f"p{number:04}", f"swan-flock-{number}") for number in range(1, int(count) + 1)]
    members = "\n".join(f"memberUid: {user}" for user, _ in accounts)
    change = f"dn: cn=students,ou=groups,{BASE}\nchangetype: modify\nadd: memberUid\n{members}\n"
    known = run(
        "ldapsearch", "-LLL", "-Q", "-Y", "EXTERNAL", "-H", "ldapi:///", "-b", BASE, "(cn=students)", "memberUid"
    )
    if f"memberUid: {accounts[-1][0]}\n" not in known:
        run("ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", "ldapi:///", stdin=change)
        kadmin(*(f"addprinc -pw {word} {principal(user)}" for user, word in accounts))
    print(json.dumps(accounts))


def control(action: str, which: str) -> None:
    """Freeze (accept connections, never answer), thaw, stop (refuse connections) or start the services."""
    if action in ("stop", "start"):
        run("systemctl", action, *SERVICES[which])
    else:
        run("systemctl", "kill", f"--signal={'STOP' if action == 'freeze' else 'CONT'}", *SERVICES[which])


def filter_rule(port: str) -> list[str]:
    """Return iptables' rule for all packets to a service. User-Mode Linux has no nftables for IP."""
    return ["INPUT", "-p", "tcp", "--dport", str(PORTS[port]), "-j", "DROP"]


def cut(port: str) -> None:
    """Drop all packets to a service, as a broken network does."""
    run("iptables-legacy", "-I", *filter_rule(port))


def mend(port: str) -> None:
    """Let the packets through again."""
    run("iptables-legacy", "-D", *filter_rule(port))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="campus-ctl", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Any, *arguments: str, **fixed: Any) -> None:
        sub = commands.add_parser(name, help=function.__doc__.splitlines()[0])
        sub.set_defaults(function=function, **fixed)
        for argument in arguments:
            choices = {"which": list(SERVICES), "port": list(PORTS)}.get(argument)
            sub.add_argument(argument, choices=choices)

    command("setup", setup)
    command("password", password, "user", "new")
    command("expire", expire, "user")
    command("unexpire", unexpire, "user")
    command("crowd", crowd, "count")
    command("ticket-life", ticket_life, "user", "life", "renewable")
    for action in ("freeze", "thaw", "stop", "start"):
        command(action, control, "which", action=action)
    command("cut", cut, "port")
    command("mend", mend, "port")
    options = vars(parser.parse_args())
    options.pop("function")(**options)


if __name__ == "__main__":
    main()
