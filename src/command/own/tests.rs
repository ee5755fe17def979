//! The declarations hold together: each command of ours has one, and its line of help fits its row.

use super::usage::{Argument, Kind, parse};
use super::*;
use crate::command::ROWS;

fn is_own(row: &Row) -> bool {
    matches!(row.route, Route::State | Route::Local(Local::Madcache))
}

#[test]
fn each_of_our_commands_is_declared_once() {
    let rows: Vec<&str> = ROWS.iter().filter(|row| is_own(row)).map(|row| row.name).collect();
    let mut declared: Vec<&str> = OWN.iter().map(|own| own.name).collect();
    for name in &rows {
        assert!(Own::named(name.to_lowercase().as_bytes()).is_some(), "{name} is not declared");
    }
    declared.sort();
    declared.dedup();
    assert_eq!(declared.len(), OWN.len(), "a command is declared twice");
    assert_eq!(declared.len(), rows.len(), "what is declared has a row");
    assert!(Own::named(b"get").is_none() && Own::named(b"").is_none() && Own::named(b"\xff").is_none());
}

/// The least number of words, and whether that is the only one.
fn words(arguments: &[Argument]) -> (i16, bool) {
    let one = |argument: &Argument| {
        let (least, only) = match &argument.kind {
            Kind::Text | Kind::Integer => (1 + i16::from(argument.token.is_some()), true),
            Kind::Word => (1, true),
            Kind::Block(inner) => words(inner),
            Kind::OneOf(inner) => {
                let all: Vec<_> = inner.iter().map(|choice| words(std::slice::from_ref(choice))).collect();
                let least = all.iter().map(|(least, _)| *least).min().expect("a choice");
                let only = all.iter().all(|one| *one == (least, true));
                (least + i16::from(argument.token.is_some()), only)
            }
        };
        (if argument.optional { 0 } else { least }, only && !argument.optional && !argument.multiple)
    };
    arguments.iter().map(one).fold((0, true), |(sum, all), (least, only)| (sum + least, all && only))
}

#[test]
fn a_line_of_help_takes_as_many_words_as_its_row() {
    for own in OWN.iter().filter(|own| own.name != "MADCACHE") {
        let (least, only) = words(&parse(own.usage));
        let names = own.name.split('|').count() as i16;
        let arity = if only { least + names } else { -(least + names) };
        assert_eq!(own.row().arity, arity, "{}", own.name);
    }
}

/// The tree as redis-cli shows it.
fn shown(arguments: &[Argument]) -> String {
    let one = |argument: &Argument| {
        let token = argument.token.as_deref().unwrap_or_default();
        let inner = match &argument.kind {
            Kind::Word => String::new(),
            Kind::Text => argument.name.clone(),
            Kind::Integer => format!("{}#", argument.name),
            Kind::Block(inner) => format!("{}:({})", argument.name, shown(inner)),
            Kind::OneOf(inner) => {
                let choices: Vec<String> =
                    inner.iter().map(|choice| shown(std::slice::from_ref(choice))).collect();
                format!("{}:<{}>", argument.name, choices.join("|"))
            }
        };
        let text = format!("{token} {inner}").trim().to_owned();
        let text = if argument.multiple { format!("{text}+") } else { text };
        if argument.optional { format!("[{text}]") } else { text }
    };
    arguments.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_line_of_help_is_read_as_the_tree_that_it_shows() {
    for (usage, tree) in [
        ("", ""),
        ("name ttl_ms [TOKEN token] [WAIT ms] [FAIR]", "name ttl_ms# [TOKEN token] [WAIT ms#] [FAIR]"),
        ("ON|OFF", "on_off:<ON|OFF>"),
        ("channel META json", "channel META json"),
        ("items (scope cost)..", "items# scope_cost:(scope cost#)+"),
        (
            "[MAX sessions EVICT|REJECT]",
            "[sessions_evict_reject:(MAX sessions# evict_reject:<EVICT|REJECT>)]",
        ),
        (
            "s (POLICY p | LIMIT limit [BURST burst]) [ALGO a|b]",
            "s p_limit_burst:<POLICY p|limit_burst:(LIMIT limit# [BURST burst#])> [ALGO algo:<a|b>]",
        ),
    ] {
        assert_eq!(shown(&parse(usage)), tree, "{usage}");
    }
}
