"""Tables from and to other libraries: the same values, and where it is promised the same memory."""

from __future__ import annotations

import datetime
import gc
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import millstream as ms

ROWS = 10_000_000


@pytest.fixture(scope="module")
def large() -> pa.Table:
    """Ten million rows of fixed-width, nullable and text columns."""
    numbers = pa.array(range(ROWS), pa.int64())
    codes = pa.array(range(1000), pa.int64()).cast(pa.string())
    indices = pc.bit_wise_and(numbers, 511)
    masked = pc.if_else(pc.equal(pc.bit_wise_and(numbers, 7), 0), None, numbers)
    return pa.table(
        {
            "id": numbers,
            "half": pc.cast(numbers, pa.float64()),
            "gaps": masked,
            "name": codes.take(indices),
        }
    )


def spans(table: pa.Table) -> dict[str, list[list[tuple[int, int]]]]:
    """By column and buffer, the places in memory; chunks one after the other."""
    out: dict[str, list[list[tuple[int, int]]]] = {}
    for name in table.column_names:
        chunks = [[(b.address, b.size) if b is not None else (0, 0) for b in c.buffers()] for c in table[name].chunks]
        out[name] = [list(places) for places in zip(*chunks)]
    return out


def shares_memory(ours: pa.Table, theirs: pa.Table) -> bool:
    """Whether each buffer of `ours` lies within the same buffer of `theirs`."""
    given = spans(theirs)
    for name, buffers in spans(ours).items():
        assert len(buffers) == len(given[name])
        for places, wholes in zip(buffers, given[name], strict=True):
            for address, size in places:
                inside = any(start <= address and address + size <= start + length for start, length in wholes)
                if size and not inside:
                    return False
    return True


def places(series: pl.Series) -> list[tuple[int, int]]:
    """By chunk, where the values of 64 bits begin in memory, and how many there are."""
    chunks = pa.chunked_array(series).chunks
    return [(chunk.buffers()[1].address + chunk.offset * 8, len(chunk)) for chunk in chunks]


def test_nothing_is_copied_on_the_way_to_pyarrow(session: ms.Session, large: pa.Table) -> None:
    session.register("t", large)
    out = session.sql("select * from t").to_arrow()
    assert out.num_rows == ROWS and shares_memory(out, large)
    assert out.equals(large)
    picked = session.sql("select name, id as number from t").to_arrow().rename_columns(["name", "id"])
    assert shares_memory(picked, large)
    streamed = pa.table(session.table("t"))
    assert streamed.num_rows == ROWS and shares_memory(streamed, large)
    # The comparison sees a copy.
    copied = pa.table({"id": pc.add(large["id"], 0)})
    assert not shares_memory(copied, large)


def test_nothing_is_copied_on_the_way_to_polars(session: ms.Session, large: pa.Table) -> None:
    views = large.append_column("view", large["name"].cast(pa.string_view()))
    session.register("t", views)
    frame = session.sql("select * from t").to_polars()
    assert frame.height == ROWS
    for name in ("id", "half", "gaps"):
        rows, first = 0, large[name].chunk(0).buffers()[1].address
        for address, length in places(frame[name]):
            # Chunk follows chunk in the memory of the input: nothing was copied, and nothing is missing.
            assert address == first + rows * 8
            rows += length
        assert rows == ROWS
    # Of texts that are views, too; other texts polars lays out anew.
    rows, first = 0, views["view"].chunk(0).buffers()[1].address
    for chunk in pa.chunked_array(frame["view"]).chunks:
        assert chunk.buffers()[1].address + chunk.offset * 16 == first + rows * 16
        rows += len(chunk)
    assert frame["id"][ROWS - 1] == ROWS - 1 and frame["name"].equals(frame["view"].alias("name"))
    # The comparison sees a copy.
    assert places(frame["id"] + 0)[0][0] != large["id"].chunk(0).buffers()[1].address


