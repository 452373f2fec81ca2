"""Draws a comparison: `plot.py REPORT.json PLOT.png`. Runs in the peers' own Python (matplotlib)."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)


def main(report_path, plot_path):
    report = json.loads(Path(report_path).read_text())
    ours = report["millstream"] is not None
    summaries = ({"millstream": report["millstream"]} if ours else {}) | report["peers"]
    queries = [query["id"] for query in report["queries"]]
    groups = [*queries, "geomean"]
    figure, axes = plt.subplots(figsize=(max(8, 0.6 * len(groups)), 5), layout="constrained")
    width = 0.8 / len(summaries)
    for number, (label, summary) in enumerate(summaries.items()):
        of_queries = [query if label == "millstream" else query["peers"][label] for query in report["queries"]]
        heights = [query["median_ms"] or 0 for query in of_queries] + [summary["geomean_ms"] or 0]
        places = [group + (number - (len(summaries) - 1) / 2) * width for group in range(len(groups))]
        axes.bar(places, heights, width, label=label, zorder=2)
    axes.set_xticks(range(len(groups)), groups, rotation=45 if len(groups) > 12 else 0)
    axes.set_yscale("log")
    axes.set_ylabel("ms, median (log scale)")
    axes.set_title(f"{report['suite']} at scale {report['scale']}: {report['storage']}, {report['threads']} threads")
    axes.grid(axis="y", alpha=0.3, zorder=1)
    axes.legend(ncols=min(6, len(summaries)), fontsize="small")
    figure.savefig(plot_path, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:3])
