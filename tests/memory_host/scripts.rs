//! Scripts: every conversion, the errors, the first line, the cache.

use super::both::in_both_protocols;

#[test]
fn replies_become_lua_values_and_back() {
    in_both_protocols(|both| {
        for request in [
            "SET s text",
            "SET n 12",
            "RPUSH l a b c",
            "HSET h f v",
            "SADD set m",
            "ZADD z 1.5 m",
            "ZADD z2 3 x",
        ] {
            both.say(request);
        }
        for version in ["", "redis.setresp(3) ", "redis.setresp(2) "] {
            for body in [
                "return redis.call('get','s')",
                "return redis.call('get','nosuch')",
                "return type(redis.call('get','nosuch'))",
                "return redis.call('lpop','nosuch', 2)",
                "return type(redis.call('lpop','nosuch', 2))",
                "return redis.call('incr','n')",
                "return redis.call('set','s','text')",
                "return redis.call('set','s','text').ok",
                "return redis.call('lrange','l',0,-1)",
                "return redis.call('hgetall','h')",
                "return type(redis.call('hgetall','h').map)",
                "return redis.call('smembers','set')",
                "return redis.call('zscore','z','m')",
                "return redis.call('zrange','z',0,-1,'withscores')",
                "return type(redis.call('zscore','z','m'))",
                "return redis.call('zscore','z','nosuch')",
                "return redis.call('mget','s','nosuch','n')",
                "return redis.call('exists','s','s')",
                "return redis.call('ping')",
                "return redis.call('echo','x')",
                "return redis.call('hmget','h','f','g')",
                "return redis.call('config','get','x')",
                "return redis.pcall('lpush','s','x')",
                "return redis.call('lpush','s','x')",
                "return redis.pcall('lpush','s','x').err",
                "return {redis.pcall('lpush','s','x'), redis.call('get','s'), redis.call('get','nosuch')}",
                "return redis.call('zmpop',1,'z2','min')",
            ] {
                both.eval(&format!("{version}{body}"));
            }
            both.say("ZADD z2 3 x");
        }
    });
}

#[test]
fn lua_values_become_replies() {
    in_both_protocols(|both| {
        for version in ["", "redis.setresp(3) "] {
            for value in [
                "",
                "nil",
                "true",
                "false",
                "1",
                "-1",
                "3.99",
                "-3.99",
                "1e15",
                "2^53",
                "1e300",
                "-1e300",
                "0/0",
                "1/0",
                "'text'",
                "''",
                "{}",
                "{1,2,3}",
                "{1,nil,3}",
                "{1,false,3}",
                "{nil,2}",
                "{a=1}",
                "{1,2,a=3}",
                "{{1,{2,{3}}},'x'}",
                "{ok='fine'}",
                "{ok='two\\r\\nlines'}",
                "{err='MY error'}",
                "{err='My\\nerror'}",
                "{err='plain'}",
                "{err=1}",
                "{ok=1}",
                "{double=3.5}",
                "{double=0.1}",
                "{double=1e20}",
                "{double=3}",
                "{double='x'}",
                "{map={a=1}}",
                "{map={}}",
                "{set={a=true}}",
                "{set={}}",
                "{big_number='123456789012345678901234567890'}",
                "{big_number='12\\r\\n3'}",
                "{verbatim_string={format='txt',string='hello'}}",
                "{verbatim_string={format='markdown',string='hello'}}",
                "{verbatim_string={format='a',string='hello'}}",
                "{verbatim_string={string='hello'}}",
                "tostring",
                "redis.call",
                "cjson.null",
                "KEYS",
                "ARGV",
                "{KEYS,ARGV}",
                "redis.error_reply('My Err')",
                "redis.error_reply('-My Err')",
                "redis.error_reply('single')",
                "redis.error_reply('-single')",
                "redis.error_reply('')",
                "redis.error_reply('a\\r\\nb c')",
                "redis.error_reply(1)",
                "redis.error_reply({})",
                "redis.error_reply()",
                "redis.error_reply('a','b')",
                "redis.status_reply('My status')",
                "redis.status_reply('')",
                "redis.status_reply(1)",
                "redis.status_reply()",
                "{redis.status_reply('x'), redis.error_reply('y'), {ok='z'}, true, {double=1.5}}",
                "1,2,3",
            ] {
                both.eval(&format!("{version}return {value}"));
            }
        }
        both.eval("local t = {} for i = 1, 100 do t = {t} end return t");
        both.tell("a", &[b"EVAL", b"return {KEYS, ARGV}", b"2", b"a\0b", b"", b"\xff\xfe", b"x y"]);
        both.tell("a", &[b"EVAL", b"return #ARGV", b"0"]);
        both.tell("a", &[b"EVAL", b"return ARGV[1]", b"0"]);
    });
}

