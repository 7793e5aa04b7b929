"""Try a hub's database before the hub is told to use it: `python -m jupyterhub_sessions.check_database <<<URL`."""

from __future__ import annotations

import sys

import sqlalchemy
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

CONNECT_SECONDS = 10


def problem(url: str) -> str:
    """Say what is wrong with the database, and what to do; empty when the hub can use it.

    Parameters
    ----------
    url
        SQLAlchemy URL, with the password.
    """
    try:
        parsed = sqlalchemy.make_url(url)
        postgresql = parsed.get_backend_name() == "postgresql"
        # Each driver has its own name for this.
        options = {"connect_timeout": CONNECT_SECONDS} if postgresql else {}
        engine = sqlalchemy.create_engine(parsed, connect_args=options)
    except (ArgumentError, ValueError):
        return "jupyterhub_db_url is no SQLAlchemy URL. Write postgresql+psycopg2://user:password@host/name."
    except ImportError as error:
        return f"jupyterhub_db_url needs the Python package {error.name}. Use postgresql+psycopg2, which is installed."
    name = parsed.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            if postgresql:
                # Undone when the connection is closed.
                connection.execute(sqlalchemy.text("CREATE TABLE may_the_hub_make_tables (id integer)"))
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return f"The hub cannot use its database {name}: {said}. Correct jupyterhub_db_url, or mend the database."
    return ""


def main() -> int:
    """Try the database whose URL stands on standard input, and print what is wrong with it."""
    found = problem(sys.stdin.read().strip())
    print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
