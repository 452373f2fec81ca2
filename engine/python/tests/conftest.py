"""What tests share: a session, and TPC-H at scale 0.01."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import millstream as ms

# What a shell starts in the background ignores Ctrl-C, and so would the tests of it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def session() -> ms.Session:
    return ms.Session(threads=2)


@pytest.fixture(scope="session")
def tpch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tables, as the command line writes them."""
    folder = tmp_path_factory.mktemp("tpch")
    millstream = Path(os.environ["CARGO_TARGET_DIR"]) / "release" / "millstream"
    command: list[str | Path] = [millstream, "generate", "tpch", "--scale", "0.01", "--out", folder]
    subprocess.run(command, check=True, capture_output=True)
    return folder
