"""The numbers of the table are medians and their quotient."""

import json

import pytest

from rows import Row, to_json, to_markdown, to_text

SPAWN = Row("spawn_ready", "s", (4.0, 90.0, 2.0), (8.0, 5.0, 7.0))
DEPLOY = Row("deploy_first", "s", (100.5,))


def test_row_is_median_and_ratio() -> None:
    assert json.loads(to_json([SPAWN])) == [
        {"name": "spawn_ready", "value": 4.0, "unit": "s", "baseline": 7.0, "ratio": 0.57, "runs": 3}
    ]


def test_no_baseline_is_null() -> None:
    row = json.loads(to_json([DEPLOY]))[0]
    assert row["baseline"] is None
    assert row["ratio"] is None


def test_ratio_is_of_the_exact_medians() -> None:
    assert Row("tiny", "s", (0.014,), (0.006,)).as_dict()["ratio"] == 2.33


@pytest.mark.parametrize("baselines", [(), (0.0,)])
def test_no_ratio_to_nothing(baselines: tuple[float, ...]) -> None:
    assert Row("name", "s", (1.0,), baselines).as_dict()["ratio"] is None


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no median"):
        Row("name", "s", ()).as_dict()


def test_text_is_aligned() -> None:
    assert to_text([DEPLOY, SPAWN]).splitlines() == [
        "name           value  unit  baseline  ratio  runs",
        "deploy_first  100.50  s            –      –     1",
        "spawn_ready     4.00  s         7.00   0.57     3",
    ]


def test_markdown_is_a_table() -> None:
    assert to_markdown([DEPLOY, SPAWN]).splitlines() == [
        "| name         |  value | unit | baseline | ratio | runs |",
        "| ------------ | -----: | ---- | -------: | ----: | ---: |",
        "| deploy_first | 100.50 | s    |        – |     – |    1 |",
        "| spawn_ready  |   4.00 | s    |     7.00 |  0.57 |    3 |",
    ]
