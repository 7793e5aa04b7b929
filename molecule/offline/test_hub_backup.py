"""The program hub-backup on a machine made of files: real databases of a hub, and the real age."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import hub_backup
import pytest
from hub_backup import Backup, BackupError, Machine, decrypt, restore
from jupyterhub import orm


class Keys:
    """An identity of age, and the file with its public key."""

    def __init__(self, directory: Path) -> None:
        self.identity = subprocess.run(["age-keygen"], capture_output=True, check=True).stdout
        self.recipients = directory / "recipients"
        line = next(line for line in self.identity.decode().splitlines() if "public key" in line)
        self.recipients.write_text(line.split()[-1] + "\n")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def machine(root: Path, token: str, users: Sequence[str] = ("alice",)) -> Path:
    """Make a hub's machine."""
    state = root / "var/lib/jupyterhub"
    for directory in (
        root / "etc/jupyterhub",
        root / "etc/cygnet",
        root / "etc/systemd/system",
        root / "etc/nginx/tls",
        state,
    ):
        directory.mkdir(parents=True)
    (root / "etc/systemd/system/jupyterhub.service").write_text("[Service]\nEnvironmentFile=/etc/chp.env\n")
    for name, content in {
        "etc/chp.env": f"CONFIGPROXY_AUTH_TOKEN={token}\n",
        "etc/jupyterhub/metrics_token": f"{token}-metrics\n",
        "etc/jupyterhub/jupyterhub_config.py": f"# {token}\n",
        "etc/jupyterhub/secrets.json": json.dumps({"db_url": "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"}),
        "var/lib/jupyterhub/cookie_secret": token,
    }.items():
        (root / name).write_text(content)
        (root / name).chmod(0o600)
    database = orm.new_session_factory(f"sqlite:///{state}/jupyterhub.sqlite")()
    # The hub's own, to which it counts tokens.
    database.add(orm.OAuthClient(identifier="jupyterhub"))
    for name in users:
        user = orm.User(name=name)
        database.add(user)
        database.commit()
        user.new_api_token(f"{token}-of-{name}-0123456789")
    database.close()
    return root


def certificate(root: Path, *options: str) -> None:
    """Make a certificate that signs itself, or is what the options say."""
    tls = root / "etc/nginx/tls"
    files = ["-keyout", str(tls / "key.pem"), "-out", str(tls / "certificate.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=hub", *files, *options],
        check=True,
        capture_output=True,
    )


def create(root: Path, keys: Keys, keep: int = 3) -> Path:
    """Write a backup by the command line; return its path."""
    directory = root / "backups"
    directory.mkdir(exist_ok=True)
    options = ["--recipients", str(keys.recipients), "--directory", str(directory), "--keep", str(keep)]
    assert hub_backup.main(["--root", str(root), "create", *options]) == 0
    return max(directory.glob("*.tar.age"))


