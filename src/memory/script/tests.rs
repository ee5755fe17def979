//! The host alone, with an engine that only echoes.

use super::*;

fn host() -> Host {
    Host::new(Arc::new(|argv, resp3, out| {
        match argv[0] {
            b"echo" => resp::bulk(out, argv[1]),
            b"raw" => out.extend_from_slice(argv[1]),
            b"fail" => resp::error(out, "WRONGTYPE no"),
            b"nil" => resp::null(out, resp3),
            _ => return Err("Unknown Redis command called from script".into()),
        }
        Ok(())
    }))
    .unwrap()
}

fn eval(host: &mut Host, text: &str) -> String {
    let mut out = Vec::new();
    match host.prepare(text.as_bytes()) {
        Ok(script) => host.start(&script, &[b"k"], &[b"a", b"b"]).unwrap().finish(false, &mut out),
        Err(error) => resp::error_bytes(&mut out, &error),
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn scripts_run_and_call_commands() {
    let mut host = host();
    assert_eq!(
        eval(&mut host, "return {KEYS[1], ARGV[2], redis.call('echo', 'x')}"),
        "*3\r\n$1\r\nk\r\n$1\r\nb\r\n$1\r\nx\r\n"
    );
    assert_eq!(eval(&mut host, "return redis.pcall('fail').err"), "$12\r\nWRONGTYPE no\r\n");
    let error = eval(&mut host, "return redis.call('fail')");
    assert!(
        error.starts_with("-WRONGTYPE no script: ") && error.ends_with(", on @user_script:1.\r\n"),
        "{error}"
    );
    let error = eval(&mut host, "return nosuch");
    assert!(
        error.starts_with(
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'nosuch' script: "
        ),
        "{error}"
    );
}

#[test]
fn a_script_that_never_ends_is_stopped_whatever_it_catches() {
    let mut host = host();
    let error = eval(&mut host, "while true do pcall(function() while true do end end) end");
    assert!(error.starts_with("-ERR Script stopped: it ran for more than 5000 ms script: "), "{error}");
    let error = eval(&mut host, "local t = {} while true do t[#t + 1] = string.rep('x', 1e6) .. #t end");
    assert!(error.contains("not enough memory"), "{error}");
    assert_eq!(eval(&mut host, "return 1"), ":1\r\n");
}
