#!/opt/cygnet/jupyterhub/bin/python -I
"""Back up the state and the secrets of the hub, and restore them.

`hub-backup create` writes one file, which nobody can read but the owner of an age identity. `hub-backup check FILE` and
`hub-backup restore FILE` take that identity on their standard input, so that it never lies on this machine; what they
read is kept in memory.

A backup is a tar archive, encrypted by age (https://age-encryption.org/v1): `manifest.json` first, then the copy of
the database, then files by their path below `files/`. It runs in the hub's own environment, for its database and its
schema.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import os
import platform
import re
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import jupyterhub
import sqlalchemy
from alembic.script import ScriptDirectory

from jupyterhub_sessions import unix_http

FORMAT = 1
#: Below the root of the machine. What the proxy's unit reads stands in that of the hub.
TREES = ("etc/jupyterhub", "var/lib/jupyterhub")
UNIT = "etc/systemd/system/jupyterhub.service"
SECRETS = "etc/jupyterhub/secrets.json"
ANNOUNCEMENT = "etc/cygnet/announcement.txt"
CERTIFICATE, KEY = "etc/nginx/tls/certificate.pem", "etc/nginx/tls/key.pem"
#: Made from the inventory by each run of site.yml, for the versions that are installed: kept, and not put back.
FROM_INVENTORY = re.compile(r"etc/jupyterhub/(jupyterhub_config\.py|secrets\.json|logo.*)")
DATABASE = "database"
ASIDE = "var/backups"
SOCKET = "run/jupyterhub/hub.sock"
HEALTHY_SECONDS = 120.0
#: What is told of a hub's database, and how it is asked.
CONTENTS = {
    "revision": "SELECT version_num FROM alembic_version",
    "users": "SELECT count(*) FROM users",
    "tokens": "SELECT count(*) FROM api_tokens",
}


class BackupError(Exception):
    """Something is wrong; the message says what was found and what to do."""


def run(command: list[str], data: bytes = b"", environment: dict[str, str] | None = None) -> bytes:
    """Run a program and return what it prints.

    Raises
    ------
    BackupError
        It fails; the message is its own.
    """
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            check=False,
            env=os.environ | (environment or {}),
            # Without a terminal: a program that wants to ask somebody fails in place of waiting.
            start_new_session=True,
        )
    except OSError as error:
        raise BackupError(f"{command[0]} cannot be started: {error.strerror}. Run site.yml.") from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise BackupError(f"{command[0]}: {said or f'exit status {done.returncode}'}")
    return done.stdout


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


# -- the database -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sqlite:
    """The hub's database in a file.

    Parameters
    ----------
    path
        The file.
    """

    path: Path
    kind = "sqlite"

    def ours(self, path: Path) -> bool:
        """Tell whether a file is the database's, or beside it one of SQLite's own."""
        return path.parent == self.path.parent and re.fullmatch(
            re.escape(self.path.name) + "(-journal|-wal|-shm)?", path.name
        ) is not None  # fmt: skip

    def copy(self) -> bytes:
        """Copy the database while the hub works with it, by SQLite's own means (https://sqlite.org/backup.html)."""
        if not self.path.exists():
            raise BackupError(f"The hub has no database {self.path}. Start the hub once.")
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(":memory:")) as target:
            source.backup(target)
            data = bytearray(target.serialize())
        # Complete in itself, and says so: one that has a log beside it (2) cannot be read from memory
        # (https://sqlite.org/fileformat.html#file_format_version_numbers).
        data[18:20] = b"\1\1"
        return bytes(data)

    def keep(self) -> bytes | None:
        """Copy the database that is about to be replaced, however it is; None where there is none."""
        try:
            return self.copy()
        except sqlite3.Error:
            # What is to be mended.
            return self.path.read_bytes()
        except BackupError:
            return None

    def look(self, data: bytes) -> dict[str, Any]:
        """Tell what is in a copy, which must be sound."""
        try:
            with closing(sqlite3.connect(":memory:")) as copy:
                copy.deserialize(data)
                (said,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
                if said != "ok":
                    raise BackupError(f"The database in the backup is damaged: {said}. Take an older one.")
                return {what: copy.execute(statement).fetchone()[0] for what, statement in CONTENTS.items()}
        except sqlite3.Error as error:
            raise BackupError(f"The database in the backup cannot be read: {error}. Take an older one.") from error

    def check(self, data: bytes) -> None:
        """Tell whether a copy is sound."""
        self.look(data)

    def put(self, data: bytes) -> None:
        """Put a copy in the place of the database; the hub must not run."""
        for name in ("-journal", "-wal", "-shm"):
            # They belong to the old one, and would be played into the new one.
            self.path.with_name(self.path.name + name).unlink(missing_ok=True)
        write(self.path, data, 0o600)


@dataclass(frozen=True)
class Postgresql:
    """The hub's database on a server, copied by PostgreSQL's own programs.

    Parameters
    ----------
    url
        The SQLAlchemy URL, with the password.
    """

    url: sqlalchemy.URL
    kind = "postgresql"

    def ours(self, path: Path) -> bool:
        """Tell whether a file is the database's; none is."""
        return False

    def _run(self, *command: str, data: bytes = b"") -> bytes:
        # The password is not for the list of processes.
        url = self.url
        plain = sqlalchemy.URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
        password = {"PGPASSWORD": str(url.password)} if url.password else {}
        return run([*command, f"--dbname={plain.render_as_string()}"], data, password)

    def copy(self) -> bytes:
        """Copy the database as it is at one moment."""
        return self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges")

    def keep(self) -> bytes | None:
        """Copy the database that is about to be replaced."""
        return self.copy()

    def _ask(self, *statements: str) -> list[Any]:
        engine = sqlalchemy.create_engine(self.url, connect_args={"connect_timeout": 10})
        try:
            with engine.connect() as connection:
                return [connection.execute(sqlalchemy.text(statement)).scalar_one() for statement in statements]
        except sqlalchemy.exc.SQLAlchemyError as error:
            said = " ".join(str(getattr(error, "orig", None) or error).split())
            raise BackupError(f"The hub's database {self.url!r} cannot be read: {said}.") from error

    def look(self, data: bytes) -> dict[str, Any]:
        """Tell what is in the database, from which the copy was just made."""
        return dict(zip(CONTENTS, self._ask(*CONTENTS.values()), strict=True))

    def check(self, data: bytes) -> None:
        """Tell whether a copy can be read, and there is a server for it."""
        run(["pg_restore", "--list"], data)
        self._ask("SELECT 1")

    def put(self, data: bytes) -> None:
        """Put a copy in the place of the database's tables, all or none; the hub must not run."""
        options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction")
        self._run("pg_restore", *options, data=data)


def revision() -> str:
    """Return the schema of the hub that is installed."""
    return str(ScriptDirectory(str(Path(jupyterhub.__file__).parent / "alembic")).get_current_head())


# -- the machine ------------------------------------------------------------------------------------------------------


class Machine:
    """The hub's machine.

    Parameters
    ----------
    root
        Its root directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            url = sqlalchemy.make_url(json.loads((root / SECRETS).read_text())["db_url"])
        except (OSError, ValueError, KeyError, sqlalchemy.exc.ArgumentError) as error:
            raise BackupError(f"/{SECRETS} does not say where the hub's database is: {error}. Run site.yml.") from error
        self.database: Sqlite | Postgresql
        if url.get_backend_name() == "postgresql":
            self.database = Postgresql(url)
        elif url.get_backend_name() == "sqlite" and url.database not in {None, "", ":memory:"}:
            # The hub's working directory is where a relative path begins.
            path = Path("/var/lib/jupyterhub") / str(url.database)
            self.database = Sqlite(root / path.relative_to("/"))
        else:
            raise BackupError(
                f"The hub's database is {url!r}, which is no file and no PostgreSQL: nothing can copy it."
            )

    def signs_itself(self) -> bool:
        """Tell whether the certificate was made here; any other is in the inventory, or an ACME server gives it."""
        if not (self.root / CERTIFICATE).exists():
            return False
        command = ["openssl", "x509", "-noout", "-subject_hash", "-issuer_hash", "-in", str(self.root / CERTIFICATE)]
        return len(set(run(command).split())) == 1

    def proxy_token(self) -> str:
        """Return the path, below the root, of the file with the secret that the hub and the proxy share."""
        try:
            match = re.search(r"^EnvironmentFile=/(.+)$", (self.root / UNIT).read_text(), re.MULTILINE)
        except OSError:
            match = None
        if not match:
            raise BackupError(f"/{UNIT} does not say which secret the proxy has. Run site.yml.")
        return match[1]

    def names(self) -> Iterator[str]:
        """Yield the paths, below the root, of the files to keep."""
        for tree in TREES:
            for path in sorted((self.root / tree).rglob("*")):
                if path.is_file() and not path.is_symlink() and not self.database.ours(path):
                    yield str(path.relative_to(self.root))
        yield self.proxy_token()
        if (self.root / ANNOUNCEMENT).exists():
            yield ANNOUNCEMENT
        if self.signs_itself():
            yield from (CERTIFICATE, KEY)

    def knows(self, name: str) -> bool:
        """Tell whether a file of a backup is one that belongs here, and not somewhere else on the machine."""
        inside = any(name.startswith(f"{tree}/") for tree in TREES) and ".." not in Path(name).parts
        return inside or name in {self.proxy_token(), ANNOUNCEMENT, CERTIFICATE, KEY}

    def systemctl(self, *words: str) -> None:
        """Tell systemd something."""
        run(["systemctl", *words])

    def wait_healthy(self) -> None:
        """Wait until the hub answers.

        Raises
        ------
        BackupError
            It does not.
        """
        end = time.monotonic() + HEALTHY_SECONDS
        while True:
            try:
                if unix_http.status(self.root / SOCKET, "/hub/health", 5.0) == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > end:
                raise BackupError(
                    f"The hub does not answer within {HEALTHY_SECONDS:.0f} s with what was restored:"
                    " `journalctl -u jupyterhub` tells why."
                )
            time.sleep(1)


# -- the archive ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backup:
    """What is in a backup.

    Parameters
    ----------
    manifest
        Which machine's and of when it is, and what it should hold.
    members
        What it holds, by name.
    """

    manifest: dict[str, Any]
    members: dict[str, bytes]

    @classmethod
    def of(cls, machine: Machine) -> Backup:
        """Copy what there is."""
        members = {DATABASE: machine.database.copy()}
        modes = {DATABASE: 0o600}
        for name in machine.names():
            path = machine.root / name
            members[f"files/{name}"] = path.read_bytes()
            modes[f"files/{name}"] = path.stat().st_mode & 0o777
        manifest = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            # Of all that is installed, should it be needed once more as it was.
            "versions": {
                **{package.name: package.version for package in distributions()},
                "python": platform.python_version(),
                "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
            },
            "database": {"kind": machine.database.kind, **machine.database.look(members[DATABASE])},
            "members": {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "mode": f"{modes[name]:04o}"}
                for name, content in members.items()
            },
        }
        return cls(manifest, members)

    def pack(self) -> bytes:
        """Return the archive."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            manifest = json.dumps(self.manifest, indent=2).encode()
            for name, content in {"manifest.json": manifest, **self.members}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Backup:
        """Read an archive, and compare it with its manifest.

        Raises
        ------
        BackupError
            It is no backup, or not as it was written.
        """
        members = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for entry in archive:
                    file = archive.extractfile(entry)
                    if file is not None:
                        members[entry.name] = file.read()
            manifest = json.loads(members.pop("manifest.json"))
            wanted = {name: member["sha256"] for name, member in manifest["members"].items()}
            known = manifest["format"] == FORMAT
        except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
            raise BackupError(f"This is no backup of a hub: {error!r}. Give a file that hub-backup wrote.") from error
        if not known:
            raise BackupError(
                f"The backup has the format {manifest['format']}, and this program knows {FORMAT}:"
                " deploy with the release that wrote it."
            )
        found = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
        wrong = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        if wrong:
            raise BackupError(f"The backup is damaged: {', '.join(wrong)} is not what it says. Take another one.")
        return cls(manifest, members)

    def check(self, machine: Machine) -> None:
        """Tell whether it can be restored on a machine.

        Raises
        ------
        BackupError
            It cannot.
        """
        told, database = self.manifest["database"], machine.database
        if told["kind"] != database.kind:
            raise BackupError(
                f"The backup has a database of {told['kind']}, and this hub has one of {database.kind}:"
                " set jupyterhub_db_url as it was, and run site.yml."
            )
        if told["revision"] != revision():
            raise BackupError(
                f"The database in the backup has the schema {told['revision']} of JupyterHub"
                f" {self.manifest['versions']['jupyterhub']}, and JupyterHub {version('jupyterhub')}, which is"
                f" installed, has {revision()}: deploy with the release that wrote it, restore, and upgrade then."
            )
        strange = [name for name, _ in self.files() if not machine.knows(name)]
        if strange:
            raise BackupError(f"The backup has files that belong elsewhere: /{', /'.join(strange)}.")
        database.check(self.members[DATABASE])

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files by their paths below the root."""
        for name, content in self.members.items():
            if name.startswith("files/"):
                yield name.removeprefix("files/"), content

    def mode(self, name: str) -> int:
        """Return the mode of a file, given by its path below the root."""
        return int(self.manifest["members"][f"files/{name}"]["mode"], 8)

    def describe(self) -> str:
        """Say in a line what it is."""
        told, versions = self.manifest["database"], self.manifest["versions"]
        return (
            f"Backup of {self.manifest['host']} from {self.manifest['created']}: JupyterHub {versions['jupyterhub']} on"
            f" {versions['system']}, {told['kind']} with {told['users']} users and {told['tokens']} tokens,"
            f" {sum(1 for _ in self.files())} files."
        )


def decrypt(path: Path, identity: bytes) -> bytes:
    """Decrypt a file.

    Raises
    ------
    BackupError
        It is not there, is not encrypted by age, is damaged, or is for another identity.
    """
    if not path.is_file():
        raise BackupError(f"{path} is not a file on this machine. Give the path of a backup.")
    if b"AGE-SECRET-KEY-1" not in identity and b"PRIVATE KEY" not in identity:
        raise BackupError(
            "restore_identity is no identity of age that can be read without a passphrase: give the file that"
            " age-keygen wrote, decrypted."
        )
    try:
        return run(["age", "--decrypt", "--identity", "-", str(path)], identity)
    except BackupError as error:
        raise BackupError(
            f"{path} cannot be decrypted ({error}). Give the identity of one of the backup_recipients of then, and an"
            " undamaged file."
        ) from error


# -- what it does -----------------------------------------------------------------------------------------------------


def create(machine: Machine, recipients: Path, directory: Path, keep: int) -> str:
    """Write a backup, and remove those that are more than are to be kept; return what was written."""
    backup = Backup.of(machine)
    stem = f"cygnet-{backup.manifest['host']}"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = directory / f"{stem}-{stamp}.tar.age"
    encrypted = run(["age", "--encrypt", "--recipients-file", str(recipients)], backup.pack())
    write(path, encrypted, 0o600)
    for old in sorted(directory.glob(f"{stem}-*Z.tar.age"))[:-keep]:
        old.unlink()
    return f"{backup.describe()} Written to {path}, {len(encrypted) // 1024 + 1} KiB."


def restore(machine: Machine, backup: Backup) -> list[str]:
    """Put a backup in the place of what there is; return what was done, a sentence each.

    What was there is kept aside, and comes back when the hub does not start with what was restored.
    """
    certificate_too = machine.signs_itself() or not (machine.root / CERTIFICATE).exists()
    left = [
        name
        for name, _ in backup.files()
        if FROM_INVENTORY.fullmatch(name) or (name in {CERTIFICATE, KEY} and not certificate_too)
    ]
    new = {name: content for name, content in backup.files() if name not in left}
    aside = machine.root / ASIDE / f"cygnet-before-restore-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
    aside.mkdir(mode=0o700, parents=True)
    units = ("jupyterhub.service", "chp.service")
    # The sessions are units of their own and stay.
    machine.systemctl("stop", *units)
    # Files that were not there have no content.
    before: dict[str, tuple[bytes, int] | None] = {}
    database: bytes | None = None
    try:
        for name in new:
            path = machine.root / name
            before[name] = (path.read_bytes(), path.stat().st_mode & 0o777) if path.exists() else None
        database = machine.database.keep()
        for name, old in before.items():
            if old:
                (aside / "files" / name).parent.mkdir(parents=True, exist_ok=True)
                write(aside / "files" / name, *old)
        if database is not None:
            write(aside / DATABASE, database, 0o600)
        for name, content in new.items():
            (machine.root / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(machine.root / name, content, backup.mode(name))
        machine.database.put(backup.members[DATABASE])
        machine.systemctl("start", *units)
        machine.wait_healthy()
    except BaseException as error:
        machine.systemctl("stop", *units)
        for name, old in before.items():
            if old:
                write(machine.root / name, *old)
            else:
                (machine.root / name).unlink(missing_ok=True)
        if database is not None:
            machine.database.put(database)
        machine.systemctl("start", *units)
        raise BackupError(f"{error} What was there before is back.") from error
    if CERTIFICATE in new:
        machine.systemctl("try-reload-or-restart", "nginx.service")
    told = backup.manifest["database"]
    return [
        f"Restored: {told['users']} users and {told['tokens']} tokens in the database; /{', /'.join(new)}.",
        f"Left as the inventory has it: /{', /'.join(left)}." if left else "Nothing was left out.",
        f"What was there before is in {aside}, readable by root alone. Remove it when all is well.",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="hub-backup", description=__doc__.split("\n\n")[0])
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("create", help="write a backup")
    making.add_argument("--recipients", type=Path, required=True, help="file with public keys of age, one a line")
    making.add_argument("--directory", type=Path, required=True, help="where to write it")
    making.add_argument("--keep", type=int, required=True, help="how many are kept there")
    for name, text in (("check", "tell whether it can be restored here"), ("restore", "put it in place")):
        commands.add_parser(name, help=f"{text}; the age identity is read from standard input").add_argument(
            "file", type=Path
        )
    options = parser.parse_args(arguments)
    try:
        machine = Machine(options.root)
        if options.command == "create":
            print(create(machine, options.recipients, options.directory, options.keep))
            return 0
        backup = Backup.unpack(decrypt(options.file, sys.stdin.buffer.read()))
        backup.check(machine)
        print(backup.describe())
        if options.command == "restore":
            print("\n".join(restore(machine, backup)))
    except (BackupError, OSError, sqlite3.Error) as error:
        print(f"hub-backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
