"""Lazy tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from millstream import _display, _native
from millstream._expressions import Column, Expr, SortKey, asc, col, column

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

#: Columns as methods take them: names and expressions, or lists of them.
Columns = Union[Column, Iterable[Column]]


@dataclass(frozen=True)
class Profile:
    """What a run did: its stages, what stock operators ran, and how long each took, in milliseconds."""

    #: The result.
    rows: pa.Table
    #: The stages, from the root of the plan downwards.
    stages: list[dict[str, Any]]
    #: What no stage covers, with the reason.
    stock: list[dict[str, Any]]
    #: Both as two small tables.
    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


class Table:
    """A lazy table: a plan that runs when its rows are asked for, as often as they are.

    Methods up to `limit` give another table and leave this one as it is. Libraries that know the Arrow PyCapsule
    interface take a table as it is: `polars.DataFrame(table)`, `pyarrow.table(table)`. Without `sort`, rows come in any
    order.

    >>> import millstream as ms
    >>> sales = ms.sql("select * from (values ('a', 1), ('b', 5), ('a', 9)) t(shop, n)")
    >>> sales.filter(ms.col("n") > 1).group_by("shop").agg(total=ms.sum("n")).sort(ms.desc("total")).fetchall()
    [('a', 9), ('b', 5)]
    """

    __slots__ = ("_native",)

    def __init__(self, native: _native.Table) -> None:
        self._native = native

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        import pyarrow as pa

        return pa.schema(self._native)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self._native.columns

    def filter(self, *predicates: Expr) -> Table:
        """The rows for which all predicates are true; not those for which one is null."""
        native = self._native
        for predicate in predicates:
            native = native.filter(column(predicate)._native)
        return Table(native)

    def select(self, *columns: Columns, **named: Column) -> Table:
        """These columns, in this order.

        >>> import millstream as ms
        >>> ms.sql("select 2 as a, 3 as b").select("b", product=ms.col("a") * ms.col("b")).to_pylist()
        [{'b': 3, 'product': 6}]
        """
        return Table(self._native.select(_natives(columns, named)))

    def with_columns(self, *columns: Columns, **named: Column) -> Table:
        """The table with columns more, or with those of these names replaced. They see this table's columns, not one another.

        >>> import millstream as ms
        >>> ms.sql("select 1 as a, 2 as b").with_columns(a=ms.col("b"), c=ms.col("a") + 10).to_pylist()
        [{'a': 2, 'b': 2, 'c': 11}]
        """
        fresh = Table(self._native.select(_natives(columns, named)))
        values = dict(zip(fresh.columns, _natives(columns, named)))
        kept = [values.pop(name, col(name)._native) for name in self.columns]
        return Table(self._native.select([*kept, *values.values()]))

    def with_column(self, name: str, value: Column) -> Table:
        """The table with a column more, or with the one of this name replaced."""
        return self.with_columns(**{name: value})

    def drop(self, *names: str) -> Table:
        """The table without these columns."""
        self._known(names)
        return self.select([name for name in self.columns if name not in names])

    def rename(self, names: Mapping[str, str]) -> Table:
        """The table with other names, given as `{old: new}`."""
        self._known(names)
        return self.select([col(name).alias(names.get(name, name)) for name in self.columns])

    def _known(self, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise _native.InvalidError(f"there is no column {unknown[0]}: there are {', '.join(self.columns)}")

    def group_by(self, *keys: Columns, **named: Column) -> GroupBy:
        """Rows by equal keys, null equal to null: `agg` follows.

        >>> import millstream as ms
        >>> t = ms.sql("select * from (values (1, 2), (1, 4), (2, 0)) t(k, v)")
        >>> t.group_by("k").agg(ms.avg("v").alias("mean"), n=ms.count()).sort("k").fetchall()
        [(1, 3.0, 2), (2, 0.0, 1)]
        """
        return GroupBy(self, _natives(keys, named))

    def agg(self, *aggregates: Columns, **named: Column) -> Table:
        """One row of aggregates over all rows."""
        return GroupBy(self, []).agg(*aggregates, **named)

    def join(self, other: Table, on: str | Iterable[str], how: str = "inner") -> Table:
        """Rows of both tables with equal keys, columns that both have; null matches nothing.

        `how` is `inner`, `left`, `right`, `full`, or `semi` and `anti`: the rows here with or without a partner. Each key is
        there once in the result, first our columns, then those of `other`.

        >>> import millstream as ms
        >>> left = ms.sql("select * from (values (1, 'x'), (2, 'y')) t(k, a)")
        >>> left.join(ms.sql("select 2 as k, 'z' as b"), "k").fetchall()
        [(2, 'y', 'z')]
        """
        keys = [on] if isinstance(on, str) else list(on)
        return Table(self._native.join(other._native, keys, how))

    def union(self, other: Table) -> Table:
        """The rows of both tables; types must agree, the names are ours. Equal rows stay: `distinct` may follow."""
        return Table(self._native.union(other._native))

    def distinct(self) -> Table:
        """Every different row once."""
        return Table(self._native.distinct())

    def sort(self, *keys: Column | SortKey, descending: bool = False) -> Table:
        """The rows in order, by names, expressions, `asc` and `desc`; `descending` is for keys that do not say.

        >>> import millstream as ms
        >>> ms.sql("select * from (values (1, 2), (1, 3), (0, 9)) t(a, b)").sort("a", ms.desc("b")).fetchall()
        [(0, 9), (1, 3), (1, 2)]
        """
        directed = [k if isinstance(k, SortKey) else column(k).desc() if descending else asc(k) for k in keys]
        return Table(self._native.sort([k._native for k in directed]))

    def limit(self, rows: int, offset: int = 0) -> Table:
        """The first `rows` rows, after `offset` that are left out."""
        if rows < 0 or offset < 0:
            raise _native.InvalidError("a limit and its offset are not below zero")
        native = self._native.skip(offset) if offset else self._native
        return Table(native.limit(rows))

    def to_arrow(self) -> pa.Table:
        """All rows, as a pyarrow table. Nothing is copied: columns that are only picked share the memory of the input."""
        import pyarrow as pa

        return pa.table(self._native.collect())

    def collect(self) -> list[pa.RecordBatch]:
        """All rows, as pyarrow batches."""
        batches: list[pa.RecordBatch] = self.to_arrow().to_batches()
        return batches

    def to_polars(self) -> pl.DataFrame:
        """All rows, as a polars frame, without a copy."""
        import polars as pl

        return pl.DataFrame(self._native.collect())

    def to_pandas(self, **options: Any) -> pd.DataFrame:
        """All rows, as a pandas frame; options are those of `pyarrow.Table.to_pandas`."""
        return self.to_arrow().to_pandas(**options)

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows, as dictionaries."""
        rows: list[dict[str, Any]] = self.to_arrow().to_pylist()
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows, as tuples."""
        rows = self.to_arrow()
        return list(zip(*(c.to_pylist() for c in rows.columns))) if rows.columns else [()] * rows.num_rows

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The rows batch by batch while the query runs. Leaving the loop cancels it.

        >>> import millstream as ms
        >>> for batch in ms.sql("select 1 as a"):
        ...     print(batch.num_rows)
        1
        """
        import pyarrow as pa

        rows = self._native.stream()
        try:
            while (batch := rows.next()) is not None:
                yield pa.record_batch(batch)
        finally:
            rows.close()

    def __arrow_c_schema__(self) -> object:
        return self._native.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._native.__arrow_c_stream__(requested_schema)

    def count(self) -> int:
        """The number of rows."""
        from millstream._functions import count

        return int(self.agg(count()).fetchall()[0][0])

    def explain(self, analyze: bool = False) -> str:
        """The plan, which stage runs where and why, and why the rest is stock; `analyze` runs it and measures."""
        return self._native.explain(analyze)

    def profile(self) -> Profile:
        """Runs it; the rows, and what each stage and each stock operator did.

        >>> import millstream as ms
        >>> profile = ms.sql("select count(*) from (values (1), (2)) t(a) where a > 1").profile()
        >>> profile.stages[0]["sink"], profile.stages[0]["output_rows"], profile.rows.num_rows
        ('group', 1, 1)
        """
        import pyarrow as pa

        rows, text, stages, stock = self._native.profile()
        return Profile(pa.table(rows), stages, stock, text)

    def write_parquet(self, path: str | os.PathLike[str], *, partition_by: Iterable[str] = (), **options: object) -> int:
        """Writes the rows to a file, or to files in a folder where `path` ends in `/`; gives their number.

        Options are those of COPY: `compression="zstd"`, `max_row_group_size=100_000`, ...
        """
        return self._write(path, "parquet", partition_by, options)

    def write_csv(self, path: str | os.PathLike[str], *, partition_by: Iterable[str] = (), **options: object) -> int:
        """As `write_parquet`, as CSV: `delimiter=";"`, `has_header=False`, `compression="gzip"`, ..."""
        return self._write(path, "csv", partition_by, options)

    def write_json(self, path: str | os.PathLike[str], *, partition_by: Iterable[str] = (), **options: object) -> int:
        """As `write_parquet`, as JSON, an object a line."""
        return self._write(path, "json", partition_by, options)

    def write_arrow(self, path: str | os.PathLike[str], *, partition_by: Iterable[str] = (), **options: object) -> int:
        """As `write_parquet`, as an Arrow IPC file."""
        return self._write(path, "arrow", partition_by, options)

    def _write(self, path: str | os.PathLike[str], kind: str, by: Iterable[str], options: Mapping[str, object]) -> int:
        by = [by] if isinstance(by, str) else list(by)
        return self._native.write(os.fspath(path), kind, option_texts(options), by)

    def show(self, rows: int = 20) -> None:
        """Prints the first rows.

        >>> import millstream as ms
        >>> ms.sql("select 1 as n, 'one' as name").show()
        ┌───┬──────┐
        │ n │ name │
        ├───┼──────┤
        │ 1 │ one  │
        └───┴──────┘
        1 row
        """
        print(self._text(rows))

    def __repr__(self) -> str:
        """The first rows, for which it runs; what that raises is said in their place."""
        try:
            return self._text(10)
        except _native.MillstreamError as error:
            return f"<millstream.Table {self.columns}: {type(error).__name__}: {error}>"

    def _repr_html_(self) -> str:
        columns, cells, more = self._first(10)
        return _display.table(columns, cells) + f"<small>{_counted(len(cells), more)}</small>"

    def _text(self, rows: int) -> str:
        columns, cells, more = self._first(rows)
        return (_display.grid(columns, cells) + "\n" if columns else "") + _counted(len(cells), more)

    def _first(self, rows: int) -> tuple[list[tuple[str, str]], list[list[str]], bool]:
        """Columns, values of the first rows, and whether there are more."""
        cells = self._native.limit(rows + 1).collect().cells(rows + 1)
        return self._native.described, cells[:rows], len(cells) > rows


def _counted(rows: int, more: bool) -> str:
    return f"the first {rows} rows" if more else f"{rows} row" + "s" * (rows != 1)


class GroupBy:
    """Rows by keys, see `Table.group_by`."""

    __slots__ = ("_keys", "_table")

    def __init__(self, table: Table, keys: list[_native.Expr]) -> None:
        self._table = table
        self._keys = keys

    def agg(self, *aggregates: Columns, **named: Column) -> Table:
        """A row for each group: its keys, then these aggregates."""
        return Table(self._table._native.group_by(self._keys, _natives(aggregates, named)))


def _natives(columns: Iterable[Columns], named: Mapping[str, Column]) -> list[_native.Expr]:
    flat: list[Column] = []
    for one in columns:
        flat.extend([one] if isinstance(one, (str, Expr)) or not isinstance(one, Iterable) else one)
    return [column(c)._native for c in flat] + [column(c).alias(name)._native for name, c in named.items()]


def option_texts(options: Mapping[str, object]) -> dict[str, str]:
    """Options as SQL has them."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}
