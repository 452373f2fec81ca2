"""Functions over columns. A text is the name of a column here; `call` has all other functions of SQL."""

from __future__ import annotations

from typing import Any

from millstream import _native
from millstream._expressions import Column, Expr, call, column, lit


def _aggregate(name: str, value: Column) -> Expr:
    return Expr(_native.aggregate(name, column(value)._native))


def sum(value: Column) -> Expr:
    """The sum of a group's values; null where it has none."""
    return _aggregate("sum", value)


def avg(value: Column) -> Expr:
    """The mean of a group's values."""
    return _aggregate("avg", value)


def min(value: Column) -> Expr:
    """The least of a group's values."""
    return _aggregate("min", value)


def max(value: Column) -> Expr:
    """The greatest of a group's values."""
    return _aggregate("max", value)


def count(value: Column = None) -> Expr:
    """The number of a group's values that are not null; of its rows, without an argument.

    >>> import millstream as ms
    >>> ms.sql("select * from (values (1), (null)) t(a)").agg(ms.count(), values=ms.count("a")).to_pylist()
    [{'count': 2, 'values': 1}]
    """
    return _aggregate("count", value) if value is not None else _aggregate("count", lit(1)).alias("count")


def count_distinct(value: Column) -> Expr:
    """The number of a group's different values."""
    return _aggregate("count_distinct", value)


def median(value: Column) -> Expr:
    """The middle of a group's values."""
    return _aggregate("median", value)


def stddev(value: Column) -> Expr:
    """The standard deviation of a group's values, taken for a sample."""
    return _aggregate("stddev", value)


def _call(name: str, value: Column, *arguments: Any) -> Expr:
    return call(name, column(value), *arguments)


def abs(value: Column) -> Expr:
    """A number without its sign."""
    return _call("abs", value)


def round(value: Column, digits: int = 0) -> Expr:
    """A number to so many digits after the point; halves away from zero."""
    return _call("round", value, digits)


def floor(value: Column) -> Expr:
    """The greatest integer that is not above."""
    return _call("floor", value)


def ceil(value: Column) -> Expr:
    """The least integer that is not below."""
    return _call("ceil", value)


def sqrt(value: Column) -> Expr:
    """The square root."""
    return _call("sqrt", value)


def lower(value: Column) -> Expr:
    """A text in lower case."""
    return _call("lower", value)


def upper(value: Column) -> Expr:
    """A text in upper case."""
    return _call("upper", value)


def length(value: Column) -> Expr:
    """The number of a text's characters."""
    return _call("character_length", value)


def trim(value: Column) -> Expr:
    """A text without the spaces around it."""
    return _call("btrim", value)


def substr(value: Column, start: int, count: int | None = None) -> Expr:
    """A part of a text, from character `start` on, where the first is 1.

    >>> import millstream as ms
    >>> ms.sql("select 'millstream' as s").select(s=ms.substr("s", 5, 6)).fetchall()
    [('stream',)]
    """
    return _call("substr", value, start) if count is None else _call("substr", value, start, count)


def replace(value: Column, old: str, new: str) -> Expr:
    """A text with every `old` in it replaced."""
    return _call("replace", value, old, new)


def concat(*values: Column) -> Expr:
    """Texts one after the other; null is an empty text."""
    return call("concat", *[column(v) for v in values])


def coalesce(*values: Column) -> Expr:
    """The first value that is not null.

    >>> import millstream as ms
    >>> ms.sql("select null::int as a, 2 as b").select(c=ms.coalesce("a", "b")).fetchall()
    [(2,)]
    """
    return call("coalesce", *[column(v) for v in values])


def date_part(part: str, value: Column) -> Expr:
    """`year`, `month`, `day`, `hour`, ... of a date or a time.

    >>> import millstream as ms
    >>> ms.sql("select date '2024-02-29' as d").select(y=ms.date_part("year", "d")).fetchall()
    [(2024,)]
    """
    return call("date_part", part, column(value))


def date_trunc(part: str, value: Column) -> Expr:
    """The beginning of the `year`, `month`, `week`, `day`, `hour`, ... of a date or a time."""
    return call("date_trunc", part, column(value))
