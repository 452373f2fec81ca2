"""Checks the results of all engines with the one comparator, `millstream-verify`.

Each is compared with the committed answer of the scale. Where there is none, with the result of one engine, the
reference: DuckDB if it ran, so that all are compared with each other.
"""

import subprocess

from measure import result_file

NO_RESULT = "no result was stored"
_WRONG, _NO_ANSWER = 1, 3


def verdicts(verify, suite, scale, engines, queries, results):
    """Label -> query -> (True | False | None, why). None: no result, or it is itself the reference."""
    labels = sorted((engine.label for engine in engines), key=lambda label: label != "duckdb")
    checked = {label: {} for label in labels}
    for query in queries:
        files = {label: result_file(results, label, query) for label in labels}
        present = [label for label in labels if files[label].exists()]
        for label in labels:
            checked[label][query] = (None, NO_RESULT)
        reference = None
        for label in present:
            verdict = _verify(verify, suite, query, files[label], "--scale", scale)
            if verdict is None:
                reference = reference or _reference(present)
                if label == reference:
                    verdict = (None, "it is the reference")
                else:
                    verdict = _verify(verify, suite, query, files[label], "--expected", files[reference])
                    verdict = (verdict[0], f"{verdict[1]} (compared with {reference})")
            checked[label][query] = verdict
    return checked


def _reference(present):
    """A peer rather than Millstream; labels come with DuckDB first."""
    return next((label for label in present if not label.startswith("millstream")), present[0])


def _verify(verify, suite, query, result, option, value):
    """(right, what differs), or None when no answer is committed for the scale."""
    command = [str(part) for part in (verify, suite, query, result, option, value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == _NO_ANSWER:
        return None
    if done.returncode in (0, _WRONG):
        return done.returncode == 0, done.stdout.strip()
    return False, f"the comparator failed: {done.stderr.strip()}"
