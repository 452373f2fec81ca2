"""Threads, the interpreter's lock, Ctrl-C, results as they come, and forks."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

import millstream as ms

#: Runs for minutes unless it is cancelled.
LONG = "select count(*) from generate_series(1, 2000000) a(x) join generate_series(1, 2000000) b(y) on x % 1000 = y % 1000 where x * y % 7 = 3"
#: Hands out rows for minutes.
LONG_ROWS = "select x, x % 7 as y from generate_series(1, 1000000000000) a(x) where x % 3 = 1"


@pytest.fixture
def interrupted() -> Iterator[None]:
    """A Ctrl-C after 0.3 seconds."""
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.cancel()


def seconds_to_stop(session: ms.Session, started: float) -> float:
    """Time from the Ctrl-C until now; the session must answer again at once."""
    stopped = time.monotonic() - started - 0.3
    assert session.sql("select 1").fetchall() == [(1,)]
    return stopped


def test_ctrl_c_cancels_a_query(session: ms.Session, interrupted: None) -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.sql(LONG).to_arrow()
    assert 0 <= seconds_to_stop(session, started) < 0.5


def test_ctrl_c_cancels_a_loop_over_batches(session: ms.Session, interrupted: None) -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for _ in session.sql(LONG):
            pass
    assert seconds_to_stop(session, started) < 0.5


def in_process(code: str) -> list[float]:
    """The numbers that a program prints. It has `session`, and a Ctrl-C comes half a second after `started`."""
    begin = f"""
        import os, signal, threading, time
        import millstream as ms, pyarrow as pa
        session, long = ms.Session(threads=2), {LONG!r}
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
    """
    program = textwrap.dedent(begin) + textwrap.dedent(code)
    # Away from the sources, which are no package without their native half.
    folder = pathlib.Path(__file__).parent
    out = subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in out.stdout.split()]


def test_ctrl_c_cancels_what_another_library_pulls() -> None:
    # That library raises an error of its own; the Ctrl-C comes at the next step of the interpreter.
    code = """
        try:
            try:
                pa.table(session.sql(long))
            except (pa.ArrowException, OSError):
                for _ in range(1000):
                    time.sleep(0.01)
        except KeyboardInterrupt:
            print(time.monotonic() - started - 0.5)
    """
    [late] = in_process(code)
    assert late < 0.5


def test_a_cancelled_query_stops_its_threads() -> None:
    code = """
        try:
            session.sql(long).to_arrow()
        except KeyboardInterrupt:
            late = time.monotonic() - started - 0.5
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.5)
        print(late, time.process_time() - before)
    """
    late, used = in_process(code)
    assert late < 0.5 and used < 0.1


def test_leaving_a_loop_cancels(session: ms.Session) -> None:
    started = time.monotonic()
    for batch in session.sql(LONG_ROWS):
        assert batch.num_rows > 0
        break
    assert time.monotonic() - started < 5
    assert session.sql("select 1").fetchall() == [(1,)]


def test_batches_come_while_the_query_runs(session: ms.Session) -> None:
    rows = sum(batch.num_rows for batch in session.sql("select * from generate_series(1, 100000)"))
    assert rows == 100_000
    iterator = iter(session.sql("select 1 / (x - 5) from generate_series(1, 10) t(x)"))
    with pytest.raises(ms.InvalidError, match="[Dd]ivide by zero"):
        list(iterator)
    assert list(iterator) == []


def test_threads_query_at_once(session: ms.Session) -> None:
    session.register("t", {"a": list(range(100_000))})
    results: list[object] = [None] * 8

    def work(at: int) -> None:
        results[at] = session.sql(f"select sum(a) from t where a % 8 = {at}").fetchall()[0][0]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [sum(range(at, 100_000, 8)) for at in range(8)]


def test_other_threads_run_during_a_query(session: ms.Session) -> None:
    """The lock is free: while a query waits, this thread counts."""
    running = threading.Event()
    done = threading.Event()

    def query() -> None:
        running.set()
        session.sql("select sum(x % 7) from generate_series(1, 30000000) t(x)").to_arrow()
        done.set()

    thread = threading.Thread(target=query)
    thread.start()
    running.wait()
    steps = 0
    while not done.is_set():
        time.sleep(0.001)
        steps += 1
    thread.join()
    assert steps > 5


def test_one_iterator_in_two_threads(session: ms.Session) -> None:
    rows = session.sql("select * from generate_series(1, 200000)")._native.stream()
    counted = [0, 0]

    def work(at: int) -> None:
        while (batch := rows.next()) is not None:
            counted[at] += pa.record_batch(batch).num_rows

    threads = [threading.Thread(target=work, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 200_000


def test_a_query_over_python_batches_runs_python(session: ms.Session) -> None:
    """A reader whose batches are made in Python, by another query of the same session, while the query runs."""

    def batches() -> Iterator[pa.RecordBatch]:
        for at in range(5):
            yield from session.sql(f"select {at}::bigint as a").collect()

    session.register_stream("s", pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), batches()))
    assert session.sql("select sum(a) from s").fetchall() == [(10,)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_needs_a_session_of_its_own(session: ms.Session) -> None:
    assert ms.sql("select 1").fetchall() == [(1,)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                session.sql("select 1").fetchall()
            except ms.UnsupportedError as error:
                right = "forked" in str(error)
                own = ms.Session(threads=1).sql("select 2").fetchall()
                code = 0 if right and own == [(2,)] and ms.sql("select 3").fetchall() == [(3,)] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert session.sql("select 1").fetchall() == [(1,)]
