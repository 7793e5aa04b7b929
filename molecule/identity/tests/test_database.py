"""The hub's database on a server of its own, PostgreSQL: a wrong one never replaces the one that works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import Service, person, wait_for

Play = Callable[..., str]

SITE = ("site.yml", "--tags=jupyterhub", "--limit=localhost,hub")
URL = "postgresql+psycopg2://jupyterhub:{password}@{host}/jupyterhub?sslmode=require"
SECRETS = "/etc/jupyterhub/secrets.json"


def used(hub: Any) -> str:
    """Return the URL of the database that the hub uses."""
    return str(json.loads(hub.check_output(f"cat {SECRETS}"))["db_url"])


@pytest.fixture(scope="module")
def database(play: Play, hub: Any, service: Service) -> Iterator[str]:
    """Have PostgreSQL on campus, and the hub use it; some systems are deployed so."""
    url = URL.format(password="swan-store-1", host="campus.example.org")
    before = used(hub)
    play("molecule/shared/campus.yml", {"campus_extras": ["database"]})
    if before != url:
        play(SITE[0], {"jupyterhub_db_url": url}, *SITE[1:])
        wait_for("the hub answers", service.healthy)
    yield url
    if before != url:
        play(SITE[0], {}, *SITE[1:])
        wait_for("the hub answers", service.healthy)


@pytest.mark.destructive
def test_users_are_in_the_database(database: str, service: Service, campus: Any) -> None:
    person(service, "tanya").login()
    query = "SELECT name FROM users"
    assert "tanya" in campus.check_output(f"cd / && runuser -u postgres -- psql -At jupyterhub -c '{query}'").split()


@pytest.mark.destructive
@pytest.mark.parametrize(
    ("password", "host", "found"),
    [
        ("wrong-store-9", "campus.example.org", "password authentication failed"),
        ("swan-store-1", "hub.example.org", "Connection refused"),
    ],
)
def test_wrong_database_is_refused(
    database: str, hub: Any, service: Service, refused: Play, password: str, host: str, found: str
) -> None:
    out = refused(SITE[0], {"jupyterhub_db_url": URL.format(password=password, host=host)}, *SITE[1:2])
    assert found in out and "Correct jupyterhub_db_url" in out and "The hub goes on as before." in out
    assert password not in out
    assert used(hub) == database
    assert service.healthy()
