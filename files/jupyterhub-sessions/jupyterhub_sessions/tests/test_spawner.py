"""Names of units and sockets keep users and their servers apart."""

import itertools
import string

import pytest

from jupyterhub_sessions.spawner import unit_name


@pytest.mark.parametrize(
    ("user", "server", "name"),
    [
        ("alice", "", "jupyter-alice.service"),
        ("alice", "b", "jupyter-alice:b.service"),
        ("a.b-c_d", "", "jupyter-a.b-c_d.service"),
        ("alice@example.org", "", r"jupyter-alice\x40example.org.service"),
        ("ф", "", r"jupyter-\xd1\x84.service"),
        (r"DOMAIN\alice", "", r"jupyter-DOMAIN\x5calice.service"),
    ],
)
def test_unit_name(user: str, server: str, name: str) -> None:
    assert unit_name(user, server) == name


def test_unit_names_never_meet() -> None:
    words = ["a", "b", "a-b", "a.b", "a@b", r"a\x40b", "a-b-a"]
    pairs = list(itertools.product(words, ["", "a", "b", "b-a"]))
    assert len({unit_name(*pair) for pair in pairs}) == len(pairs)


def test_unit_name_has_only_characters_of_unit_names() -> None:
    allowed = set(string.ascii_letters + string.digits + ":_.-\\")
    assert set(unit_name("я/ %@\n", "b")) <= allowed
