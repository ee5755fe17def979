#!/usr/bin/env bash
# What a person at a terminal does with redis-cli -c before a cluster, RESP2 and RESP3. Run by sessions.py, which names the port
# in SESSION_PORT. Ends with a line `N passed, N failed`.
set -uo pipefail

passed=0
failed=0

# check NAME EXPECTED ACTUAL
check() {
    if [[ $2 == "$3" ]]; then
        ((passed += 1))
        echo "ok $protocol: $1"
    else
        ((failed += 1))
        printf 'not ok %s: %s\n  expected: %q\n  got:      %q\n' "$protocol" "$1" "$2" "$3"
    fi
}

cli() { redis-cli -c -p "$SESSION_PORT" "$protocol" "$@"; }

answers() {
    check "CLUSTER KEYSLOT" 12739 "$(cli CLUSTER KEYSLOT 123456789)"
    check "CLUSTER INFO" 1 "$(cli CLUSTER INFO | grep -c '^cluster_state:ok')"
    check "all slots have a node" 16384 "$(cli CLUSTER NODES | tr ' ' '\n' | awk -F- '
        /^[0-9]+-[0-9]+\r?$/ { sum += $2 - $1 + 1 } END { print sum }')"
    check "CLUSTER MYID is in CLUSTER NODES" 1 "$(cli CLUSTER NODES | grep -c "^$(cli CLUSTER MYID) .*myself")"
    check "CLUSTER SLOTS" $'0\n16383' "$(cli CLUSTER SLOTS | awk '/^[0-9]+$/ && ($1 < 1 || $1 == 16383)' | sort -nu)"
}

reads_and_writes() {
    for key in a b c d e f; do printf 'SET %s %s\nGET %s\nGET %s\n' "$key" "$key" "$key" "$key"; done >"$place/commands"
    check "keys of all slots over one connection" "$(for key in a b c d e f; do printf 'OK\n%s\n%s\n' "$key" "$key"; done)" \
        "$(cli <"$place/commands" | grep -v '^-> Redirected')"
    check "MULTI and EXEC" $'OK\nQUEUED\nQUEUED\nOK\na' "$(printf 'MULTI\nSET {t}x a\nGET {t}x\nEXEC\n' | cli | grep -v '^-> Redirected')"
    check "a script" 7 "$(cli EVAL 'return redis.call("INCRBY", KEYS[1], ARGV[1])' 1 by 7 | tail -n 1)"
    check "--pipe" "errors: 0, replies: 6" "$(for key in a b c d e f; do printf 'SET {t}%s 1\r\n' "$key"; done | redis-cli -p "$SESSION_PORT" --pipe | tail -n 1)"
}

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for protocol in -2 -3; do
    cli FLUSHALL >/dev/null
    for part in answers reads_and_writes; do "$part"; done
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