def test_nothing_is_copied_on_the_way_from_polars(session: ms.Session) -> None:
    frame = pl.DataFrame({"a": pl.arange(0, 1_000_000, eager=True)})
    session.register("t", frame)
    [(first, length)] = places(frame["a"])
    out = session.table("t").to_arrow()
    assert out.num_rows == length
    for buffer in (chunk.buffers()[1] for chunk in out["a"].chunks):
        assert first <= buffer.address and buffer.address + buffer.size <= first + length * 8


def everything() -> pa.Table:
    """A column of every type, with nulls."""
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30, 1, 250_000)
    columns: dict[str, pa.Array] = {}
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        columns[str(kind)] = pa.array([1, None, 100], kind)
    for kind in (pa.float32(), pa.float64()):
        columns[str(kind)] = pa.array([0.5, None, -2.0], kind)
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        columns[str(kind)] = pa.array(["a", None, "a longer text than twelve"], kind)
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)):
        columns[f"{kind}"] = pa.array([b"ab", None, b"cd"], kind)
    columns["bool"] = pa.array([True, None, False])
    columns["decimal"] = pa.array([Decimal("1.25"), None, Decimal("-9.99")], pa.decimal128(5, 2))
    columns["date"] = pa.array([day, None, day])
    columns["timestamp"] = pa.array([moment, None, moment], pa.timestamp("us"))
    columns["zoned"] = pa.array([moment, None, moment], pa.timestamp("ms", "Europe/Berlin"))
    columns["time"] = pa.array([moment.time(), None, moment.time()], pa.time64("us"))
    columns["duration"] = pa.array([datetime.timedelta(days=1), None, datetime.timedelta(0)])
    columns["list"] = pa.array([[1, None], None, []], pa.list_(pa.int32()))
    columns["struct"] = pa.array([{"x": 1, "y": "b"}, None, {"x": None, "y": ""}])
    columns["map"] = pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32()))
    columns["dictionary"] = pa.array(["u", None, "u"]).dictionary_encode()
    columns["null"] = pa.nulls(3)
    return pa.table(columns)


def test_every_type_goes_in_and_comes_out(session: ms.Session) -> None:
    table = everything()
    session.register("t", table)
    out = session.table("t").to_arrow()
    assert out.schema.names == table.schema.names
    for name in table.column_names:
        assert out[name].type == table[name].type, name
        assert out[name].to_pylist() == table[name].to_pylist(), name
    # Slices begin in the middle of their buffers.
    session.register("s", table.slice(1, 2))
    assert session.table("s").to_pylist() == table.slice(1, 2).to_pylist()


def test_metadata_of_columns_is_kept(session: ms.Session) -> None:
    table = pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), metadata={"unit": "m"})]))
    assert session.from_arrow(table).to_arrow().schema.field("a").metadata == {b"unit": b"m"}


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_chunks_and_tables_without_rows(session: ms.Session, chunks: int) -> None:
    kind = pa.schema([("a", pa.int64()), ("s", pa.string())])
    batches = [pa.record_batch({"a": [at, at + 10], "s": ["x", None]}, schema=kind) for at in range(chunks)]
    table = pa.Table.from_batches(batches, kind)
    session.register("t", table)
    assert session.table("t").to_arrow().equals(table)
    assert session.table("t").count() == 2 * chunks
    frame = session.table("t").to_polars()
    assert frame.columns == ["a", "s"] and frame.height == 2 * chunks


def test_what_has_arrow_data_is_a_table(session: ms.Session) -> None:
    frame = pd.DataFrame({"a": [1, 2], "s": ["x", None]})
    relation = duckdb.sql("select * from (values (1, 'x'), (2, null)) t(a, s)")
    batch = pa.record_batch({"a": [1, 2], "s": ["x", None]})
    sources: list[Any] = [frame, relation, batch, pa.table(batch), pl.DataFrame(batch), {"a": [1, 2], "s": ["x", None]}]
    for source in sources:
        session.register("t", source)
        assert session.sql("select a, s from t where a > 0").sort("a").fetchall() == [(1, "x"), (2, None)], type(source)
        assert session.from_arrow(source).count() == 2


