"""One peer engine behind the line protocol of `millstream bench SUITE --serve`. Runs in the peers' own Python.

    peer.py ENGINE --suite DIR --data DIR --storage parquet|memory --threads N [--variant V]

Reads lines `q1` or `q1 /path/to/result.parquet` and answers each with one line of JSON:
{"id", "ms", "rows", "error"}. `ms` runs from the SQL text to the last row as Arrow. With a path the rows are
stored there afterwards, outside the time. Ends when its input ends.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path


class DuckDb:
    def __init__(self, tables, data, storage, threads, variant):
        import duckdb

        self.connection = duckdb.connect()
        self.connection.sql(f"set threads = {threads}")
        # The others keep the metadata of a file as well.
        self.connection.sql("set parquet_metadata_cache = true")
        kind = "table" if storage == "memory" else "view"
        for table in tables:
            path = quoted(data / f"{table}.parquet")
            self.connection.sql(f"create {kind} {table} as select * from read_parquet({path})")

    def run(self, sql):
        return self.connection.sql(sql).to_arrow_table()


class Polars:
    def __init__(self, tables, data, storage, threads, variant):
        import polars

        assert polars.thread_pool_size() == threads, "POLARS_MAX_THREADS was not heeded"
        self.engine = variant or "streaming"
        read = polars.read_parquet if storage == "memory" else polars.scan_parquet
        frames = {table: read(data / f"{table}.parquet") for table in tables}
        self.context = polars.SQLContext(frames, eager=False)

    def run(self, sql):
        return self.context.execute(sql).collect(engine=self.engine).to_arrow()


class DataFusion:
    def __init__(self, tables, data, storage, threads, variant):
        from datafusion import SessionConfig, SessionContext

        config = SessionConfig().with_target_partitions(threads)
        pushdown = "true" if variant == "pushdown" else "false"
        config = config.set("datafusion.execution.parquet.pushdown_filters", pushdown)
        config = config.set("datafusion.execution.parquet.reorder_filters", pushdown)
        self.context = SessionContext(config)
        for table in tables:
            path = data / f"{table}.parquet"
            if storage == "memory":
                batches = SessionContext(config).read_parquet(str(path)).collect()
                self.context.register_record_batches(table, partitions(batches, threads))
            else:
                self.context.register_parquet(table, str(path))

    def run(self, sql):
        return self.context.sql(sql).to_arrow_table()


class Millstream:
    """Through its Python package (engine/python)."""

    def __init__(self, tables, data, storage, threads, variant):
        import millstream

        self.session = millstream.Session(threads=threads)
        for table in tables:
            self.session.register(table, data / f"{table}.parquet")
            if storage == "memory":
                self.session.cache(table)

    def run(self, sql):
        return self.session.sql(sql).to_arrow()


ENGINES = {"duckdb": DuckDb, "polars": Polars, "datafusion": DataFusion, "millstream-python": Millstream}


def quoted(path):
    return "'" + str(path).replace("'", "''") + "'"


def partitions(batches, count):
    """The batches in `count` runs of neighbours."""
    size = -(-len(batches) // count) if batches else 1
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def store(table, path):
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def answer(engine, queries, line):
    """Runs the query that one line of input asks for."""
    query, _, path = line.partition(" ")
    reply = {"id": query, "ms": None, "rows": None, "error": None}
    try:
        sql = queries[query]
        start = time.perf_counter()
        table = engine.run(sql)
        reply["ms"] = (time.perf_counter() - start) * 1e3
        reply["rows"] = table.num_rows
        if path:
            store(table, path)
    except BaseException as error:  # pyo3's panics are no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        reply["error"] = f"{type(error).__name__}: {error}".strip()
    return reply


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--storage", choices=["parquet", "memory"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", default="")
    arguments = parser.parse_args()
    suite = json.loads((arguments.suite / "suite.json").read_text())
    queries = {query["id"]: (arguments.suite / f"{query['id']}.sql").read_text() for query in suite["queries"]}
    # What an engine prints must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = ENGINES[arguments.engine](
        suite["tables"], arguments.data, arguments.storage, arguments.threads, arguments.variant
    )
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(answer(engine, queries, line.strip())), file=replies, flush=True)


if __name__ == "__main__":
    main()
