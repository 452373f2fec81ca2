"""Millstream: a columnar analytics engine, in process.

>>> import millstream as ms
>>> ms.sql("select 6 * 7 as answer").to_pylist()
[{'answer': 42}]

A query is SQL or an expression over tables; both are plans until rows are asked for. Tables are files, and whatever
has Arrow data: pyarrow, polars, pandas, DuckDB; it is neither copied on the way in nor on the way out.

>>> import pyarrow as pa
>>> session = ms.Session(threads=2)
>>> session.register("sales", pa.table({"shop": ["north", "south", "north"], "price": [3, 4, 5]}))
>>> session.table("sales").group_by("shop").agg(total=ms.sum("price")).sort("shop")
┌───────┬───────┐
│ shop  │ total │
├───────┼───────┤
│ north │     8 │
│ south │     4 │
└───────┴───────┘
2 rows

Functions of this module without a session use one that is made when it is first needed, see `default_session`.
"""

from __future__ import annotations

from millstream._expressions import Case, Column, Expr, SortKey, asc, call, col, desc, lit, when
from millstream._functions import (
    abs,
    avg,
    ceil,
    coalesce,
    concat,
    count,
    count_distinct,
    date_part,
    date_trunc,
    floor,
    length,
    lower,
    max,
    median,
    min,
    replace,
    round,
    sqrt,
    stddev,
    substr,
    sum,
    trim,
    upper,
)
from millstream._native import (
    BugError,
    CorruptError,
    ExhaustedError,
    InvalidError,
    MillstreamError,
    RetryError,
    UnsupportedError,
    __version__,
)
from millstream._session import (
    Cached,
    Session,
    default_session,
    from_arrow,
    read_arrow,
    read_avro,
    read_csv,
    read_json,
    read_parquet,
    register,
    sql,
    table,
)
from millstream._table import GroupBy, Profile, Table

__all__ = [
    "BugError",
    "Cached",
    "Case",
    "Column",
    "CorruptError",
    "ExhaustedError",
    "Expr",
    "GroupBy",
    "InvalidError",
    "MillstreamError",
    "Profile",
    "RetryError",
    "Session",
    "SortKey",
    "Table",
    "UnsupportedError",
    "__version__",
    "abs",
    "asc",
    "avg",
    "call",
    "ceil",
    "coalesce",
    "col",
    "concat",
    "count",
    "count_distinct",
    "date_part",
    "date_trunc",
    "default_session",
    "desc",
    "floor",
    "from_arrow",
    "length",
    "lit",
    "lower",
    "max",
    "median",
    "min",
    "read_arrow",
    "read_avro",
    "read_csv",
    "read_json",
    "read_parquet",
    "register",
    "replace",
    "round",
    "sql",
    "sqrt",
    "stddev",
    "substr",
    "sum",
    "table",
    "trim",
    "upper",
    "when",
]
