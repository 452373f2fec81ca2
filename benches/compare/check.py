"""Checks the results of all engines with the one comparator, `millstream-verify`.

Each is compared with the committed answer of the scale. Where there is none, with the result of one engine, the
reference: DuckDB if it ran, so that all are compared with each other.
"""

import subprocess

from measure import result_file

NO_RESULT = "no result was stored"
_WRONG, _NO_ANSWER = 1, 3


class Verdicts:
    """`of`: label -> query -> (True | False | None, why). None: no result, or it is itself the reference."""

    def __init__(self, verify, suite, scale, engines, results):
        self.command = [verify, suite]
        self.scale = scale
        self.results = results
        # DuckDB first: it is the reference.
        self.labels = sorted((engine.label for engine in engines), key=lambda label: label != "duckdb")
        self.of = {label: {} for label in self.labels}

    def check(self, query):
        """Checks the results of a query that the engines have stored, and deletes them."""
        files = {label: result_file(self.results, label, query) for label in self.labels}
        present = [label for label in self.labels if files[label].exists()]
        reference = None
        for label in self.labels:
            verdict = (None, NO_RESULT)
            if label in present:
                verdict = self._verify(query, files[label], "--scale", self.scale)
            if verdict is None:
                reference = reference or _reference(present)
                if label == reference:
                    verdict = (None, "it is the reference")
                else:
                    verdict = self._verify(query, files[label], "--expected", files[reference])
                    verdict = (verdict[0], f"{verdict[1]} (compared with {reference})")
            self.of[label][query] = verdict
        for label in present:
            files[label].unlink()

    def _verify(self, query, result, option, value):
        """(right, what differs), or None when no answer is committed for the scale."""
        command = [str(part) for part in (*self.command, query, result, option, value)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == _NO_ANSWER:
            return None
        if done.returncode in (0, _WRONG):
            return done.returncode == 0, done.stdout.strip()
        return False, f"the comparator failed: {done.stderr.strip()}"


def _reference(present):
    """A peer rather than Millstream; labels come with DuckDB first."""
    return next((label for label in present if not label.startswith("millstream")), present[0])
