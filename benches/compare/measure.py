"""Runs the queries on all engines, interleaved, so that drift of the machine hits all alike."""

import statistics
import sys


def geomean(values):
    return statistics.geometric_mean(values) if values else None


def choose_variant(candidates, queries, say):
    """The engine of one peer whose setting has the better geometric mean over the queries; the others are stopped."""
    if len(candidates) == 1:
        return candidates[0]
    best = {candidate: {} for candidate in candidates}
    for query in queries:
        for attempt in range(3):
            for candidate in candidates:
                reply = candidate.ask(query)
                # The first attempt is the warm-up.
                if attempt > 0 and reply["error"] is None:
                    best[candidate][query] = min(reply["ms"], best[candidate].get(query, float("inf")))
    # Fewest failures first, then the geometric mean over what every candidate can run.
    common = [query for query in queries if all(query in times for times in best.values())]
    means = {candidate: geomean([best[candidate][query] for query in common]) or 0.0 for candidate in candidates}
    chosen = min(candidates, key=lambda candidate: (-len(best[candidate]), means[candidate]))
    for candidate in candidates:
        say(f"{candidate.label} {candidate.variant}: {means[candidate]:.1f} ms" + " (chosen)" * (candidate is chosen))
        if candidate is not chosen:
            candidate.stop()
    chosen.peak_rss_mb = 0.0
    return chosen


def warm_up(engines, queries, results, check):
    """Runs every query on every engine and then once more to store its rows under `results`.

    `check(query)` is called when all engines have stored theirs. Returns two dictionaries, label -> query -> error: of running it, and of storing its rows.
    """
    errors = {engine.label: {} for engine in engines}
    unstored = {engine.label: {} for engine in engines}
    for number, query in enumerate(queries):
        for engine in rotated(engines, number):
            _progress("warm-up", query, engine.label)
            errors[engine.label][query] = engine.ask(query)["error"]
            if errors[engine.label][query] is None:
                reply = engine.ask(query, result_file(results, engine.label, query))
                unstored[engine.label][query] = reply["error"]
        _progress("check", query)
        check(query)
    for engine in (engine for engine in engines if engine.died):
        # Its new process is cold again.
        for query in queries:
            if errors[engine.label][query] is None:
                errors[engine.label][query] = engine.ask(query)["error"]
    _progress()
    return errors, unstored


def result_file(results, label, query):
    return results / f"{label}-{query}.parquet"


def rounds(engines, queries, iterations, errors):
    """Measures what did not fail in the warm-up: query by query, engine by engine, `iterations` times around.

    Returns label -> query -> {median_ms, runs_ms, rows, error, peak_rss_mb, cpu_s}.
    """
    replies = {engine.label: {query: [] for query in queries} for engine in engines}
    for engine in engines:
        engine.peak_rss_mb = 0.0
    for iteration in range(iterations):
        for number, query in enumerate(queries):
            for engine in rotated(engines, iteration + number):
                if errors[engine.label][query] is None:
                    reply = engine.ask(query)
                    errors[engine.label][query] = reply["error"]
                    replies[engine.label][query].append(reply)
                    _progress(f"round {iteration + 1} of {iterations}", query, engine.label)
    _progress()
    return {
        label: {query: summary(of_query[query], errors[label][query]) for query in queries}
        for label, of_query in replies.items()
    }


def summary(replies, error):
    """What is reported of the runs of one query on one engine."""
    if error is not None or not replies:
        return {"median_ms": None, "runs_ms": [], "rows": None, "error": error, "peak_rss_mb": None, "cpu_s": None}
    runs = [round(reply["ms"], 3) for reply in replies]
    return {
        "median_ms": statistics.median(runs),
        "runs_ms": runs,
        "rows": replies[-1]["rows"],
        "error": None,
        "peak_rss_mb": round(max(reply["peak_rss_mb"] for reply in replies), 1),
        "cpu_s": round(statistics.median(reply["cpu_s"] for reply in replies), 4),
    }


def rotated(engines, by):
    """The engines in an order that starts with another one each time."""
    start = by % len(engines)
    return engines[start:] + engines[:start]


def ratios(ours, theirs):
    """Query -> ours / theirs, where both have a time."""
    return {
        query: ours[query]["median_ms"] / theirs[query]["median_ms"]
        for query in ours
        if ours[query]["median_ms"] and theirs.get(query, {}).get("median_ms")
    }


def halves(measured):
    """The runs of one engine as two: those of even and those of odd rounds."""
    parts = []
    for first in (0, 1):
        runs = {query: of_query["runs_ms"][first::2] for query, of_query in measured.items()}
        parts.append({query: {"median_ms": statistics.median(ms) if ms else None} for query, ms in runs.items()})
    return parts


def spread(first, second, kind):
    """How far two measurements of the same thing lie apart: what differs by less is noise."""
    by_query = ratios(first, second)
    if not by_query:
        return None
    worst = max(by_query, key=lambda query: max(by_query[query], 1 / by_query[query]))
    return {
        "kind": kind,
        "geomean_ratio": round(geomean(list(by_query.values())), 4),
        "worst_query": worst,
        "worst_ratio": round(by_query[worst], 4),
        "median_deviation": round(statistics.median(max(r, 1 / r) - 1 for r in by_query.values()), 4),
    }


def _progress(*words):
    if sys.stderr.isatty():
        print("\r\x1b[K" + " ".join(words), end="", file=sys.stderr, flush=True)
