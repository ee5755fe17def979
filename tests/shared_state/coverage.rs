//! Complains of commands and options that no transcript has.

use std::collections::BTreeSet;

use madcache::command::{ROWS, Route};

use crate::transcripts::ALL;

/// Every command with its options; of words that exclude each other, each is one.
const SYNTAX: [(&str, &str); 31] = [
    ("LOCK.ACQUIRE", "TOKEN WAIT FAIR REENTRANT RENEW BIND OWNER"),
    ("LOCK.EXTEND", ""),
    ("LOCK.RELEASE", ""),
    ("LOCK.CHECK", ""),
    ("LOCK.INFO", ""),
    ("LOCK.FORCE", ""),
    ("RATELIMIT.CHECK", "POLICY LIMIT WINDOW BURST ALGO SLIDING GCRA FIXED LOG COST SHADOW"),
    ("RATELIMIT.PEEK", "POLICY LIMIT WINDOW BURST ALGO SLIDING GCRA FIXED LOG COST SHADOW"),
    ("RATELIMIT.RESET", ""),
    ("RATELIMIT.REFUND", "POLICY LIMIT WINDOW BURST ALGO SLIDING GCRA FIXED LOG"),
    ("RATELIMIT.MULTI", ""),
    ("CL.THROTTLE", ""),
    ("PRESENCE.JOIN", "META TTL BIND"),
    ("PRESENCE.LEAVE", ""),
    ("PRESENCE.LEAVEALL", ""),
    ("PRESENCE.HEARTBEAT", ""),
    ("PRESENCE.UPDATE", "META"),
    ("PRESENCE.MEMBERS", "WITHMETA"),
    ("PRESENCE.STATE", ""),
    ("PRESENCE.COUNT", ""),
    ("PRESENCE.CHANNELS", ""),
    ("SESSION.CREATE", "IDLE ABSOLUTE DATA DEVICE MAX EVICT REJECT"),
    ("SESSION.VALIDATE", "NOTOUCH STRICT"),
    ("SESSION.TOUCH", ""),
    ("SESSION.SET", "IFVER"),
    ("SESSION.ROTATE", "GRACE"),
    ("SESSION.DESTROY", ""),
    ("SESSION.REVOKE", ""),
    ("SESSION.DESTROYALL", "EXCEPT"),
    ("SESSION.LIST", ""),
    ("SESSION.COUNT", ""),
];

/// Where requests are parsed: what an option is stands there as `b"OPTION"`.
const PARSERS: [&str; 4] = [
    include_str!("../../src/state/lock.rs"),
    include_str!("../../src/state/presence/parse.rs"),
    include_str!("../../src/state/ratelimit.rs"),
    include_str!("../../src/state/session.rs"),
];

/// Words in capitals there that no client writes.
const NO_OPTIONS: [&str; 1] = ["PUBLISH"];

#[test]
fn every_command_of_the_table_is_known_here_with_every_option_that_is_parsed() {
    let rows: BTreeSet<&str> =
        ROWS.iter().filter(|row| row.route == Route::State).map(|row| row.name).collect();
    let known: BTreeSet<&str> = SYNTAX.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, rows);
    let verbs = SYNTAX.iter().map(|(name, _)| name.split('.').nth(1).unwrap());
    let words: BTreeSet<&str> =
        SYNTAX.iter().flat_map(|(_, options)| options.split(' ')).chain(verbs).chain(NO_OPTIONS).collect();
    for parser in PARSERS {
        for literal in parser.split("b\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let is_word = literal.len() > 1 && literal.bytes().all(|byte| byte.is_ascii_uppercase());
            assert!(!is_word || words.contains(literal), "SYNTAX has no option {literal}");
        }
    }
}

#[test]
fn every_command_with_every_option_has_a_line_that_succeeds_and_every_command_one_that_fails() {
    let lines: Vec<(Vec<String>, bool)> = ALL
        .iter()
        .flat_map(|(_, transcript)| transcript.lines())
        .filter_map(|line| line.split_once(" => "))
        .map(|(command, reply)| {
            (command.split(' ').map(str::to_uppercase).collect(), reply.trim().starts_with('-'))
        })
        .collect();
    let has = |name: &str, option: &str, fails: bool| {
        lines.iter().any(|(words, failed)| {
            words[0] == name
                && *failed == fails
                && (option.is_empty() || words.iter().any(|word| word == option))
        })
    };
    let missing: Vec<String> = SYNTAX
        .iter()
        .flat_map(|(name, options)| {
            let options = options.split(' ').filter(|option| !has(name, option, false));
            let mut missing: Vec<String> = options.map(|option| format!("{name} {option}")).collect();
            missing.extend((!has(name, "", true)).then(|| format!("{name} that fails")));
            missing
        })
        .collect();
    assert!(missing.is_empty(), "no transcript has {missing:#?}");
}
