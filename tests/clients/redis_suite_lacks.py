"""Tests of Redis's own suite that are left out at the daemon, and why. What is left out is not run: it would leave its traces to
the tests behind it. Exact: `redis_suite.py` fails where a row is no test of the suite."""

_TOGETHER = "connections to Redis serve many clients, and carry the daemon's own name and its PINGs"
_OWN = "CLIENT commands are answered by the daemon, INFO is Redis's"
_MONITOR = "MONITOR shows also what the daemon sends by itself"
_ONE_NODE = "INFO, LATENCY, MONITOR and DEBUG are one node's"
_ANOTHER_NODE = "a script without keys keeps one node busy, and the transaction's keys are another's"
_UNNAMED = "its script reaches for a key that the call does not name: whether the node has its slot is chance"
_DUMP = "DUMP and RESTORE"
_EMPTY = "maxmemory 1: an empty keyspace counts as no memory at all"

_THROUGH = {
    "MULTI and script timeout": "MULTI needs a connection of its own, which a busy Redis does not give: the client's is closed",
    "LATENCY HISTOGRAM sub commands": _OWN,
    "CLIENT KILL SKIPME YES/NO will kill all clients": _OWN,
    "SLOWLOG - logged entry sanity check": _TOGETHER,
    "SLOWLOG - Rewritten commands are logged as their original command": _TOGETHER,
    "SLOWLOG - can clean older entries": _TOGETHER,
    "MONITOR supports redacting command arguments": _MONITOR,
    "MONITOR correctly handles multi-exec cases": _MONITOR,
}

# By system: the test's name -> why.
ROWS = {
    "direct": {},
    "through": _THROUGH,
    "cluster": _THROUGH
    | {
        "INCR can modify objects in-place": _ONE_NODE,
        "XGROUP DESTROY should unblock XREADGROUP with -NOGROUP": _ONE_NODE,
        "RESET clears client state": "CLIENT TRACKING is refused before a cluster",
        "LATENCY HISTOGRAM all commands": _ONE_NODE,
        "LATENCY HISTOGRAM with a subset of commands": _ONE_NODE,
        "LATENCY HISTOGRAM command": _ONE_NODE,
        "LATENCY HISTOGRAM with wrong command name skips the invalid one": _ONE_NODE,
        "LATENCY of expire events are correctly collected": _ONE_NODE,
        "FUNCTION - test fcall_ro with read only commands": _UNNAMED,
        "MONITOR can log executed commands": _ONE_NODE,
        "MONITOR can log commands issued by the scripting engine": _ONE_NODE,
        "MONITOR can log commands issued by functions": _ONE_NODE,
        "CONFIG sanity": "CONFIG SET reaches every node, and each has its own port",
        "command stats for GEOADD": _ONE_NODE,
        "errors stats for GEOADD": _ONE_NODE,
        "command stats for EXPIRE": _ONE_NODE,
        "command stats for BRPOP": _ONE_NODE,
        "command stats for MULTI": _ONE_NODE,
        "command stats for scripts": _ONE_NODE,
        "SETBIT/BITFIELD only increase dirty when the value changed": _ONE_NODE,
        "Redis should lazy expire keys": _ONE_NODE,
        "SCAN: Lazy-expire should not be wrapped in MULTI/EXEC": _ONE_NODE,
        "RANDOMKEY: Lazy-expire should not be wrapped in MULTI/EXEC": _ONE_NODE,
        "EVAL - Scripts can run non-deterministic commands": _UNNAMED,
        "Script check unpack with massive arguments": _UNNAMED,
        "Script read key with expiration set": _UNNAMED,
        "Script del key with expiration set": _UNNAMED,
        "Script block the time during execution": _UNNAMED,
        "Script delete the expired key": _UNNAMED,
        "SCRIPT EXISTS - can detect already defined scripts?": "nodes were sent different scripts",
        "allow-oom shebang flag": _UNNAMED,
        "not enough good replicas": _UNNAMED,
        "EXEC and script timeout": _ANOTHER_NODE,
        "MULTI-EXEC body and script timeout": _ANOTHER_NODE,
        "just EXEC and script timeout": _ANOTHER_NODE,
    },
    "alone": {
        "COPY basic usage for stream": "streams",
        "COPY basic usage for stream-cgroups": "streams",
        "MOVE basic usage": "counts keys, and those of streams that are left out would have removed some",
        "List ziplist of various encodings": _DUMP,
        "List ziplist of various encodings - sanitize dump": _DUMP,
        "Hash ziplist of various encodings": _DUMP,
        "Hash ziplist of various encodings - sanitize dump": _DUMP,
        "MOVE against key existing in the target DB": "goes on from the one before",
        "Script - disallow write on OOM": _EMPTY,
        "Consistent eval error reporting": _EMPTY,
        "EVAL - Scripts can't run XREAD and XREADGROUP with BLOCK option": "streams",
        "CLUSTER RESET can not be invoke from within a script": "cluster",
        "Script ACL check": "ACL",
        "Try trick global protection 1": "a protected metatable is refused in Lua's words",
        "Timedout read-only scripts can be killed by SCRIPT KILL": "lua-time-limit is fixed",
        "Timedout read-only scripts can be killed by SCRIPT KILL even when use pcall": "lua-time-limit is fixed",
        "Timedout script does not cause a false dead client": "lua-time-limit is fixed",
        "not enough good replicas": "replication",
        "EVAL does not leak in the Lua stack": "garbage of scripts is collected in larger steps than by Redis",
        "LUA redis.error_reply API": "statistics of errors",
        "LUA redis.error_reply API with empty string": "statistics of errors",
        "MULTI and script timeout": "lua-time-limit is fixed",
        "EXEC and script timeout": "lua-time-limit is fixed",
        "MULTI-EXEC body and script timeout": "lua-time-limit is fixed",
        "just EXEC and script timeout": "lua-time-limit is fixed",
        "Blocking commands ignores the timeout": "streams",
        "MULTI with SAVE": "persistence",
        "MULTI with SHUTDOWN": "persistence",
    },
}


def skipped(system):
    return list(ROWS[system])