def test_tables_are_what_others_take(session: ms.Session) -> None:
    table = session.sql("select * from (values (1, 'x'), (2, null)) t(a, s)")
    assert pl.DataFrame(table).sort("a").rows() == [(1, "x"), (2, None)]
    assert pa.table(table).num_rows == 2
    assert pa.schema(table).names == ["a", "s"]
    reader = pa.RecordBatchReader.from_stream(table)
    assert sum(batch.num_rows for batch in reader) == 2
    arrow = table.to_arrow()
    assert duckdb.from_arrow(arrow).aggregate("sum(a)").fetchall() == [(3,)]
    assert list(table.sort("a").to_pandas()["a"]) == [1, 2]


def test_texts_of_files_reach_pandas(session: ms.Session, tmp_path: Any) -> None:
    session.sql(f"copy (select 'north' as shop) to '{tmp_path}/t.parquet'")
    table = session.read_parquet(tmp_path / "t.parquet")
    assert table.schema.field("shop").type == pa.string_view()
    assert list(table.to_pandas()["shop"]) == ["north"]
    assert table.to_polars()["shop"].to_list() == ["north"]


def test_a_consumer_may_ask_for_types(session: ms.Session) -> None:
    table = session.sql("select 1 as a, 'x' as s")
    wanted = pa.schema([("a", pa.int32()), ("s", pa.large_string())])
    assert pa.table(table, schema=wanted).schema == wanted
    stream = table.__arrow_c_stream__(pa.schema([("b", pa.int32())]).__arrow_c_schema__())
    assert stream is not None


def test_memory_is_released(session: ms.Session) -> None:
    before = pa.total_allocated_bytes()
    session.register("t", pa.table({"a": pa.array(range(1_000_000))}))
    out = session.table("t").to_arrow()
    assert session.deregister("t")
    # The result holds what it shares with the table that is gone.
    assert out["a"][999_999].as_py() == 999_999
    assert pa.total_allocated_bytes() - before >= 8_000_000
    del out
    gc.collect()
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_a_capsule_nobody_takes_is_released(session: ms.Session) -> None:
    table = session.sql("select * from generate_series(1, 1000000)")
    for _ in range(10):
        table.__arrow_c_stream__()
    assert table.count() == 1_000_000


def test_a_stream_is_read_once(session: ms.Session) -> None:
    def batches() -> Any:
        for at in range(100):
            yield pa.record_batch({"a": [at] * 10})

    schema = pa.schema([("a", pa.int64())])
    session.register_stream("s", pa.RecordBatchReader.from_batches(schema, batches()))
    assert session.sql("select count(*) n, sum(a) a from s where a >= 10").fetchall() == [(900, 10 * sum(range(10, 100)))]
    with pytest.raises(ms.InvalidError, match="read already"):
        session.table("s").to_arrow()


def test_what_a_stream_raises_is_said(session: ms.Session) -> None:
    def batches() -> Any:
        yield pa.record_batch({"a": [1]})
        raise RuntimeError("the sensor is off")

    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(ms.InvalidError, match="the sensor is off"):
        session.register("t", pa.RecordBatchReader.from_batches(schema, batches()))
    session.register_stream("s", pa.RecordBatchReader.from_batches(schema, batches()))
    with pytest.raises(ms.InvalidError, match="the sensor is off"):
        session.table("s").to_arrow()


def test_what_has_no_arrow_data_is_refused(session: ms.Session) -> None:
    with pytest.raises(ms.InvalidError, match="list has no __arrow_c_stream__"):
        session.register("t", [1, 2])
    with pytest.raises(ms.InvalidError, match="array of Int64"):
        session.register("t", pa.array([1, 2]))
    with pytest.raises(ms.InvalidError, match="no capsule"):
        session.register("t", Impostor())


class Impostor:
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return "a text"
