"""Backups of the running hub, and what comes back of them: here, and on a machine that has never been a hub."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testing import PROJECT, Browserless, Service, Vms, run_playbook, wait_for

pytestmark = pytest.mark.destructive

RESTORE = "playbooks/restore.yml"
IDENTITY = PROJECT / "molecule/recovery/identity.txt"
DIRECTORY = "/var/backups/cygnet"
DATABASE = "/var/lib/jupyterhub/jupyterhub.sqlite"


@pytest.fixture(scope="module")
def token(users: dict[str, Browserless]) -> str:
    """Have a token of a student with a session."""
    alice = users["alice"]
    alice.ensure()
    answer = alice.request("POST", "/hub/api/users/alice/tokens", json={"note": "a script of hers"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@pytest.fixture(scope="module")
def backup(hub: Any, token: str) -> str:
    """Have a backup, written as the timer does; return its path on the hub's machine."""
    hub.check_output("systemctl start hub-backup.service")
    return str(hub.check_output(f"ls -t {DIRECTORY}/*.tar.age | head -n 1"))


@pytest.fixture(scope="module")
def fetched(hub: Any, backup: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have the backup where an administrator would keep it."""
    path = tmp_path_factory.mktemp("backups") / Path(backup).name
    path.write_bytes(base64.b64decode(hub.check_output(f"base64 {backup}")))
    return path


def whose(service: Service, token: str) -> str:
    """Return whom a hub takes somebody with the token for; a status where it refuses."""
    answer = service.get("/hub/api/user", headers={"Authorization": f"token {token}"})
    return str(answer.json()["name"]) if answer.status_code == 200 else str(answer.status_code)


def lose_database(hub: Any) -> None:
    """Stop the hub and destroy its database, whichever it has."""
    hub.check_output("systemctl stop jupyterhub")
    url = json.loads(hub.check_output("cat /etc/jupyterhub/secrets.json"))["db_url"]
    if url.startswith("sqlite"):
        hub.check_output(f"dd if=/dev/urandom of={DATABASE} bs=4096 count=8 conv=notrunc status=none")
    else:
        sql = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        hub.check_output("psql --quiet --dbname=%s --command=%s", url.replace("+psycopg2", ""), sql)


def test_timer_waits_for_the_next_time(hub: Any) -> None:
    assert hub.check_output("systemctl is-enabled hub-backup.timer; systemctl is-active hub-backup.timer") == (
        "enabled\nactive"
    )
    assert hub.check_output("systemctl show -P NextElapseUSecRealtime hub-backup.timer")


def test_backup_is_nothing_for_other_eyes(hub: Any, backup: str) -> None:
    assert hub.check_output(f"stat -c '%a %U' {DIRECTORY} {backup}") == "700 root\n600 root"
    assert hub.check_output(f"head -c 21 {backup}") == "age-encryption.org/v1"
    secret = hub.check_output("cat /var/lib/jupyterhub/cookie_secret")
    assert hub.run(f"grep -c {secret} {backup}").stdout.strip() == "0"
    assert hub.run(f"runuser -u nobody -- ls {DIRECTORY}").rc != 0


def test_wrong_identity_changes_nothing(hub: Any, backup: str, refused: Callable[..., str], tmp_path: Path) -> None:
    # Of nobody's backups.
    other = tmp_path / "other.txt"
    other.write_text(hub.check_output("age-keygen 2>/dev/null"))
    before = hub.check_output("systemctl show -P MainPID jupyterhub chp; sha256sum /etc/chp.env")
    out = refused(RESTORE, {"restore_from": backup, "restore_identity": str(other)})
    assert "cannot be decrypted" in out and "backup_recipients" in out
    assert "AGE-SECRET-KEY" not in out
    assert hub.check_output("systemctl show -P MainPID jupyterhub chp; sha256sum /etc/chp.env") == before


def test_damaged_database_is_restored_under_a_running_session(
    hub: Any, backup: str, token: str, service: Service, alice: Browserless, play: Callable[..., str]
) -> None:
    session = hub.check_output("systemctl show -P MainPID jupyter-alice")
    lose_database(hub)
    out = play(RESTORE, {"restore_from": backup, "restore_identity": str(IDENTITY)}, "--limit", "localhost,hub")
    assert "Restored:" in out and "cygnet-before-restore-" in out
    assert whose(service, token) == "alice"
    assert alice.logged_in()
    assert hub.check_output("systemctl show -P MainPID jupyter-alice") == session
    wait_for("the session", lambda: alice.api("status").status_code == 200)
    assert hub.run("systemctl is-system-running").stdout.strip() == "running"


@pytest.fixture
def spare(vms: Vms, backup: str, play: Callable[..., str]) -> Iterator[Any]:
    """Lend the machine that is to be the hub while the hub itself is lost, which then comes back from its backup."""
    yield vms.host("spare")
    vms.host("spare").run("systemctl stop jupyterhub nginx chp")
    play(RESTORE, {"restore_from": backup, "restore_identity": str(IDENTITY)}, "--limit", "localhost,hub")


def test_token_and_login_go_on_on_a_new_machine(
    vms: Vms, hub: Any, spare: Any, service: Service, token: str, alice: Browserless, fetched: Path, tmp_path: Path
) -> None:
    metrics = hub.check_output("cat /etc/jupyterhub/metrics_token")
    variables = yaml.safe_load((PROJECT / "molecule/recovery/host_vars/hub.yml").read_text())
    machine = {"hosts": {"spare.example.org": {"ansible_host": "spare", **variables}}}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        yaml.safe_dump(
            {
                "all": {
                    "vars": {"ansible_ssh_common_args": f"-F {vms.ssh_config}"},
                    "children": dict.fromkeys(("hub", "sessions", "sssd", "backup"), machine),
                }
            }
        )
    )
    (tmp_path / "group_vars").symlink_to(PROJECT / "inventories/demo/group_vars")
    lose_database(hub)

    status, out = run_playbook(inventory, "site.yml", {})
    assert status == 0, out
    anew = Service(vms.url("spare"), vms.scratch / "spare.pem")
    anew.ca_file.write_text(spare.check_output("cat /etc/nginx/tls/certificate.pem"))
    assert anew.healthy() and whose(anew, token) == "403"

    status, out = run_playbook(inventory, RESTORE, {"restore_from": str(fetched), "restore_identity": str(IDENTITY)})
    assert status == 0, out
    # With the certificate that browsers know, too.
    restored = Service(vms.url("spare"), service.ca_file)
    assert whose(restored, token) == "alice"
    browser = Browserless(restored, "alice", "")
    browser.http.cookies.update(alice.http.cookies)
    assert browser.logged_in()
    answer = restored.get("/hub/metrics", headers={"Authorization": f"token {metrics}"})
    assert answer.status_code == 200, answer.text
    # Her session was on the machine that is lost.
    wait_for("the hub to see that her session is gone", browser.stopped)
    # Nothing of the identity and of the copy is left.
    places = "/etc /home /opt/cygnet /root /run /tmp /usr/local /var"
    assert spare.run(f"grep -rlsI AGE-SECRET-KEY-1[A-Z0-9] {places} --exclude=hub-backup").stdout == ""
    assert spare.run("find /tmp /root /var/tmp -name 'cygnet-restore-*'").stdout == ""
    assert spare.check_output("stat -c %a /var/backups/cygnet-before-restore-*") == "700"
    assert spare.run("systemctl is-system-running").stdout.strip() == "running"
