"""An engine under measurement: a child process that answers one line of JSON for each query id it is sent."""

import json
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Engine:
    """Starts on first use, and again after it died. `label` is its name in the report, `name` its kind."""

    def __init__(self, label, command, environment, log, timeout_s, cpus=None, variant=""):
        self.label = label
        self.command = [str(part) for part in command]
        self.environment = environment
        self.log = Path(log)
        self.timeout_s = timeout_s
        self.cpus = cpus
        self.variant = variant
        self.child = None
        self.died = False
        self.peak_rss_mb = 0.0

    def ask(self, query, result_path=None):
        """Runs one query. The reply has id, ms, rows, error, peak_rss_mb and cpu_s; never raises for a failed query."""
        if self.child is None:
            self._start()
        line = query if result_path is None else f"{query} {result_path}"
        self._reset_peak()
        cpu_before = self._cpu_s()
        try:
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
            reply = self._reply()
        except (OSError, ValueError) as error:
            reply = {"id": query, "ms": None, "rows": None, "error": self._death(error)}
        else:
            reply["cpu_s"] = self._cpu_s() - cpu_before
            reply["peak_rss_mb"] = self._peak_mb()
            self.peak_rss_mb = max(self.peak_rss_mb, reply["peak_rss_mb"])
            if reply.get("id") != query and reply.get("error") is None:
                reply["error"] = f"answered {reply.get('id')!r} when asked for {query!r}"
        for field in ("ms", "rows", "error", "cpu_s", "peak_rss_mb"):
            reply.setdefault(field, None)
        return reply

    def stop(self):
        """Ends the child: its input ends first, then it is killed."""
        if self.child is None:
            return
        child, self.child = self.child, None
        try:
            child.stdin.close()
            child.wait(timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            child.kill()
            child.wait()
        child.stdout.close()

    def _start(self):
        cpus = self.cpus
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment,
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
            )
        self._buffer = b""

    def _reply(self):
        """The next line of the child, within the time limit."""
        deadline = time.monotonic() + self.timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ValueError(f"no answer within {self.timeout_s} s")
                read = os.read(self.child.stdout.fileno(), 65536)
                if not read:
                    raise ValueError("it ended")
                self._buffer += read
        line, self._buffer = self._buffer.split(b"\n", 1)
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError(f"no JSON object but {line[:200]!r}")
        return reply

    def _death(self, error):
        """Why the child is gone (or is about to be), with the end of what it wrote."""
        child, self.child, self.died = self.child, None, True
        if child.poll() is None:
            child.kill()
        code = child.wait()
        child.stdout.close()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        words = self.log.read_bytes()[self._log_start :].decode(errors="replace").strip().split("\n")[-1]
        return f"{self.label} died: {error} ({how})" + (f"; last words: {words[:300]}" if words else "")

    def _cpu_s(self):
        try:
            # Fields follow the name, which may hold spaces, in parentheses.
            fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def _reset_peak(self):
        """Lets VmHWM count from the present size on; where the kernel refuses, peaks are those since the start."""
        try:
            Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")
        except OSError:
            pass

    def _peak_mb(self):
        try:
            for line in Path(f"/proc/{self.child.pid}/status").read_text().split("\n"):
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        except OSError:
            pass
        return 0.0
