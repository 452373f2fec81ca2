#!/usr/bin/env bash
# Runs a Python program with DuckDB at hand: tests/servers/duckdb.sh PROGRAM ARGUMENT...
set -euo pipefail
servers="$HOME/.cache/millstream/servers"
if ! "$servers/bin/python" -c "import duckdb, pytz" 2>/dev/null; then
    python3 -m venv "$servers"
    "$servers/bin/pip" install --quiet "duckdb>=1.4" pytz >&2
fi
exec "$servers/bin/python" "$@"
