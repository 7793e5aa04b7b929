"""A new VM goes where the fewest others are."""

import os
from collections import Counter
from pathlib import Path

import pytest

import processors


def process(proc: Path, pid: int, name: str, allowed: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "status").write_text(f"Name:\t{name}\nState:\tS (sleeping)\nCpus_allowed_list:\t{allowed}\n")


def test_bound_processes_counts_one_program_only(tmp_path: Path) -> None:
    process(tmp_path, 1, "linux.uml", "0")
    process(tmp_path, 2, "linux.uml", "0")
    process(tmp_path, 3, "linux.uml", "1")
    process(tmp_path, 4, "linux.uml", "0-1")
    process(tmp_path, 5, "bash", "1")
    assert processors.bound_processes(tmp_path, "linux.uml") == {0: 2, 1: 1}


@pytest.mark.parametrize(("bound", "chosen"), [({0: 2, 1: 1}, 1), ({1: 1}, 0), ({}, 0)])
def test_quietest_processor(
    bound: dict[int, int], chosen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(processors, "bound_processes", lambda _proc, _program: Counter(bound))
    with processors.quietest_processor("linux.uml") as processor:
        assert processor == chosen
