"""Expressions over columns, and the keys of a sort."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable
from typing import Any, Union

from millstream import _native

#: A column: its name, an expression, or a value for all rows.
Column = Union[
    str,
    "Expr",
    "Case",
    None,
    bool,
    int,
    float,
    bytes,
    decimal.Decimal,
    datetime.date,
    datetime.time,
    datetime.timedelta,
]

#: Python types as types of SQL.
_TYPES: dict[Any, str] = {
    bool: "boolean",
    int: "bigint",
    float: "double",
    str: "varchar",
    bytes: "bytea",
    datetime.date: "date",
    datetime.datetime: "timestamp",
}


class Expr:
    """An expression, computed for every row of the table that it is used with.

    Made by `col`, `lit`, the functions of this module and operators. Operators take Python values as they are; a text
    there is a text, not a column. `&`, `|` and `~` are AND, OR and NOT, and need parentheses around comparisons.
    Arithmetic is SQL's: an integer divided by an integer is one, and overflow is an error.

    >>> import millstream as ms
    >>> (ms.col("price") * 2 > 10) & (ms.col("shop") == "north")
    price * Int64(2) > Int64(10) AND shop = Utf8("north")
    """

    __slots__ = ("_native",)
    __hash__ = None  # type: ignore[assignment]  # equality makes an expression

    def __init__(self, native: _native.Expr) -> None:
        self._native = native

    def __repr__(self) -> str:
        return str(self._native)

    def __bool__(self) -> bool:
        raise TypeError("an expression is neither true nor false before it runs: use & for and, | for or, ~ for not")

    def _binary(self, operator: str, other: object) -> Expr:
        return Expr(self._native.binary(operator, native_value(other)))

    def _reflected(self, operator: str, other: object) -> Expr:
        return Expr(native_value(other).binary(operator, self._native))

    def __add__(self, other: object) -> Expr:
        return self._binary("+", other)

    def __radd__(self, other: object) -> Expr:
        return self._reflected("+", other)

    def __sub__(self, other: object) -> Expr:
        return self._binary("-", other)

    def __rsub__(self, other: object) -> Expr:
        return self._reflected("-", other)

    def __mul__(self, other: object) -> Expr:
        return self._binary("*", other)

    def __rmul__(self, other: object) -> Expr:
        return self._reflected("*", other)

    def __truediv__(self, other: object) -> Expr:
        return self._binary("/", other)

    def __rtruediv__(self, other: object) -> Expr:
        return self._reflected("/", other)

    def __mod__(self, other: object) -> Expr:
        return self._binary("%", other)

    def __rmod__(self, other: object) -> Expr:
        return self._reflected("%", other)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return self._binary("=", other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return self._binary("!=", other)

    def __lt__(self, other: object) -> Expr:
        return self._binary("<", other)

    def __le__(self, other: object) -> Expr:
        return self._binary("<=", other)

    def __gt__(self, other: object) -> Expr:
        return self._binary(">", other)

    def __ge__(self, other: object) -> Expr:
        return self._binary(">=", other)

    def __and__(self, other: object) -> Expr:
        return self._binary("and", other)

    def __rand__(self, other: object) -> Expr:
        return self._reflected("and", other)

    def __or__(self, other: object) -> Expr:
        return self._binary("or", other)

    def __ror__(self, other: object) -> Expr:
        return self._reflected("or", other)

    def __invert__(self) -> Expr:
        return Expr(self._native.invert())

    def __neg__(self) -> Expr:
        return Expr(self._native.negate())

    def alias(self, name: str) -> Expr:
        """The same values in a column called `name`."""
        return Expr(self._native.alias(name))

    def is_null(self) -> Expr:
        """Whether there is no value."""
        return Expr(self._native.is_null())

    def is_not_null(self) -> Expr:
        """Whether there is a value."""
        return Expr(self._native.is_not_null())

    def cast(self, to: object, *, or_null: bool = False) -> Expr:
        """As another type: a name of SQL, a Python type, or an Arrow type.

        What does not fit is an error, or null with `or_null`.

        >>> import millstream as ms
        >>> ms.sql("select '12' as n").select(ms.col("n").cast("decimal(6, 2)")).schema.types
        [Decimal128Type(decimal128(6, 2))]
        """
        return Expr(self._native.cast(sql_type(to), or_null))

    def like(self, pattern: str | Expr, *, ignore_case: bool = False, negated: bool = False) -> Expr:
        """Whether a text is like `pattern`, in which `%` is any text and `_` any character."""
        return Expr(self._native.like(native_value(pattern), ignore_case, negated))

    def between(self, low: object, high: object) -> Expr:
        """Whether a value is neither below `low` nor above `high`."""
        return Expr(self._native.between(native_value(low), native_value(high)))

    def is_in(self, values: Iterable[object]) -> Expr:
        """Whether a value is one of `values`."""
        return Expr(self._native.is_in([native_value(v) for v in values]))

    def asc(self, *, nulls_first: bool = False) -> SortKey:
        """Smallest first, nulls last: a key of `Table.sort`."""
        return SortKey(self._native.sort(True, nulls_first))

    def desc(self, *, nulls_first: bool = True) -> SortKey:
        """Largest first, nulls first: a key of `Table.sort`."""
        return SortKey(self._native.sort(False, nulls_first))


class SortKey:
    """A key of `Table.sort`: an expression and its direction."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.SortKey) -> None:
        self._native = native

    def __repr__(self) -> str:
        return str(self._native)


