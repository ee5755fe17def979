"""Which of redis-py's tests a daemon without a Redis fails by design, and why. A list to be kept exact: `redis_py.py` fails if
one of these passes, if a row concerns no test, and if a test fails that no row names."""

import re

# Of a test's name without its parameters, as `test_commands.py::TestRedisCommands::test_xadd`.
_COMMANDS = r"test_commands.py::TestRedisCommands::test_"

# Of a test's name, the whole of it -> why it fails.
ROWS = [
    (_COMMANDS + r"x(?!\w+_(negative|validation)$)\w+", "streams"),
    (r"test_commands.py::TestAsyncXreadXreadgroupMetricsExport::\w+", "streams"),
    (_COMMANDS + r"geo(?!\w+_(negative|invalid_\w+)$)\w+", "geo commands"),
    (_COMMANDS + r"acl_(deluser|dryrun|genpass|help|list|setuser\w+)", "users"),
    (_COMMANDS + r"client_kill_filter_by_user", "users"),
    (_COMMANDS + r"auth", "users, and a password that CONFIG SET changes"),
    (_COMMANDS + r"(bgsave|replicaof)", "persistence and replication"),
    (_COMMANDS + r"(dump_and_restore\w*|restore\w*)", "values in the form of Redis's files"),
    (r"test_monitor.py::TestMonitor::\w+", "MONITOR"),
    (r"test_pipeline.py::TestPipeline::test_watch_(exec_no_unwatch|reset_unwatch)", "MONITOR"),
    (_COMMANDS + r"client_(pause|pause_all|unpause|tracking)", "CLIENT PAUSE and TRACKING"),
    (_COMMANDS + r"slowlog_get\w*", "a slow log: that of the engine is always empty"),
    (_COMMANDS + r"command_list", "it counts on more than 300 commands"),
]


def plain_name(test):
    """Without the folder and without parameters: the same for the asyncio suite."""
    return re.sub(r"\[.*\]$", "", test).replace("test_asyncio/", "").replace("tests/", "", 1)


def row_of(test):
    """The row that concerns a test, or None."""
    name = plain_name(test)
    return next((row for row in ROWS if re.fullmatch(row[0], name)), None)


def inexact(direct, embedded):
    """What is wrong with the list, as lines. `direct` and `embedded`: the tests that passed, of all suites together."""
    wrong = [f"listed as needing a Redis, yet it passes: {test}" for test in sorted(embedded) if row_of(test)]
    met = {row_of(test) for test in direct}
    return wrong + [f"listed, but no test has this name: {row[0]}" for row in ROWS if row not in met]
