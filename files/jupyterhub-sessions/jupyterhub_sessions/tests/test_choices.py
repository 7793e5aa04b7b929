"""What may be chosen: by the rules alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_sessions import i18n
from jupyterhub_sessions.choices import KINDS, Choice, ChoiceError, Machine, Offer, Profile
from jupyterhub_sessions.stacks import Stack

SMALL = Profile("small", memory_mb=1024, cpus=1, hours=8)
LARGE = Profile("large", "Large", memory_mb=2560, cpus=2.5)
EXAM = Profile("exam", memory_mb=4096, cpus=4, groups=("teachers", "staff"))
VIEW = Stack("lcg-107", "LCG 107", setup="/cvmfs/sft.example.org/setup.sh", session=True)
OFFER = Offer([KINDS["lab"], KINDS["notebook"]], [VIEW], [SMALL, LARGE], [EXAM])


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({}, Choice(KINDS["lab"], None, SMALL)),
        ({"kind": "notebook", "profile": "large"}, Choice(KINDS["notebook"], None, LARGE)),
        ({"stack": "lcg-107"}, Choice(KINDS["lab"], VIEW, SMALL)),
        ({"stack": "local"}, Choice(KINDS["lab"], None, SMALL)),
    ],
)
def test_what_is_left_open_is_the_first(options: dict[str, str], choice: Choice) -> None:
    assert OFFER.check(options) == choice


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "desktop"}, "kind of session “desktop” here. You may choose: lab, notebook."),
        ({"kind": ""}, "kind of session “”"),
        ({"stack": "lcg-1"}, "software stack “lcg-1” here. You may choose: local, lcg-107."),
        ({"profile": "huge"}, "size “huge” here. You may choose: small, large."),
        ({"profile": "exam"}, "“exam” is for members of teachers, staff alone. You may choose: small, large."),
        ({"kind": ["lab", "lab"]}, "no choice kind=['lab', 'lab']"),
        ({"memory": "64G"}, "no choice memory=64G"),
        ({"kind": True}, "no choice kind=True"),
        ({"home": "other"}, "no choice home=other"),
        ({"home": "temporary"}, "no temporary home here"),
    ],
)
def test_what_is_not_on_offer_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ChoiceError, match=re.escape(said)):
        OFFER.check(options)


def test_temporary_home_where_homes_are_on_the_network() -> None:
    assert Offer([KINDS["lab"]], temporary_home=True).check({"home": "temporary"}) == Choice(KINDS["lab"])


def test_nobody_gets_a_session_without_limits_by_being_in_no_group() -> None:
    with pytest.raises(ChoiceError, match="no size of session for you"):
        Offer([KINDS["lab"]], others=[EXAM]).check({})


@pytest.mark.parametrize(
    ("offer", "is_open"),
    [
        (Offer([KINDS["lab"]]), False),
        (Offer([KINDS["lab"]], profiles=[SMALL], others=[EXAM]), False),
        (Offer([KINDS["lab"], KINDS["desktop"]]), True),
        (Offer([KINDS["lab"]], stacks=[VIEW]), True),
        (Offer([KINDS["lab"]], profiles=[SMALL, LARGE]), True),
    ],
)
def test_a_choice_is_one_of_two(offer: Offer, is_open: bool) -> None:
    assert offer.open is is_open


def test_note_of_a_profile() -> None:
    assert Profile("a", memory_mb=512, cpus=1, hours=2, max_hours=5.5).note.endswith("2 h, can be extended to 5.5 h")
    assert (SMALL.note, LARGE.note) == ("1 GiB of memory · 1 CPU · up to 8 h", "2.5 GiB of memory · 2.5 CPU")
    i18n.set_language("ru")
    try:
        assert LARGE.note == "2,5 ГиБ памяти · 2,5 ЦП"
    finally:
        i18n.set_language("en")


def test_machine(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8 kB\nMemAvailable:    3 kB\nHugePages_Total:       0\n")
    (tmp_path / "loadavg").write_text("1000.5 1 1 1/100 1\n")
    machine = Machine.read(tmp_path / "meminfo", tmp_path / "loadavg")
    assert (machine.memory, machine.memory_free, machine.cpus_free) == (8192, 3072, 0.0)
