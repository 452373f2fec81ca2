"""Methods of tables, and how tables are shown."""

from __future__ import annotations

from typing import Any

import pytest

import millstream as ms
from millstream import col


@pytest.fixture
def table(session: ms.Session) -> ms.Table:
    session.register("t", {"k": [1, 2, 1, None], "v": [10, 20, 30, 40], "s": ["a", "b", None, "d"]})
    return session.table("t")


def test_rows_are_filtered_and_picked(table: ms.Table) -> None:
    assert table.filter(col("k") == 1, col("v") > 10).fetchall() == [(1, 30, None)]
    assert table.filter(col("k").is_null()).select("v", ["s", "k"]).fetchall() == [(40, "d", None)]
    assert table.select(col("v").alias("w"), double=col("v") * 2).columns == ["w", "double"]
    assert table.drop("s", "k").columns == ["v"]
    assert table.rename({"k": "key"}).columns == ["key", "v", "s"]
    assert table.columns == ["k", "v", "s"]


def test_columns_are_added_and_replaced(table: ms.Table) -> None:
    out = table.with_columns((col("v") + 1).alias("v"), w=col("v")).sort("w")
    assert out.columns == ["k", "v", "s", "w"]
    assert out.select("v", "w").fetchall() == [(11, 10), (21, 20), (31, 30), (41, 40)]
    assert table.with_column("v", 0).agg(ms.sum("v")).fetchall() == [(0,)]


def test_groups(table: ms.Table) -> None:
    rows = table.group_by("k").agg(ms.sum("v").alias("total"), n=ms.count("s")).sort(ms.asc("k"))
    assert rows.fetchall() == [(1, 40, 1), (2, 20, 1), (None, 40, 1)]
    assert table.group_by(odd=col("v") % 20 != 0).agg(n=ms.count()).sort("odd").fetchall() == [(False, 2), (True, 2)]
    assert table.group_by("k").agg().sort("k").fetchall() == [(1,), (2,), (None,)]


@pytest.mark.parametrize(
    ("how", "rows"),
    [
        ("inner", [(2, "y", "z")]),
        ("left", [(1, "x", None), (2, "y", "z")]),
        ("right", [(2, "y", "z"), (3, None, "w")]),
        ("full", [(1, "x", None), (2, "y", "z"), (3, None, "w")]),
        ("semi", [(2, "y")]),
        ("anti", [(1, "x")]),
    ],
)
def test_joins(session: ms.Session, how: str, rows: list[Any]) -> None:
    left = session.sql("select * from (values (1, 'x'), (2, 'y')) t(k, a)")
    right = session.sql("select * from (values (2, 'z'), (3, 'w')) t(k, b)")
    assert left.join(right, "k", how).sort("k").fetchall() == rows
    assert left.join(right, ["k"], how=how).count() == len(rows)


def test_tables_of_two_sessions_join() -> None:
    left, right = ms.Session(threads=1).from_arrow({"k": [1, 2]}), ms.Session(threads=2).from_arrow({"k": [2], "b": ["z"]})
    assert left.join(right, "k").fetchall() == [(2, "z")]


def test_sets_and_order(table: ms.Table) -> None:
    assert table.select("k").union(table.select("k")).count() == 8
    assert table.select("k").distinct().sort("k").fetchall() == [(1,), (2,), (None,)]
    assert table.sort("k", ms.desc("v")).select("v").fetchall() == [(30,), (10,), (20,), (40,)]
    assert table.sort("k", descending=True).limit(1).select("k").fetchall() == [(None,)]
    assert table.sort(col("k").desc(nulls_first=False)).limit(1).select("k").fetchall() == [(2,)]
    assert table.sort("v").limit(2, offset=1).select("v").fetchall() == [(20,), (30,)]
    with pytest.raises(ms.InvalidError, match="below zero"):
        table.limit(-1)


def test_results(table: ms.Table) -> None:
    ordered = table.sort("v")
    assert ordered.to_pylist()[0] == {"k": 1, "v": 10, "s": "a"}
    assert ordered.fetchall()[3] == (None, 40, "d")
    assert [batch.num_rows for batch in ordered.collect()] == [4]
    assert sum(batch.num_rows for batch in ordered) == 4
    assert ordered.to_polars()["s"].to_list() == ["a", "b", None, "d"]
    assert list(ordered.to_pandas()["v"]) == [10, 20, 30, 40]
    assert ordered.to_arrow().schema == ordered.schema
    assert table.count() == 4
    assert table.filter(col("v") > 99).to_pylist() == []


def test_a_table_is_shown(table: ms.Table, capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(table.sort("v").limit(2)).splitlines() == [
        "┌───┬────┬───┐",
        "│ k │  v │ s │",
        "├───┼────┼───┤",
        "│ 1 │ 10 │ a │",
        "│ 2 │ 20 │ b │",
        "└───┴────┴───┘",
        "2 rows",
    ]
    table.sort("v").show(3)
    shown = capsys.readouterr().out
    assert "│ 1 │ 30 │ null │" in shown
    assert shown.endswith("the first 3 rows\n")
    assert repr(table.filter(col("k") > 5)).endswith("0 rows")


def test_wide_and_long_values_are_cut(session: ms.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    session.register("t", {f"column{at}": ["x" * 100 + "\n"] for at in range(9)})
    lines = repr(session.table("t")).splitlines()
    assert all(len(line) <= 60 for line in lines[:-1]) and "column0" in lines[1]
    assert "…" in lines[1] and "…" in lines[3]


def test_a_notebook_has_html(session: ms.Session) -> None:
    page = session.sql("select '<b>' as \"<i>\"")._repr_html_()
    assert "&lt;b&gt;" in page and "&lt;i&gt;" in page and "<b>" not in page


def test_what_fails_is_shown_as_it_fails(session: ms.Session) -> None:
    failing = session.sql("select 1 / (x - 1) as y from generate_series(1, 3) t(x)")
    assert repr(failing).startswith("<millstream.Table ['y']: InvalidError: ")


def test_plans_and_profiles(table: ms.Table) -> None:
    query = table.filter(col("v") > 10).group_by("k").agg(n=ms.count())
    assert "StageExec" in query.explain() and "group" in query.explain()
    assert query.explain(analyze=True) != query.explain() == query.explain()
    profile = query.profile()
    assert profile.rows.num_rows == 3
    assert profile.stages[0]["sink"] == "group" and profile.stages[0]["input_rows"] == 4
    assert profile.stages[0]["output_rows"] == 3 and profile.stages[0]["elapsed_ms"] > 0
    assert all(stock["reason"] for stock in profile.stock)
    assert str(profile) == profile.text and "why there" in profile.text


def test_files_are_written(session: ms.Session, table: ms.Table, tmp_path: Any) -> None:
    for kind in ("parquet", "csv", "json", "arrow"):
        path = tmp_path / f"out.{kind}"
        assert getattr(table, f"write_{kind}")(path) == 4
        back = getattr(session, f"read_{kind}")(path)
        assert back.sort("v").fetchall() == table.sort("v").fetchall(), kind
    assert table.write_csv(tmp_path / "out.txt", delimiter=";", has_header=False) == 4
    assert (tmp_path / "out.txt").read_text().splitlines()[0] == "1;10;a"
    table.filter(col("k").is_not_null()).write_parquet(f"{tmp_path}/by-k/", partition_by="k", compression="zstd")
    assert (tmp_path / "by-k" / "k=2").is_dir()
    assert session.read_parquet(f"{tmp_path}/by-k/", partition_by={"k": int}).filter(col("k") == 2).select("v").fetchall() == [(20,)]
