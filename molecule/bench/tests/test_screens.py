"""Rows of displays: which numbers are compared with which."""

import pytest

from screens import MOVING, Found, display_rows, percentile


def found(number: float) -> Found:
    return Found(
        cold_s=[number],
        warm_s=[number + 1],
        key_ms=[number + 2],
        key_p95_ms=[number + 3],
        updates={program: [number + 4] for program in MOVING},
        mbit_s={program: [number + 5] for program in MOVING},
        memory_mib=[number + 6],
    )


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([7.0], 95, 7.0), (list(range(1, 101)), 95, 95), (list(range(20, 0, -1)), 95, 19), ([1.0, 2.0], 0, 1.0)],
)
def test_percentile_is_one_of_the_values(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 95)


def test_each_number_is_compared_with_its_own() -> None:
    rows = {row.name: row for row in display_rows(found(100), found(200), found(300))}
    assert rows["display_ready_cold"].values == (100,) and rows["display_ready_cold"].baselines == (200,)
    assert rows["display_ready_warm_direct"].values == (101,) and rows["display_ready_warm_direct"].baselines == (301,)
    for name, offset in {
        "key_to_pixel": 2,
        "key_to_pixel_p95": 3,
        **{f"frames_{program}": 4 for program in MOVING},
        **{f"frames_{program}_sent": 5 for program in MOVING},
    }.items():
        assert rows[name].values == (100 + offset,) and rows[name].baselines == (200 + offset,), name
        direct = rows[f"{name}_direct"]
        assert direct.values == (100 + offset,) and direct.baselines == (300 + offset,), name


def test_over_the_line_there_is_the_peer_alone() -> None:
    rows = display_rows(found(100), found(200), None, "_line")
    assert {row.name for row in rows} == {
        "display_ready_cold_line",
        "key_to_pixel_line",
        "key_to_pixel_p95_line",
        *(f"frames_{program}{kind}_line" for program in MOVING for kind in ("", "_sent")),
    }
    assert all(row.baselines[0] >= 200 for row in rows)
