#!/usr/bin/env bash
# redis-cli's session: what a person at a terminal and a shell script do with it, RESP2 (its default) and RESP3. Run by
# sessions.py, which names the port in SESSION_PORT. Ends with a line `N passed, N failed`.
set -uo pipefail

passed=0
failed=0
place=$(mktemp -d)
background=
end_all() {
    if [[ -n $background ]]; then kill "$background" 2>/dev/null; fi
    rm -rf "$place"
}
trap end_all EXIT

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

# wait_for COMMAND...: until the command succeeds, 10 s at most. It polls, since a shell has no event to wait on.
wait_for() {
    local deadline=$((SECONDS + 10))
    until "$@"; do
        if ((SECONDS > deadline)); then
            echo "gave up waiting for: $*"
            return 1
        fi
        sleep 0.02
    done
}

cli() { redis-cli -p "$SESSION_PORT" "$protocol" "$@"; }
subscribed() { [[ $(cli --raw PUBSUB NUMSUB "$1" | tail -n 1) == 1 ]]; }
blocked() { cli INFO clients | grep -q '^blocked_clients:1'; }
contains() { grep -q "$1" "$2"; }

reads_and_writes() {
    check "SET answers OK" OK "$(cli SET greeting hello)"
    check "a read repeated by one connection" $'hello\nhello\nhello\nhello' "$(cli -r 4 GET greeting)"
    check "a read of a missing key, as a terminal shows it" "(nil)" "$(cli --no-raw GET absent)"
    check "a write by another connection is seen" $'OK\nbye' "$(cli SET greeting bye; cli GET greeting)"
    check "RPUSH counts" 3 "$(cli RPUSH list a b c)"
    check "LRANGE" $'a\nb\nc' "$(cli LRANGE list 0 -1)"
}

shapes() {
    cli HSET hash field value >/dev/null
    cli ZADD zset 1.5 member >/dev/null
    local map=$'1) "field"\n2) "value"' scores=$'1) "member"\n2) "1.5"'
    if [[ $protocol == -3 ]]; then
        map='1# "field" => "value"'
        scores=$'1) 1) "member"\n   2) (double) 1.5'
    fi
    check "HGETALL keeps its shape when repeated" "$map"$'\n'"$map"$'\n'"$map" "$(cli --no-raw -r 3 HGETALL hash)"
    check "ZRANGE keeps its shape when repeated" "$scores"$'\n'"$scores"$'\n'"$scores" \
        "$(cli --no-raw -r 3 ZRANGE zset 0 -1 WITHSCORES)"
}

values() {
    head -c 1048576 /dev/urandom | base64 -w 0 | head -c 1048576 >"$place/big"
    cli -x SET big <"$place/big" >/dev/null
    cli --raw GET big | head -c 1048576 >"$place/back"
    cli --raw GET big >/dev/null
    check "1 MiB comes back unchanged" "" "$(cmp "$place/big" "$place/back" 2>&1)"
    check "a binary key" OK "$(cli --quoted-input SET '"\x00\r\n\xff"' '"\x01\r\n"')"
    check "a binary value" '"\x01\r\n"' "$(cli --no-raw --quoted-input GET '"\x00\r\n\xff"')"
    check "--scan finds the binary key" '"\x00\r\n\xff"' \
        "$(cli --no-raw --quoted-pattern '"\x00*"' --scan | head -n 1)"
}

transactions() {
    check "MULTI and EXEC from standard input" $'OK\nQUEUED\nQUEUED\n1\n2' \
        "$(printf 'MULTI\nINCR counter\nINCR counter\nEXEC\n' | cli)"
    check "DISCARD" $'OK\nQUEUED\nOK\n2' "$(printf 'MULTI\nINCR counter\nDISCARD\nGET counter\n' | cli)"
    # The watching connection is held open through a FIFO while another one writes.
    mkfifo "$place/watcher$protocol"
    redis-cli -p "$SESSION_PORT" "$protocol" --no-raw <"$place/watcher$protocol" >"$place/watched" &
    background=$!
    exec 7>"$place/watcher$protocol"
    printf 'WATCH counter\nGET counter\n' >&7
    wait_for contains '"2"' "$place/watched"
    cli INCR counter >/dev/null
    printf 'MULTI\nSET counter lost\nEXEC\n' >&7
    exec 7>&-
    wait "$background"
    background=
    check "WATCH stops a transaction that another write overtook" $'OK\n"2"\nOK\nQUEUED\n(nil)' \
        "$(cat "$place/watched")"
    check "and the other write stands" 3 "$(cli GET counter)"
}

bulk() {
    for ((i = 0; i < 1000; i++)); do printf 'SET bulk:%d %d\r\n' "$i" "$i"; done >"$place/commands"
    check "--pipe sends a thousand commands" "errors: 0, replies: 1000" "$(cli --pipe <"$place/commands" | tail -n 1)"
    check "and they are all there" 999 "$(cli GET bulk:999)"
}

messages() {
    redis-cli -p "$SESSION_PORT" "$protocol" --raw SUBSCRIBE news >"$place/news" &
    background=$!
    wait_for subscribed news
    check "PUBLISH reaches one subscriber" 1 "$(cli PUBLISH news 'it rains')"
    wait_for contains 'it rains' "$place/news"
    check "the subscriber got the message" $'message\nnews\nit rains' "$(tail -n 3 "$place/news")"
    kill "$background"
    wait "$background" 2>/dev/null
    background=
}

blocking() {
    redis-cli -p "$SESSION_PORT" "$protocol" --raw BLPOP jobs 10 >"$place/popped" &
    background=$!
    wait_for blocked
    check "LPUSH wakes the blocked client" 1 "$(cli LPUSH jobs first)"
    wait "$background"
    background=
    check "BLPOP got the element" $'jobs\nfirst' "$(cat "$place/popped")"
    check "BLPOP that nobody wakes" "(nil)" "$(cli --no-raw BLPOP jobs 0.05)"
}

scripts() {
    check "EVAL" 7 "$(cli EVAL 'return redis.call("INCRBY", KEYS[1], ARGV[1])' 1 by 7)"
    echo 'return {KEYS[1], ARGV[1]}' >"$place/script.lua"
    check "--eval with a file" $'key\nargument' "$(cli --eval "$place/script.lua" key , argument)"
    local digest
    digest=$(cli SCRIPT LOAD 'return ARGV[1]')
    check "EVALSHA" found "$(cli EVALSHA "$digest" 0 found)"
    check "EVALSHA of an unknown digest" "NOSCRIPT No matching script. Please use EVAL." \
        "$(cli EVALSHA 0000000000000000000000000000000000000000 0)"
}

answers() {
    check "PING" PONG "$(cli PING)"
    check "an unknown command" "ERR unknown command 'NOSUCH', with args beginning with: 'a' " "$(cli NOSUCH a)"
    check "another database" $'OK\nOK\nother' "$(printf 'SELECT 2\nSET k other\nGET k\n' | cli)"
    check "-n chooses the database" other "$(cli -n 2 GET k)"
    check "and it is apart" "" "$(cli GET k)"
}

for protocol in -2 -3; do
    cli FLUSHALL >/dev/null
    for part in reads_and_writes shapes values transactions bulk messages blocking scripts answers; do "$part"; done
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