#[test]
fn arguments_of_commands_are_written_as_redis_writes_them() {
    in_both_protocols(|both| {
        for value in [
            "'x'",
            "1",
            "-1",
            "3.0",
            "3.5",
            "0.1",
            "1e15",
            "1e16",
            "1e17",
            "1e20",
            "2^53",
            "2^63",
            "-2^63",
            "1e-7",
            "1/3",
            "1/0",
            "-1/0",
            "123456789.125",
            "true",
            "nil",
            "{}",
            "tostring",
            "''",
        ] {
            both.eval(&format!("return redis.call('echo', {value})"));
            both.eval(&format!("return redis.pcall('echo', {value})"));
        }
        both.eval("return redis.call('echo', 'a\\0b\\r\\n')");
        both.eval("return #redis.call('mget', unpack((function() local t = {} for i = 1, 7000 do t[i] = 'k' .. i end return t end)()))");
    });
}

#[test]
fn errors_say_what_redis_says() {
    in_both_protocols(|both| {
        both.say("SET s x");
        for script in [
            "return redis.call('get')",
            "local x = redis.call('get') return x",
            "return redis.call('nosuch')",
            "return redis.call('config', 'nosuch')",
            "return redis.call('config|get', 'x')",
            "return redis.call()",
            "return redis.pcall()",
            "return redis.call({})",
            "return redis.pcall({})",
            "\n\nredis.call('lpush', 's', 'x')",
            "return redis.call('multi')",
            "return redis.call('exec')",
            "return redis.call('subscribe', 'a')",
            "return redis.call('blpop', 'a', '0')",
            "return redis.call('eval', 'x', 0)",
            "return redis.call('script','load','x')",
            "return redis.call('client', 'id')",
            "return redis.call('watch', 'a')",
            "return redis.call('debug', 'sleep', '0')",
            "return redis.call('blmpop', 0, 1, 'nolist', 'left')",
            "return redis.call('select', 99)",
            "local t = {}\nreturn t.a.b",
            "return nosuch",
            "return nosuch.x",
            "x = 1",
            "function f() end",
            "return nil + 1",
            "return {} .. 'x'",
            "return 1 < 'x'",
            "return #nil",
            "return ('x')()",
            "error('boom')",
            "error('boom', 0)",
            "error('boom', 2)",
            "error({err='MY thing'})",
            "error({err='-MY thing'})",
            "error()",
            "error(nil)",
            "error(5)",
            "error(true)",
            "local function f() error('deep') end\nf()",
            "local function f() return redis.call('get') end\nreturn f()",
            "local e = redis.pcall('lpush', 's', 'x') error(e)",
            "local ok, e = pcall(redis.call, 'lpush', 's', 'x') error(e)",
            "local ok, e = pcall(redis.call, 'get') return {tostring(ok), type(e), e}",
            "return {pcall(redis.call, 'get', 's')}",
            "return {pcall(error, 'x')}",
            "return {pcall(error, {err='x'})}",
            "return type(select(2, pcall(error, {er='x'})))",
            "return {pcall(function() return 1, nil, 3 end)}",
            "local ok, e = pcall(function() return nosuch end) return e",
            "local ok, e = pcall(function() x = 1 end) return e",
            "local ok, e = pcall(function() error('x') end) return e",
            "return select('#', pcall(error))",
            "local ok, e = xpcall(function() return redis.call('get') end, function(e) return cjson.encode(e) end) return e",
            "local ok, e = xpcall(function() error('foo') end, function(e) return 'H:' .. e end) return e",
            "return {xpcall(function() return 1, 2 end, error)}",
            "return cjson.encode(redis.pcall('lpush', 's', 'x'))",
            "return cjson.encode(redis.error_reply('x'))",
            "return coroutine.wrap(function() return redis.call('get', 's') end)()",
            "return coroutine.wrap(function() return redis.call('get') end)()",
            "return coroutine.wrap(function() error('co') end)()",
            "return cjson.encode({coroutine.resume(coroutine.create(function() error('co') end))})",
            "return cjson.encode({coroutine.resume(coroutine.create(function() redis.call('get') end))})",
            "return (string.gsub('abc', 'b', function() redis.call('get') end))",
            "table.sort({3,2,1}, function() error('in sort') end)",
            "bad syntax",
            "return",
            "return 1 +",
            "x = ",
            "return 'unfinished",
            "if true then",
            "\n\n)",
            "local a <const> = 1",
            "redis.sha1hex()",
            "redis.sha1hex(1, 2)",
            "redis.log(1)",
            "redis.log('a', 'b')",
            "redis.log(9, 'b')",
            "redis.setresp()",
            "redis.setresp(4)",
            "redis.setresp('x')",
            "redis.setresp(2, 3)",
            "redis.set_repl()",
            "redis.set_repl(77)",
            "redis.acl_check_cmd()",
            "redis.acl_check_cmd('nosuch')",
            "redis.register_function('x', tostring)",
            "string.rep()",
            "string.format('%d', 'x')",
            "string.format('%5.1f|%q|%s|%x', 1.25, 'a\\n', 'x', 255)",
            "string.char(256)",
            "table.concat({1, {}, 3})",
            "pairs(nil)",
            "ipairs()",
            "setmetatable({}, 1)",
            "next({}, 'x')",
            "tonumber('z', 99)",
            "unpack({}, 1, 1e8)",
            "('x'):nosuch()",
            "return tostring(nil) .. tostring(true)",
            "string.rep('x', -1)",
        ] {
            both.eval(script);
        }
    });
}

