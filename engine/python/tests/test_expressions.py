"""Every operator and function, row by row against Python or against the same in SQL."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import millstream as ms
from millstream import col, lit

ROWS: list[dict[str, Any]] = [
    {"a": 7, "b": 2, "x": 1.5, "s": "north", "d": datetime.date(2024, 2, 29), "t": True},
    {"a": -3, "b": 5, "x": -0.5, "s": "South 5%", "d": datetime.date(1999, 12, 31), "t": False},
    {"a": None, "b": 1, "x": None, "s": None, "d": None, "t": None},
]


@pytest.fixture
def table(session: ms.Session) -> ms.Table:
    session.register("t", pa.Table.from_pylist(ROWS))
    return session.table("t")


CASES: list[tuple[Any, str]] = [
    (col("a") + 1, "a + 1"),
    (1 + col("a"), "1 + a"),
    (col("a") - col("b"), "a - b"),
    (10 - col("a"), "10 - a"),
    (col("a") * col("x"), "a * x"),
    (2 * col("a"), "2 * a"),
    (col("a") / col("b"), "a / b"),
    (20 / col("b"), "20 / b"),
    (col("a") % 2, "a % 2"),
    (100 % col("b"), "100 % b"),
    (-col("a"), "-a"),
    (col("a") == 7, "a = 7"),
    (col("s") != "north", "s <> 'north'"),
    (col("x") < 1, "x < 1"),
    (col("a") <= col("b"), "a <= b"),
    (col("d") > datetime.date(2000, 1, 1), "d > date '2000-01-01'"),
    (col("a") >= -3, "a >= -3"),
    ((col("a") > 0) & col("t"), "a > 0 and t"),
    ((col("a") > 0) | (col("b") > 4), "a > 0 or b > 4"),
    (True & col("t"), "true and t"),
    (False | col("t"), "false or t"),
    (~col("t"), "not t"),
    (col("s").is_null(), "s is null"),
    (col("s").is_not_null(), "s is not null"),
    (col("a").between(-3, col("b")), "a between -3 and b"),
    (col("s").is_in(["north", "west"]), "s in ('north', 'west')"),
    (col("s").like("%5\\%"), "s like '%5\\%'"),
    (col("s").like("s%", ignore_case=True), "s ilike 's%'"),
    (col("s").like("n%", negated=True), "s not like 'n%'"),
    (col("a").cast("decimal(5, 2)"), "a::decimal(5, 2)"),
    (col("a").cast(float), "a::double"),
    (col("a").cast(pa.int16()), "a::smallint"),
    (col("s").cast(int, or_null=True).is_null(), "try_cast(s as bigint) is null"),
    (ms.when(col("a") > 0, "up").when(col("a") < 0, "down").otherwise("none"), "case when a > 0 then 'up' when a < 0 then 'down' else 'none' end"),
    (ms.when(col("a") > 0, col("b")), "case when a > 0 then b end"),
    (ms.abs("a"), "abs(a)"),
    (ms.round(col("x") * 3, 1), "round(x * 3, 1)"),
    (ms.floor("x"), "floor(x)"),
    (ms.ceil("x"), "ceil(x)"),
    (ms.sqrt("b"), "sqrt(b)"),
    (ms.lower("s"), "lower(s)"),
    (ms.upper("s"), "upper(s)"),
    (ms.length("s"), "length(s)"),
    (ms.trim("s"), "trim(s)"),
    (ms.substr("s", 2, 3), "substr(s, 2, 3)"),
    (ms.substr("s", 2), "substr(s, 2)"),
    (ms.replace("s", "th", "z"), "replace(s, 'th', 'z')"),
    (ms.concat("s", lit("!")), "concat(s, '!')"),
    (ms.coalesce("a", "b"), "coalesce(a, b)"),
    (ms.date_part("year", "d"), "date_part('year', d)"),
    (ms.date_trunc("month", "d"), "date_trunc('month', d)"),
    (ms.call("starts_with", col("s"), "n"), "starts_with(s, 'n')"),
]


@pytest.mark.parametrize(("expression", "sql"), CASES, ids=[sql for _, sql in CASES])
def test_expressions_are_those_of_sql(session: ms.Session, table: ms.Table, expression: Any, sql: str) -> None:
    ours = table.select(v=expression).to_arrow()["v"]
    theirs = session.sql(f"select {sql} as v from t").to_arrow()["v"]
    assert ours.to_pylist() == theirs.to_pylist()
    assert any(value is not None for value in ours.to_pylist())


AGGREGATES: list[tuple[ms.Expr, Any]] = [
    (ms.sum("a"), 4),
    (ms.avg("a"), 2.0),
    (ms.min("s"), "South 5%"),
    (ms.max("d"), datetime.date(2024, 2, 29)),
    (ms.count("a"), 2),
    (ms.count(), 3),
    (ms.count_distinct("b"), 3),
    (ms.median("b"), 2),
    (ms.call("bit_or", col("b")), 7),
    (ms.sum(col("a") * 2) + ms.count(), 11),
]


@pytest.mark.parametrize(("expression", "value"), AGGREGATES, ids=[str(e) for e, _ in AGGREGATES])
def test_aggregates(table: ms.Table, expression: ms.Expr, value: Any) -> None:
    assert table.agg(v=expression).fetchall() == [(value,)]


def test_stddev_is_the_samples(table: ms.Table) -> None:
    [(ours,)] = table.agg(ms.stddev("b")).fetchall()
    assert ours == pytest.approx(np.std([2, 5, 1], ddof=1))


VALUES: list[Any] = [
    None, True, 0, -(2**63), 2**63, 1.5, float("inf"), "", "O'Hara", b"\x00\xff", Decimal("123.4500"), datetime.date(1, 1, 1),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc), datetime.time(23, 59),
    datetime.timedelta(days=-1), [1, 2], {"x": 1},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=[repr(v) for v in VALUES])
def test_values_stay_what_they_are(table: ms.Table, value: Any) -> None:
    assert table.select(v=lit(value)).fetchall() == [(value,)] * 3


def test_values_of_numpy_and_pyarrow(table: ms.Table) -> None:
    assert table.filter(col("a") == np.int32(7)).count() == 1
    assert table.filter(col("x") > np.float64(1)).count() == 1
    assert table.select(v=lit(pa.scalar(5, pa.uint8()))).schema.field("v").type == pa.uint8()


def test_a_value_without_a_type_is_refused() -> None:
    with pytest.raises(ms.InvalidError, match="type object has no type in Arrow"):
        lit(object())


def test_an_expression_has_no_truth() -> None:
    with pytest.raises(TypeError, match="use & for and"):
        bool(col("a") > 1)
    with pytest.raises(TypeError, match="use & for and"):
        assert 1 < col("a") < 5
    with pytest.raises(TypeError, match="unhashable"):
        hash(col("a"))


def test_names_are_exact(session: ms.Session) -> None:
    session.register("t", {"Shop Name": [1], "a.b": [2], "select": [3], 'q"q': [4]})
    table = session.table("t")
    assert table.select("Shop Name", "a.b", "select", 'q"q').fetchall() == [(1, 2, 3, 4)]
    assert table.rename({"a.b": "A"}).columns == ["Shop Name", "A", "select", 'q"q']
    with pytest.raises(ms.InvalidError, match="shop name"):
        table.select("shop name")


def test_unknown_functions_and_types_name_the_nearest() -> None:
    with pytest.raises(ms.InvalidError, match="did you mean upper"):
        ms.call("uper", col("a"))
    with pytest.raises(ms.InvalidError, match="no type of SQL"):
        col("a").cast("bigint) + (1")
