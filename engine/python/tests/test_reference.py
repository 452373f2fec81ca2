"""The tables of docs/reference/sql.md: what Millstream and DuckDB answer."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import duckdb
import pytest

import millstream as ms

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "sql.md"


def rows() -> list[tuple[str, str, str]]:
    """Query and the answers of Millstream and DuckDB."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [(query, ours, theirs) for query, ours, _, theirs in cells]


def text(value: object) -> str:
    """A value as the page writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value)


def millstream(query: str) -> str:
    try:
        [(value,)] = ms.sql(query).fetchall()
    except ms.MillstreamError:
        return "error"
    return text(value)


def duck(query: str) -> str:
    try:
        [(value,)] = duckdb.connect().execute(query).fetchall()
    except duckdb.Error:
        return "error"
    return text(value)


@pytest.mark.parametrize(("query", "ours", "theirs"), rows())
def test_the_page_is_true(query: str, ours: str, theirs: str) -> None:
    assert duck(query) == theirs
    assert millstream(query) == ours


def test_a_wrong_cell_is_noticed() -> None:
    assert len(rows()) > 50
    assert duck("select 7 / 2") == "3.5" and millstream("select 7 / 2") == "3"
    assert duck("select 1 % 0") == "error" == millstream("select 1 / 0")
