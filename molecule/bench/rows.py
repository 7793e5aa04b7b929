"""What was measured: medians, ratios, and the table in three shapes (JSON, text, Markdown)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

HEADINGS = ("name", "value", "unit", "baseline", "ratio", "runs")
# Which columns hold words; the others hold numbers, which stand right.
_WORDS = {"name", "unit"}
_DIGITS = 2


@dataclass(frozen=True)
class Row:
    """One quantity, measured several times.

    Parameters
    ----------
    name
        What was measured.
    unit
        Unit of all the numbers.
    values, baselines
        What each run gave, with our installation and with the one it is compared with (none, or as many).
    """

    name: str
    unit: str
    values: tuple[float, ...]
    baselines: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the row of bench.json; the ratio is the medians' quotient, below 1 where we are better.

        Raises
        ------
        statistics.StatisticsError
            Nothing was measured.
        """
        value = median(self.values)
        baseline = median(self.baselines) if self.baselines else None
        return {
            "name": self.name,
            "value": round(value, _DIGITS),
            "unit": self.unit,
            "baseline": round(baseline, _DIGITS) if baseline is not None else None,
            "ratio": round(value / baseline, _DIGITS) if baseline else None,
            "runs": len(self.values),
        }


def to_json(rows: Sequence[Row]) -> str:
    """Return the content of bench.json."""
    return json.dumps([row.as_dict() for row in rows], indent=2) + "\n"


def to_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    return "\n".join("  ".join(cells).rstrip() for cells in _cells(rows))


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the table for the README."""
    heading, *body = _cells(rows)
    rule = ["-" * len(cell) if name in _WORDS else "-" * (len(cell) - 1) + ":" for name, cell in _columns(heading)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *body))


def _columns(cells: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(HEADINGS, cells, strict=True))


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return heading and rows as texts, those of a column equally wide."""
    table = [list(HEADINGS), *([_text(row.as_dict()[name]) for name in HEADINGS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        [
            cell.ljust(width) if name in _WORDS else cell.rjust(width)
            for (name, cell), width in zip(_columns(cells), widths, strict=True)
        ]
        for cells in table
    ]


def _text(value: float | str | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{_DIGITS}f}" if isinstance(value, float) else str(value)