class Case:
    """Values by conditions, made by `when`; the first that is true counts."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Case) -> None:
        self._native = native

    def when(self, condition: Expr, value: object) -> Case:
        """One more condition, asked where none before is true, and its value."""
        return Case(self._native.when(condition._native, native_value(value)))

    def otherwise(self, value: object = None) -> Expr:
        """The value where no condition is true."""
        return Expr(self._native.end(None if value is None else native_value(value)))


def col(name: str) -> Expr:
    """The column of exactly this name, upper and lower case included.

    >>> import millstream as ms
    >>> ms.sql('select 1 as "Total Price"').select(ms.col("Total Price") + 1).fetchall()
    [(2,)]
    """
    return Expr(_native.col(name))


def lit(value: object) -> Expr:
    """A value: whatever pyarrow knows a type for.

    >>> import datetime, decimal
    >>> import millstream as ms
    >>> ms.lit("north"), ms.lit(None), ms.lit(decimal.Decimal("1.50")), ms.lit(datetime.date(2024, 2, 29))
    (Utf8("north"), NULL, Decimal128(1.50,3,2), Date32("2024-02-29"))
    """
    return Expr(native_value(value))


def call(name: str, *arguments: object) -> Expr:
    """A call of any function of SQL, scalar or aggregate. A text is a text here: columns are `col`.

    >>> import millstream as ms
    >>> ms.sql("select 'a-b' as s").select(ms.call("split_part", ms.col("s"), "-", 2).alias("b")).fetchall()
    [('b',)]
    """
    return Expr(_native.call(name, [native_value(a) for a in arguments]))


def when(condition: Expr, value: object) -> Case:
    """Values by conditions: CASE in SQL.

    >>> import millstream as ms
    >>> numbers = ms.sql("select * from (values (1), (5)) t(n)")
    >>> size = ms.when(ms.col("n") > 3, "large").otherwise("small")
    >>> numbers.select("n", size=size).sort("n").fetchall()
    [(1, 'small'), (5, 'large')]
    """
    return Case(_native.when(condition._native, native_value(value)))


def asc(key: Column) -> SortKey:
    """Smallest first, nulls last: a key of `Table.sort`."""
    return column(key).asc()


def desc(key: Column) -> SortKey:
    """Largest first, nulls first: a key of `Table.sort`."""
    return column(key).desc()


def column(of: Column) -> Expr:
    """What stands where a column is asked for: a text is a name, any other value a value."""
    return col(of) if isinstance(of, str) else lit(of)


def native_value(of: object) -> _native.Expr:
    """What stands where a value is asked for."""
    if isinstance(of, Expr):
        return of._native
    if isinstance(of, Case):
        return of.otherwise()._native
    simple = _native.literal(of)
    if simple is not None:
        return simple
    import pyarrow as pa

    try:
        # Beyond 63 bits an integer is an unsigned one.
        return _native.literal_of(pa.array([of], pa.uint64() if type(of) is int else None))
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise _native.InvalidError(f"a value of type {type(of).__name__} has no type in Arrow: {error}") from error


def sql_type(of: object) -> object:
    """A type's name in SQL, or an Arrow type."""
    try:
        return _TYPES.get(of, of)
    except TypeError:
        return of
