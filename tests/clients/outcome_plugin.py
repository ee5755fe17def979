"""A pytest plugin that writes one line per test, `["node id", "outcome"]`, as soon as the test has ended, so that a run that
hangs or crashes still tells what passed. Loaded with `-p outcome_plugin`; OUTCOMES_FILE names the file.

It also keeps redis-py's suite from tracing every allocation, which took 60 % of the processor time and made the tests that
have a fraction of a second fail on a busy machine. No test reads the traces."""

import json
import os
import tracemalloc

tracemalloc.start = lambda *_: None

_ended = {}
_file = open(os.environ["OUTCOMES_FILE"], "w", encoding="utf-8", buffering=1)


def pytest_runtest_logreport(report):
    # A test has three reports: set-up, call and tear-down. It passed if its call passed and the other two did not fail.
    if report.failed:
        _ended[report.nodeid] = "failed"
    elif report.skipped:
        _ended.setdefault(report.nodeid, "skipped")
    elif report.when == "call":
        _ended.setdefault(report.nodeid, "passed")
    if report.when == "teardown":
        json.dump([report.nodeid, _ended.pop(report.nodeid, "failed")], _file)
        _file.write("\n")