#[test]
fn scripts_are_kept_and_found_as_in_redis() {
    in_both_protocols(|both| {
        for request in [
            "EVALSHA aaa 0",
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
            "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x",
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db x",
            "EVALSHA aaa x",
            "SCRIPT LOAD",
            "SCRIPT FLUSH foo",
            "SCRIPT FLUSH SYNC",
            "SCRIPT FLUSH ASYNC x",
            "SCRIPT KILL",
            "SCRIPT EXISTS",
        ] {
            both.say(request);
        }
        both.tell("a", &[b"SCRIPT", b"LOAD", b"return 1"]);
        for request in [
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
            "EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0",
            "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db E0E1f9fabfc9d4800c877a703b823ac0578ff8db",
            "SCRIPT FLUSH",
            "EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
        ] {
            both.say(request);
        }
        for request in [
            [&b"EVAL"[..], b"return 1", b"-1", b"a"],
            [b"EVAL", b"return 1", b"3", b"a"],
            [b"EVAL", b"return 1", b"x", b"a"],
            [b"SCRIPT", b"LOAD", b"x y", b""],
            [b"EVAL", b"x y", b"0", b""],
        ] {
            let len = if request[3].is_empty() { 3 } else { 4 };
            both.tell("a", &request[..len]);
        }
        both.tell("a", &[b"SCRIPT", b"LOAD", b"#!lua flags=bad\nreturn 1"]);
        both.tell("a", &[b"SCRIPT", b"LOAD", b"return 5 -- a\nreturn"]);
    });
}

#[test]
fn the_first_line_and_read_only_runs_refuse_as_in_redis() {
    in_both_protocols(|both| {
        for script in [
            "#!lua\nreturn nosuch",
            "#!lua flags=no-writes\nreturn redis.call('set','a','b')",
            "#!lua flags=no-writes,foo\nreturn 1",
            "#!lua foo=1\nreturn 1",
            "#!js\nreturn 1",
            "#!lua",
            "#!\nreturn 1",
            "#! lua\nreturn 1",
            "#!lua name=x\nreturn 1",
            "#!lua flags=\nreturn 1",
            "#!lua flags=no-writes flags=allow-oom\nreturn 1",
            "#!lua flags=no-writes\nreturn redis.call('publish','a','b')",
            "#!lua flags=no-writes\nreturn redis.call('pfcount','a')",
            "return redis.call('set','a','b')",
            "return redis.pcall('set','a','b')",
            "return redis.call('publish','a','b')",
            "return redis.call('get','a')",
            "#!lua flags=no-writes\nreturn redis.call('get','a')",
            "#!lua flags=no-writes\nreturn redis.call('sort','a')",
            "#!lua flags=no-writes\nreturn redis.call('sort_ro','a')",
            "#!lua\nreturn 1",
        ] {
            both.eval(script);
            both.tell("a", &[b"EVAL_RO", script.as_bytes(), b"0"]);
        }
        both.say("SELECT 2");
        both.eval("redis.call('select', 3) redis.call('set', 'k', 'three') return redis.call('get', 'k')");
        both.say("GET k");
        both.say("SELECT 3");
        both.say("GET k");
    });
}
