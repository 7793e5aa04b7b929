"""A database that the hub cannot use is refused, and nobody reads the password in the message."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyterhub_sessions.check_database import problem


def test_database_that_works(tmp_path: Path) -> None:
    assert problem(f"sqlite:///{tmp_path}/hub.sqlite") == ""


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("hub.sqlite", "is no SQLAlchemy URL"),
        ("postgresql+psycopg2://hub:swan@host:port/hub", "is no SQLAlchemy URL"),
        ("mysql+pymysql://hub:swan@localhost/hub", "needs the Python package pymysql"),
        # Nobody listens on port 1.
        ("postgresql+psycopg2://hub:swan@127.0.0.1:1/hub", "Connection refused"),
    ],
)
def test_database_that_does_not(url: str, found: str) -> None:
    said = problem(url)
    assert found in said and "jupyterhub_db_url" in said
    assert "swan" not in said
