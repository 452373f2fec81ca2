"""Sessions, and the one that is there without asking."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from millstream import _native
from millstream._expressions import sql_type
from millstream._table import Table, option_texts

if TYPE_CHECKING:
    import pyarrow as pa

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


class Cached(NamedTuple):
    """What a table in memory holds."""

    rows: int
    bytes: int


class Session:
    """A catalog of tables, settings, and the threads that queries run on. Python threads may share it.

    A fork of the process leaves the threads behind: make a session in the child, or have `multiprocessing` use
    `spawn` or `forkserver`.

    >>> import millstream as ms
    >>> session = ms.Session(threads=2, memory_limit="1GB")
    >>> session.sql("select 1 + 1 as two").fetchall()
    [(2,)]
    """

    __slots__ = ("_native",)

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory_limit: int | str | None = None,
        device: str = "auto",
        stages: bool = True,
        stores: Mapping[str, str] | None = None,
    ) -> None:
        """`threads`: as many as there are processors where none is said. `memory_limit`: what queries may hold, in bytes or
        as a text (`"4GB"`). `device`: `auto`, `cpu` or `gpu`. `stages`: without them, stock DataFusion answers, for
        comparison. `stores`: credentials and endpoints of object stores, by the names of environment variables
        (`AWS_REGION`, ...), which are read too.
        """
        limit = None if memory_limit is None else _bytes(memory_limit)
        self._native = _native.Session(threads, limit, device, stages, list((stores or {}).items()))

    @property
    def threads(self) -> int:
        """CPU threads of a query."""
        return self._native.threads

    def sql(self, query: str) -> Table:
        """The table that a SQL query is. Statements that define or write something do so at once.

        >>> import millstream as ms
        >>> session = ms.Session()
        >>> created = session.sql("create table t as select * from (values (1), (2)) v(a)")
        >>> session.sql("select sum(a) as a from t").fetchall()
        [(3,)]
        """
        table = self._native.sql(query)
        if table.writes:
            table = self._native.read_batches(table.collect())
        return Table(table)

    def table(self, name: str) -> Table:
        """The registered table `name`."""
        return Table(self._native.table(name))

    def tables(self) -> list[str]:
        """Names of the registered tables."""
        return self._native.tables()

    def register(self, name: str, source: object, **reading: Any) -> None:
        """Makes `source` the table `name`; a table of this name is replaced.

        A path, a pattern or a URL is its files, read by each query anew; options are those of `read_csv` and its like, and
        `format` for an ending that does not say. A `Table` becomes a view. Whatever has Arrow data (pyarrow, polars, pandas, a
        DuckDB relation) is held as it is now, without a copy; a dictionary of lists is copied.

        >>> import millstream as ms
        >>> session = ms.Session()
        >>> session.register("t", {"a": [1, 2, 3]})
        >>> session.register("large", session.sql("select * from t where a > 1"))
        >>> session.sql("select count(*) as n from large").fetchall()
        [(2,)]
        """
        if isinstance(source, (str, os.PathLike)):
            return self._native.register_path(name, os.fspath(source), _reading(**reading))
        if reading:
            raise _native.InvalidError(f"{', '.join(reading)}: options are for files")
        if isinstance(source, Table):
            return self._native.register_view(name, source._native)
        return self._native.register_batches(name, _arrow(source))

    def register_stream(self, name: str, source: object) -> None:
        """Makes an Arrow stream (a `pyarrow.RecordBatchReader`, ...) the table `name`. It is read while a query runs, once: a
        second query over it fails and says so."""
        self._native.register_stream(name, source)

    def deregister(self, name: str) -> bool:
        """Lets go of a table; says whether there was one."""
        return self._native.deregister(name)

    def from_arrow(self, source: object) -> Table:
        """Arrow data as a table without a name, as `register` takes it."""
        return Table(self._native.read_batches(_arrow(source)))

    def read_parquet(self, path: str | os.PathLike[str], **reading: Any) -> Table:
        """The rows of Parquet files: a path, a folder with `/` at its end, a pattern or a URL.

        `partition_by` has the types of columns that folders `name=value` are, `schema` those in the files; where they are
        not given they are found out.
        """
        return self._read(path, "parquet", reading)

    def read_csv(self, path: str | os.PathLike[str], **reading: Any) -> Table:
        """The rows of CSV files. Options are `delimiter`, `has_header`, `quote`, `escape`, `comment`, `compression`, ..., and
        `schema` and `partition_by` as in `read_parquet`.

        >>> import millstream as ms, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "sales.txt"
        >>> path.write_text("north;3")
        7
        >>> ms.read_csv(path, delimiter=";", has_header=False, schema={"shop": str, "n": "smallint"}).fetchall()
        [('north', 3)]
        """
        return self._read(path, "csv", reading)

    def read_json(self, path: str | os.PathLike[str], **reading: Any) -> Table:
        """The rows of JSON files: an object a line, or one array."""
        return self._read(path, "json", reading)

    def read_arrow(self, path: str | os.PathLike[str], **reading: Any) -> Table:
        """The rows of Arrow IPC files."""
        return self._read(path, "arrow", reading)

    def read_avro(self, path: str | os.PathLike[str], **reading: Any) -> Table:
        """The rows of Avro files."""
        return self._read(path, "avro", reading)

    def _read(self, path: str | os.PathLike[str], kind: str, reading: Mapping[str, Any]) -> Table:
        return Table(self._native.read(os.fspath(path), _reading(format=kind, **reading)))

    def cache(self, name: str) -> Cached:
        """Loads a table into memory, in the engine's own narrow types; queries read it there until `uncache`.

        >>> import millstream as ms
        >>> session = ms.Session()
        >>> session.register("t", {"a": [1, 2, 3]})
        >>> session.cache("t").rows
        3
        """
        return Cached(*self._native.cache(name))

    def uncache(self, name: str) -> None:
        """Lets go of the memory of a cached table; queries read its source again."""
        self._native.uncache(name)


def _reading(
    *,
    format: str | None = None,
    schema: Mapping[str, object] | pa.Schema | None = None,
    partition_by: Mapping[str, object] | None = None,
    **options: object,
) -> dict[str, Any]:
    return {
        "format": format,
        "options": option_texts(options),
        "schema": None if schema is None else _typed(schema),
        "partition_by": None if partition_by is None else _typed(partition_by),
    }


def _typed(columns: Mapping[str, object] | pa.Schema) -> list[tuple[str, object]]:
    """Columns from names and types, or from a pyarrow schema."""
    pairs = columns.items() if isinstance(columns, Mapping) else [(field.name, field.type) for field in columns]
    return [(name, sql_type(kind)) for name, kind in pairs]


def _arrow(source: object) -> object:
    if isinstance(source, Mapping):
        import pyarrow as pa

        return pa.table(source)
    return source


def _bytes(text: int | str) -> int:
    if isinstance(text, int):
        return text
    parsed = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if parsed is None:
        raise _native.InvalidError(f"memory_limit {text!r}: give bytes, or a text like 512MB or 4GB")
    return int(float(parsed[1]) * 2 ** _UNITS[parsed[2]])


_default: Session | None = None
_default_process = 0
_lock = threading.Lock()


def default_session() -> Session:
    """The session of `sql`, `table`, `register`, `from_arrow` and the readers of this module. A forked process has another."""
    global _default, _default_process
    with _lock:
        if _default is None or _default_process != os.getpid():
            _default, _default_process = Session(), os.getpid()
        return _default


# The lock may be held by another thread while the process forks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def sql(query: str) -> Table:
    """As `Session.sql`, on the default session.

    >>> import millstream as ms
    >>> ms.sql("select 6 * 7 as answer").fetchall()
    [(42,)]
    """
    return default_session().sql(query)


def table(name: str) -> Table:
    """As `Session.table`, on the default session."""
    return default_session().table(name)


def register(name: str, source: object, **reading: Any) -> None:
    """As `Session.register`, on the default session."""
    default_session().register(name, source, **reading)


def from_arrow(source: object) -> Table:
    """As `Session.from_arrow`, on the default session."""
    return default_session().from_arrow(source)


def read_parquet(path: str | os.PathLike[str], **reading: Any) -> Table:
    """As `Session.read_parquet`, on the default session."""
    return default_session().read_parquet(path, **reading)


def read_csv(path: str | os.PathLike[str], **reading: Any) -> Table:
    """As `Session.read_csv`, on the default session."""
    return default_session().read_csv(path, **reading)


def read_json(path: str | os.PathLike[str], **reading: Any) -> Table:
    """As `Session.read_json`, on the default session."""
    return default_session().read_json(path, **reading)


def read_arrow(path: str | os.PathLike[str], **reading: Any) -> Table:
    """As `Session.read_arrow`, on the default session."""
    return default_session().read_arrow(path, **reading)


def read_avro(path: str | os.PathLike[str], **reading: Any) -> Table:
    """As `Session.read_avro`, on the default session."""
    return default_session().read_avro(path, **reading)
