"""The report of a comparison: JSON in the shape of `millstream bench --json`, and a Markdown table."""

import os
import platform
from pathlib import Path

from measure import geomean, ratios


def machine():
    """The machine, as far as it says."""
    facts = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "os": platform.platform()}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n"):
            if line.startswith("model name"):
                facts["cpu"] = line.split(":", 1)[1].strip()
                break
        memory = Path("/proc/meminfo").read_text().split("\n")[0]
        facts["memory_gb"] = round(int(memory.split()[1]) / 2**20, 1)
    except OSError:
        pass
    return facts


def as_json(run, engines, measured, checked, spread):
    """The whole comparison as one object. `run`: suite, scale, storage, threads, device, iterations, queries."""
    labels = [engine.label for engine in engines]
    peers = [label for label in labels if label != "millstream"]
    queries = []
    for query in run["queries"]:
        ours = {"id": query} | _of_query(measured, checked, "millstream", query)
        ours |= {"events_per_s": None, "latency_ms": None, "stages": [], "stock": []}
        ours["peers"] = {peer: _of_query(measured, checked, peer, query) for peer in peers}
        queries.append(ours)
    # Means and sums are over the same queries for all.
    common = [query for query in run["queries"] if all(measured[label][query]["median_ms"] for label in labels)]
    summaries = {}
    for engine in engines:
        medians = [measured[engine.label][query]["median_ms"] for query in common]
        summaries[engine.label] = {
            "variant": engine.variant or None,
            "geomean_ms": _rounded(geomean(medians)),
            "sum_ms": _rounded(sum(medians)),
            "peak_rss_mb": round(engine.peak_rss_mb, 1),
        }
    ratio = {}
    if "millstream" in measured:
        ours = {query: measured["millstream"][query] for query in common}
        ratio = {peer: _rounded(geomean(list(ratios(ours, measured[peer]).values()))) for peer in peers}
    head = {key: run[key] for key in ("suite", "scale", "storage", "threads", "device", "iterations")}
    return head | {
        "machine": machine(),
        "queries": queries,
        "queries_of_geomean": common,
        "millstream": summaries.pop("millstream", None),
        "peers": summaries,
        "geomean_ratio": ratio,
        "aa": spread,
    }


def _of_query(measured, checked, label, query):
    empty = {"median_ms": None, "runs_ms": [], "rows": None, "error": None, "peak_rss_mb": None, "cpu_s": None}
    verified = checked.get(label, {}).get(query, (None, ""))[0]
    return measured.get(label, {}).get(query, empty) | {"verified": verified}


def _rounded(value):
    return None if value is None else round(value, 4)


def markdown(report, wrong):
    """The comparison as a Markdown page. `wrong`: lines about failed queries and wrong results."""
    ours = report["millstream"] is not None
    peers = list(report["peers"])
    summaries = ({"millstream": report["millstream"]} if ours else {}) | report["peers"]
    labels = list(summaries)
    ratio_columns = [f"ours / {peer}" for peer in peers] if ours else []
    lines = [
        f"# {report['suite']} at scale {report['scale']}: {report['storage']}, {report['threads']} threads",
        "",
        f"Milliseconds from SQL text to last row, median of {report['iterations']}, one warm-up, all engines interleaved. "
        f"{report['machine']['cpu']}, {report['machine']['cores']} cores.",
        "",
        _row(["query", *labels, *ratio_columns]),
        _row(["---", *["---:"] * (len(labels) + len(ratio_columns))]),
    ]
    for query in report["queries"]:
        times = {"millstream": query["median_ms"]} | {peer: query["peers"][peer]["median_ms"] for peer in peers}
        ratio = [_ratio(times["millstream"], times[peer]) for peer in peers] if ours else []
        lines.append(_row([query["id"], *(_ms(times[label]) for label in labels), *ratio]))
    geomeans = [_bold(_ms(summaries[label]["geomean_ms"])) for label in labels]
    total = [_bold(_two(report["geomean_ratio"].get(peer))) for peer in peers] if ours else []
    lines.append(_row([_bold("geomean"), *geomeans, *total]))
    blank = [""] * len(ratio_columns)
    lines.append(_row(["sum", *(_ms(summaries[label]["sum_ms"]) for label in labels), *blank]))
    lines.append(_row(["peak RSS MB", *(f"{summaries[label]['peak_rss_mb']:.0f}" for label in labels), *blank]))
    lines += ["", *_notes(report, summaries, wrong)]
    return "\n".join(lines) + "\n"


def _notes(report, summaries, wrong):
    notes = []
    missing = len(report["queries"]) - len(report["queries_of_geomean"])
    if missing:
        notes.append(f"Geomean and sum leave out {missing} of {len(report['queries'])} queries, which some engine failed.")
    aa = report["aa"]
    if aa:
        notes.append(
            f"A/A ({aa['kind']}): geometric mean {aa['geomean_ratio']:.3f}, median deviation "
            f"{aa['median_deviation']:.1%}, worst {aa['worst_query']} {aa['worst_ratio']:.2f}. Smaller differences are noise."
        )
    settings = [f"{label}: {summary['variant']}" for label, summary in summaries.items() if summary["variant"]]
    if settings:
        notes.append("Settings, the better of each peer's: " + ", ".join(settings) + ".")
    verdicts = [query["peers"][peer]["verified"] for query in report["queries"] for peer in query["peers"]]
    verdicts += [query["verified"] for query in report["queries"]] if report["millstream"] else []
    notes.append(f"Results: {verdicts.count(True)} right, {verdicts.count(False)} wrong, {verdicts.count(None)} not checked.")
    return [line for note in [*notes, *wrong] for line in (note, "")][:-1]


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def _bold(text):
    return f"**{text}**" if text else ""


def _ms(value):
    return "failed" if value is None else f"{value:.1f}"


def _two(value):
    return "" if value is None else f"{value:.2f}"


def _ratio(ours, theirs):
    return _two(ours / theirs) if ours and theirs else ""