def tokens(root: Path) -> list[str]:
    """Return the prefixes of the tokens in a machine's database."""
    with closing(sqlite3.connect(root / "var/lib/jupyterhub/jupyterhub.sqlite")) as database:
        return [row[0] for row in database.execute("SELECT prefix FROM api_tokens ORDER BY id")]


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have a systemd that notes what it is told, and a hub that is well."""
    told: list[str] = []
    monkeypatch.setattr(Machine, "systemctl", lambda self, *words: told.append(" ".join(words)))
    monkeypatch.setattr(Machine, "wait_healthy", lambda self: None)
    return told


def opened(path: Path, keys: Keys) -> Backup:
    return Backup.unpack(decrypt(path, keys.identity))


def test_backup_is_for_its_recipient_alone(tmp_path: Path, keys: Keys) -> None:
    root = machine(tmp_path / "hub", "swan")
    path = create(root, keys)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"swan" not in path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(BackupError, match=r"cannot be decrypted .*no identity matched"):
        decrypt(path, Keys(tmp_path).identity)


def test_backup_of_a_hub_that_is_writing(tmp_path: Path, keys: Keys) -> None:
    root = machine(tmp_path / "hub", "swan")
    with closing(sqlite3.connect(root / "var/lib/jupyterhub/jupyterhub.sqlite")) as writing:
        # What is finished is in another file, until SQLite has time for it.
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("INSERT INTO users (name, admin, cookie_id) VALUES ('bob', 0, 'a')")
        writing.commit()
        writing.execute("DELETE FROM users")
        backup = opened(create(root, keys), keys)
        writing.rollback()
    # As it was before what is not finished; the files of the journal are none of the hub's.
    assert backup.manifest["database"]["users"] == 2
    assert not [name for name in backup.members if "sqlite" in name]


def test_only_the_latest_are_kept(tmp_path: Path, keys: Keys) -> None:
    root = machine(tmp_path / "hub", "swan")
    last = create(root, keys)
    host = last.name.split("-2")[0]
    for year in (1999, 2000, 2001):
        (last.parent / f"{host}-{year}0101T000000Z.tar.age").touch()
    (last.parent / "of-somebody-else").touch()
    last.unlink()
    last = create(root, keys, keep=2)
    names = {file.name for file in last.parent.iterdir()}
    assert names == {"of-somebody-else", f"{host}-20010101T000000Z.tar.age", last.name}


def test_nothing_is_left_of_a_backup_that_fails(tmp_path: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    root = machine(tmp_path / "hub", "swan")
    (root / "backups").mkdir()
    keys.recipients.write_text("nobody\n")
    options = ["--recipients", str(keys.recipients), "--directory", str(root / "backups"), "--keep", "1"]
    assert hub_backup.main(["--root", str(root), "create", *options]) == 1
    assert "hub-backup: age:" in capsys.readouterr().err
    assert list((root / "backups").iterdir()) == []


def test_restored_on_a_new_machine(tmp_path: Path, keys: Keys, units: list[str]) -> None:
    old, new = machine(tmp_path / "old", "swan", ["alice", "bob"]), machine(tmp_path / "new", "fresh", [])
    certificate(old)
    certificate(new)
    (old / "etc/cygnet/announcement.txt").write_text("Maintenance\n")
    backup = opened(create(old, keys), keys)
    backup.check(Machine(new))
    said = restore(Machine(new), backup)
    assert tokens(new) == tokens(old) and len(tokens(old)) == 2
    for name in (
        "etc/chp.env",
        "etc/jupyterhub/metrics_token",
        "var/lib/jupyterhub/cookie_secret",
        "etc/cygnet/announcement.txt",
        "etc/nginx/tls/certificate.pem",
        "etc/nginx/tls/key.pem",
    ):
        assert (new / name).read_bytes() == (old / name).read_bytes(), name
        assert (new / name).stat().st_mode == (old / name).stat().st_mode, name
    # Of this machine's own inventory, whatever there was.
    assert (new / "etc/jupyterhub/jupyterhub_config.py").read_text() == "# fresh\n"
    assert "2 users and 2 tokens" in said[0] and "jupyterhub_config.py" in said[1]
    (aside,) = (new / "var/backups").iterdir()
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    assert (aside / "files/etc/chp.env").read_text() == "CONFIGPROXY_AUTH_TOKEN=fresh\n"
    assert units[0].startswith("stop jupyterhub") and units[1].startswith("start jupyterhub")


def test_certificate_that_the_site_gave_stays(tmp_path: Path, keys: Keys, units: list[str]) -> None:
    old, new = machine(tmp_path / "old", "swan"), machine(tmp_path / "new", "fresh")
    certificate(old)
    (tmp_path / "authority/etc/nginx/tls").mkdir(parents=True)
    certificate(tmp_path / "authority")
    authority = tmp_path / "authority/etc/nginx/tls"
    certificate(new, "-CA", f"{authority}/certificate.pem", "-CAkey", f"{authority}/key.pem", "-subj", "/CN=given")
    given = (new / "etc/nginx/tls/certificate.pem").read_bytes()
    restore(Machine(new), opened(create(old, keys), keys))
    assert (new / "etc/nginx/tls/certificate.pem").read_bytes() == given
    # Nor is it kept.
    assert not [name for name in opened(create(new, keys), keys).members if "nginx" in name]


def test_damaged_database_is_replaced_and_kept(tmp_path: Path, keys: Keys, units: list[str]) -> None:
    root = machine(tmp_path / "hub", "swan")
    backup = opened(create(root, keys), keys)
    path = root / "var/lib/jupyterhub/jupyterhub.sqlite"
    before = tokens(root)
    path.write_bytes(b"damaged" * 1000)
    restore(Machine(root), backup)
    assert tokens(root) == before
    (aside,) = (root / "var/backups").iterdir()
    assert (aside / "database").read_bytes() == b"damaged" * 1000


def test_what_was_half_done_is_not_played_into_what_is_restored(tmp_path: Path, keys: Keys) -> None:
    root = machine(tmp_path / "hub", "swan")
    backup = opened(create(root, keys), keys)
    database = Machine(root).database
    left = [root / f"var/lib/jupyterhub/jupyterhub.sqlite-{name}" for name in ("journal", "wal", "shm")]
    for path in left:
        path.write_bytes(b"of the old one")
    database.put(backup.members["database"])
    assert not [path for path in left if path.exists()]


def test_hub_that_does_not_start_gets_back_what_it_had(
    tmp_path: Path, keys: Keys, units: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = machine(tmp_path / "old", "swan"), machine(tmp_path / "new", "fresh")
    backup = opened(create(old, keys), keys)
    before = {path: path.read_bytes() for path in new.rglob("*") if path.is_file() and path.suffix != ".sqlite"}
    known = tokens(new)

    def ill(self: Machine) -> None:
        assert tokens(new) == tokens(old)
        raise BackupError("The hub does not answer.")

    monkeypatch.setattr(Machine, "wait_healthy", ill)
    with pytest.raises(BackupError, match=r"does not answer\. What was there before is back"):
        restore(Machine(new), backup)
    assert {path: path.read_bytes() for path in before} == before and tokens(new) == known
    assert [told.split()[0] for told in units] == ["stop", "start", "stop", "start"]


def repacked(backup: Backup, path: Path, keys: Keys, **changes: Any) -> Path:
    """Write a backup with another manifest."""
    changed = Backup(backup.manifest | changes, backup.members)
    command = ["age", "--encrypt", "--recipients-file", str(keys.recipients)]
    path.write_bytes(subprocess.run(command, input=changed.pack(), capture_output=True, check=True).stdout)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "has the format 2"),
        ({"database": {"kind": "sqlite", "revision": "0123456789ab"}}, "has the schema 0123456789ab of JupyterHub"),
        ({"database": {"kind": "postgresql", "revision": ""}}, "set jupyterhub_db_url as it was"),
        ({"members": {}}, "is damaged: database, files/etc/chp.env"),
    ],
)
def test_backup_that_does_not_fit_changes_nothing(
    tmp_path: Path,
    keys: Keys,
    units: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    said: str,
) -> None:
    root = machine(tmp_path / "hub", "swan")
    path = repacked(opened(create(root, keys), keys), tmp_path / "changed", keys, **change)
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(keys.identity)))
    assert hub_backup.main(["--root", str(root), "restore", str(path)]) == 1
    assert said in capsys.readouterr().err
    assert units == [] and not (root / "var/backups").exists()


def test_file_that_is_no_backup(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(BackupError, match="is not a file on this machine"):
        decrypt(tmp_path / "none", keys.identity)
    (tmp_path / "text").write_text("no backup")
    with pytest.raises(BackupError, match="cannot be decrypted"):
        decrypt(tmp_path / "text", keys.identity)
    with pytest.raises(BackupError, match="no identity of age"):
        decrypt(tmp_path / "text", b"age1swan")
    path = create(machine(tmp_path / "hub", "swan"), keys)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackupError, match="cannot be decrypted"):
        decrypt(path, keys.identity)
    with pytest.raises(BackupError, match="is no backup of a hub"):
        Backup.unpack(b"text")


@pytest.mark.parametrize("name", ["files/etc/shadow", "files/etc/jupyterhub/../shadow", "files//etc/shadow"])
def test_file_that_belongs_elsewhere_is_refused(tmp_path: Path, keys: Keys, name: str) -> None:
    root = machine(tmp_path / "hub", "swan")
    backup = opened(create(root, keys), keys)
    backup.members[name] = b""
    with pytest.raises(BackupError, match="belong elsewhere"):
        backup.check(Machine(root))


def test_links_and_devices_are_not_unpacked(tmp_path: Path, keys: Keys) -> None:
    packed = io.BytesIO(opened(create(machine(tmp_path / "hub", "swan"), keys), keys).pack())
    with tarfile.open(fileobj=packed, mode="a") as archive:
        entry = tarfile.TarInfo("files/etc/jupyterhub/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(entry)
    with pytest.raises(BackupError, match=r"is no backup of a hub|is damaged"):
        Backup.unpack(packed.getvalue())


def test_machine_without_a_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub_backup.main(["--root", str(tmp_path), "check", os.devnull]) == 1
    assert "Run site.yml" in capsys.readouterr().err
