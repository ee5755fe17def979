//! What blocking commands have in common. They look at their keys; when nothing is there, they name what they wait for in
//! `Context::wait`, and the engine runs the same request again when one of these keys has changed.

use super::super::context::{Context, Fault, Wait};
use super::super::object::Kind;

/// The first of these keys that is there. When the request runs again, only the key that changed is looked at, and
/// one that holds another kind of value is none: the caller goes on waiting.
pub(super) fn candidates<'k, T: Kind>(
    ctx: &mut Context<'_>,
    keys: &[&'k [u8]],
) -> Result<Option<&'k [u8]>, Fault> {
    let woken = ctx.woken_by;
    for &key in keys {
        match woken {
            Some(woken) if woken != key => continue,
            Some(_) if matches!(ctx.keys.write_as::<T>(key), Ok(Some(_))) => return Ok(Some(key)),
            Some(_) => return Ok(None),
            None if ctx.keys.write_as::<T>(key)?.is_some() => return Ok(Some(key)),
            None => {}
        }
    }
    Ok(None)
}

/// Nothing is replied: the caller waits for one of these keys.
pub(super) fn begin(ctx: &mut Context<'_>, keys: &[&[u8]], deadline_ms: Option<u64>) {
    let keys = keys.iter().map(|key| key.to_vec()).collect();
    ctx.wait = Some(Wait { keys, deadline_ms });
}

/// The same, but where a caller may not wait its time is up at once.
pub(super) fn begin_or_null(ctx: &mut Context<'_>, keys: &[&[u8]], deadline_ms: Option<u64>) {
    if ctx.may_block {
        begin(ctx, keys, deadline_ms);
    } else {
        ctx.reply.null_array();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::caller::Caller;
    use crate::memory::commands::tests::Probe;
    use crate::memory::commands::{handler, tests};
    use crate::memory::context::Reply;
    use crate::memory::keys::Keys;

    /// Runs a request that may wait. Gives its reply, and until when and for which keys it waits.
    fn run(probe: &mut tests::Probe, request: &str, woken_by: Option<&str>) -> (String, Option<Wait>) {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let name = request.split(' ').next().expect("a request has a name");
        let handler = crate::command::lookup_name(name).and_then(handler).expect("the engine has it");
        let mut out = Vec::new();
        let mut ctx = Context {
            keys: Keys { keyspace: &mut probe.keyspace, db: 0, now_ms: probe.now_ms },
            reply: Reply { out: &mut out, resp3: false },
            may_block: true,
            woken_by: woken_by.map(str::as_bytes),
            wait: None,
            caller: &mut Caller::default(),
        };
        let outcome = handler(&mut ctx, &words);
        let wait = ctx.wait.take();
        let reply = String::from_utf8_lossy(&out).trim_end().replace("\r\n", " ");
        (outcome.map_or_else(|fault| fault.0.into_owned(), |()| reply), wait)
    }

    #[test]
    fn a_blocking_command_that_finds_nothing_waits_for_its_keys() {
        for (request, keys) in [
            ("BLPOP a b 1.5", "a b"),
            ("BRPOP a b 1.5", "a b"),
            ("BLMPOP 1.5 2 a b LEFT", "a b"),
            ("BLMOVE a b LEFT LEFT 1.5", "a"),
            ("BRPOPLPUSH a b 1.5", "a"),
            ("BZPOPMIN a b 1.5", "a b"),
            ("BZMPOP 1.5 2 a b MAX", "a b"),
        ] {
            let mut probe = Probe::new();
            let (reply, wait) = run(&mut probe, request, None);
            let wait = wait.expect("it waits");
            assert_eq!(reply, "");
            assert_eq!(wait.keys, keys.split(' ').map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(wait.deadline_ms, Some(probe.now_ms + 1500));
        }
    }

    #[test]
    fn a_woken_request_looks_only_at_the_key_that_changed() {
        let mut probe = Probe::new();
        probe.run("RPUSH a 1");
        probe.run("RPUSH b 2");
        assert_eq!(run(&mut probe, "BLPOP a b 0", Some("b")).0, "*2 $1 b $1 2");
        // It was taken by another one meanwhile.
        assert!(run(&mut probe, "BLPOP a b 0", Some("b")).1.is_some());
        // Another kind of value is none that it waits for.
        probe.run("SET b text");
        assert!(run(&mut probe, "BLPOP a b 0", Some("b")).1.is_some());
        assert!(run(&mut probe, "BZPOPMIN a b 0", Some("a")).1.is_some());
        let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(run(&mut probe, "BLPOP b a 0", None).0, wrong_type);
        assert_eq!(run(&mut probe, "BLMOVE a b LEFT LEFT 0", Some("a")).0, wrong_type);
        assert_eq!(run(&mut probe, "BLPOP b a 0", Some("a")).0, "*2 $1 a $1 1");
    }
}
