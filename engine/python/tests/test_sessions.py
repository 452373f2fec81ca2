"""Sessions: catalogs, files, options, statements, errors."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

import millstream as ms


def test_tables_are_registered_and_let_go(session: ms.Session, tmp_path: pathlib.Path) -> None:
    session.register("t", {"a": [1, 2, 3]})
    session.register("v", session.sql("select a + 1 as b from t"))
    (tmp_path / "f.csv").write_text("n\n1\n2\n")
    session.register("f", tmp_path / "f.csv")
    assert session.tables() == ["f", "t", "v"]
    assert session.sql("select sum(b) from v").fetchall() == [(9,)]
    # A view and a file are read anew; data is as it was.
    (tmp_path / "f.csv").write_text("n\n1\n2\n3\n")
    session.register("t", {"a": [10]})
    assert session.sql("select sum(b) from v").fetchall() == [(9,)]
    assert session.sql("select count(*) from f").fetchall() == [(3,)]
    assert session.deregister("t") and not session.deregister("t")
    with pytest.raises(ms.InvalidError):
        session.table("t")


def test_sessions_are_apart(session: ms.Session) -> None:
    session.register("only_here", {"a": [1]})
    assert ms.Session().tables() == []
    assert ms.default_session() is ms.default_session()


def test_the_default_session() -> None:
    ms.register("of_default", {"a": [1]})
    assert ms.table("of_default").fetchall() == ms.sql("select * from of_default").fetchall() == [(1,)]
    assert ms.from_arrow({"a": [5]}).fetchall() == [(5,)]
    ms.default_session().deregister("of_default")


def test_files_are_read(session: ms.Session, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("shop,price\nnorth,2.5\nsouth,4\n")
    (tmp_path / "b.txt").write_text("west|8\n")
    assert session.read_csv(tmp_path / "*.csv").sort("price").fetchall() == [("north", 2.5), ("south", 4.0)]
    typed = session.read_csv(tmp_path / "b.txt", delimiter="|", has_header=False, schema={"shop": str, "price": "decimal(5, 2)"})
    assert str(typed.schema.field("price").type) == "decimal128(5, 2)"
    session.register("b", tmp_path / "b.txt", format="csv", delimiter="|", has_header=False)
    assert session.table("b").fetchall() == [("west", 8)]
    (tmp_path / "c.json").write_text('{"n": 1}\n{"n": 2}\n')
    assert session.read_json(tmp_path / "c.json").count() == 2
    assert session.sql(f"select count(*) from '{tmp_path}/a.csv'").fetchall() == [(2,)]


def test_statements_take_effect_at_once(session: ms.Session, tmp_path: pathlib.Path) -> None:
    session.sql("create table t (a bigint)")
    assert session.sql("insert into t values (1), (2)").fetchall() == [(2,)]
    session.sql("insert into t values (3)")
    assert session.table("t").count() == 3
    written = session.sql(f"copy t to '{tmp_path}/t.parquet'")
    assert written.fetchall() == [(3,)] and written.fetchall() == [(3,)]
    session.sql("drop table t")
    assert session.tables() == []


def test_tables_in_memory(session: ms.Session) -> None:
    session.register("t", {"a": list(range(1000))})
    cached = session.cache("t")
    assert cached.rows == 1000 and cached.bytes > 0
    assert session.sql("select sum(a) from t where a >= 500").fetchall() == [(sum(range(500, 1000)),)]
    session.uncache("t")
    with pytest.raises(ms.InvalidError, match="did you mean t"):
        session.cache("u")


def test_options() -> None:
    assert ms.Session(threads=3).threads == 3
    query = "select a % 3 as k, count(*) as n from t group by a % 3"
    choices: list[dict[str, Any]] = [{"stages": False}, {"device": "cpu"}, {"memory_limit": "1GB"}, {"memory_limit": 1 << 30}, {"threads": 1}]
    for options in choices:
        session = ms.Session(**options)
        session.register("t", {"a": list(range(9))})
        assert session.sql(query).sort("k").fetchall() == [(0, 3), (1, 3), (2, 3)], options
        assert ("StageExec" in session.sql(query).explain()) == (options != {"stages": False})
    wrongs: list[dict[str, Any]] = [{"threads": 0}, {"device": "tpu"}, {"memory_limit": "much"}]
    for wrong in wrongs:
        with pytest.raises(ms.InvalidError, match=next(iter(wrong))):
            ms.Session(**wrong)
    with pytest.raises(TypeError):
        ms.Session(2)  # type: ignore[call-arg]


def test_stores_are_reached_by_their_settings() -> None:
    session = ms.Session(stores={"AWS_REGION": "eu-central-1"})
    with pytest.raises(ms.UnsupportedError, match="no known store"):
        session.read_parquet("ftp://host/t.parquet")


def test_errors_say_what_to_do(session: ms.Session, tmp_path: pathlib.Path) -> None:
    cases: list[tuple[type[ms.MillstreamError], Any, str]] = [
        (ms.InvalidError, lambda: session.sql("select 1 frm t"), "Line: 1"),
        (ms.InvalidError, lambda: session.sql("select pric from (values (1)) t(price)"), "price"),
        (ms.InvalidError, lambda: session.table("nothing"), "nothing"),
        (ms.InvalidError, lambda: session.read_parquet(tmp_path / "none.parquet"), "none.parquet"),
        (ms.InvalidError, lambda: session.read_csv(tmp_path / "t.csv", delimiterr=";"), "delimiterr|t.csv"),
        (ms.InvalidError, lambda: session.register("t", {"a": [1]}, delimiter=";"), "options are for files"),
        (ms.InvalidError, lambda: session.sql("select 9223372036854775807 + x from generate_series(1, 2) t(x)").to_arrow(), "verflow"),
        (ms.UnsupportedError, lambda: session.sql(f"copy (select 1 as a) to '{tmp_path}/t' stored as xlsx"), "no kind of file"),
    ]
    for kind, act, message in cases:
        with pytest.raises(kind, match=message):
            act()
    for kind in (ms.InvalidError, ms.UnsupportedError, ms.ExhaustedError, ms.RetryError, ms.CorruptError, ms.BugError):
        assert issubclass(kind, ms.MillstreamError) and kind.__module__ == "millstream" and kind.__doc__


def test_memory_that_is_used_up_is_an_error() -> None:
    session = ms.Session(threads=2, memory_limit="1MB")
    session.register("t", {"a": list(range(1_000_000))})
    with pytest.raises(ms.ExhaustedError):
        session.cache("t")
    assert session.sql("select count(*) from t").fetchall() == [(1_000_000,)]


def test_a_damaged_file_is_named(session: ms.Session, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "t.parquet"
    session.sql("select * from generate_series(1, 1000)").write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises((ms.CorruptError, ms.InvalidError), match="t.parquet"):
        session.read_parquet(path).to_arrow()


def test_a_name_that_is_no_text_is_a_type_error(session: ms.Session) -> None:
    with pytest.raises(TypeError):
        session.register(5, {"a": [1]})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        session.sql(None)  # type: ignore[arg-type]
