"""Wheels are named by their content."""

from pathlib import Path

import pytest
from wheels import built_wheel

NAME = "swan_wing-1.2-py3-none-any.whl"


def test_another_content_is_another_name(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("one")
    first = built_wheel("swan-wing", str(tmp_path))
    (tmp_path / NAME).write_text("two")
    second = built_wheel("swan-wing", str(tmp_path))
    assert first["name"] != second["name"]
    assert second["path"] == str(tmp_path / NAME)


def test_name_is_one_of_a_wheel(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("one")
    wheel = built_wheel("swan-wing", str(tmp_path))
    assert wheel["name"].split("-") == ["swan_wing", "1.2", f"0{wheel['sha256'][:12]}", "py3", "none", "any.whl"]


def test_no_wheel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unpack"):
        built_wheel("swan-wing", str(tmp_path))
