"""DuckDB's judgement of what a stream left behind: windows.py FOLDER

FOLDER/in has bids, FOLDER/out their count and greatest price by auction in windows of ten seconds every two.
"""

import sys
from pathlib import Path

import duckdb

WIDTH, SLIDE = 10_000, 2_000

folder = Path(sys.argv[1])
con = duckdb.connect()
con.execute(f"create view bids as select auction, price, epoch_ms(date_time) as ms from '{folder}/in/*.parquet'")
con.execute(
    f"""create table expected as
        select (ms // {SLIDE} - i) * {SLIDE} as start, auction, count(*) as bids, max(price) as price
        from bids, range({WIDTH // SLIDE}) r(i) group by all"""
)
con.execute(
    f"""create table got as
        select epoch_ms(window_start) as start, auction, bids, price from '{folder}/out/*.parquet'"""
)
count = lambda query: con.execute(f"select count(*) from ({query})").fetchone()[0]  # noqa: E731
bids, rows = count("from bids"), count("from got")
# As multisets: a row that came twice is a difference.
missing, others = count("from expected except all from got"), count("from got except all from expected")
print(f"DuckDB {duckdb.__version__}: {bids} bids, {rows} rows, {missing} missing, {others} wrong or doubled")
sys.exit(0 if rows > 0 and missing == 0 and others == 0 else 1)
