//! A line of help as the tree of arguments that it shows. `name` is an argument, `WORD name` one behind a word, `WORD` alone
//! the word itself, `a|b` one of these words, `[..]` what may be left out, `(.. | ..)` a choice, `..` what may be repeated.

/// One argument, as COMMAND DOCS has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The word before it, or the word that it is.
    pub(super) token: Option<String>,
    pub(super) optional: bool,
    pub(super) multiple: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    /// The word of `token`.
    Word,
    OneOf(Vec<Argument>),
    Block(Vec<Argument>),
}

/// Arguments of these names, and those in ms, are integers.
const INTEGERS: &[&str] = &[
    "burst",
    "cost",
    "count",
    "items",
    "limit",
    "max_burst",
    "ms",
    "period",
    "quantity",
    "sessions",
    "version",
];

impl Argument {
    fn new(name: &str, kind: Kind) -> Argument {
        Argument { name: name.to_ascii_lowercase(), kind, token: None, optional: false, multiple: false }
    }

    fn word(word: &str) -> Argument {
        Argument { token: Some(word.to_owned()), ..Argument::new(word, Kind::Word) }
    }

    fn named(name: &str) -> Argument {
        let is_integer = name.ends_with("_ms") || INTEGERS.contains(&name);
        Argument::new(name, if is_integer { Kind::Integer } else { Kind::Text })
    }

    /// Several as one: itself, where it is one.
    fn gathered(mut arguments: Vec<Argument>, kind: fn(Vec<Argument>) -> Kind) -> Argument {
        if arguments.len() == 1 {
            return arguments.remove(0);
        }
        let names: Vec<&str> = arguments.iter().map(|argument| argument.name.as_str()).collect();
        let name = names.join("_");
        Argument::new(&name, kind(arguments))
    }
}

/// The arguments of a line of help, which is one of ours and sound.
pub(super) fn parse(usage: &str) -> Vec<Argument> {
    let spaced = ["[", "]", "(", ")"]
        .iter()
        .fold(usage.to_owned(), |text, bracket| text.replace(bracket, &format!(" {bracket} ")));
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    sequence(&mut rest)
}

fn take<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(first)
}

/// Up to a bracket that closes, or to the bar of a choice.
fn sequence(rest: &mut &[&str]) -> Vec<Argument> {
    let mut arguments: Vec<Argument> = Vec::new();
    while let Some(&word) = rest.first()
        && !matches!(word, "]" | ")" | "|")
    {
        take(rest);
        match word {
            "[" => arguments.push(Argument { optional: true, ..bracketed(rest) }),
            "(" => arguments.push(bracketed(rest)),
            ".." => arguments.iter_mut().next_back().into_iter().for_each(|last| last.multiple = true),
            word => arguments.push(one(word, rest)),
        }
    }
    arguments
}

/// What stands between brackets, the first of which was taken.
fn bracketed(rest: &mut &[&str]) -> Argument {
    let mut choices = vec![Argument::gathered(sequence(rest), Kind::Block)];
    while take(rest) == Some("|") {
        choices.push(Argument::gathered(sequence(rest), Kind::Block));
    }
    Argument::gathered(choices, Kind::OneOf)
}

fn one(word: &str, rest: &mut &[&str]) -> Argument {
    if word.contains('|') {
        return choice(word, word);
    }
    if !word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Argument::named(word);
    }
    let is_operand = |next: &&&str| !next.starts_with(['[', ']', '(', ')', '|', '.']);
    let is_keyword = |next: &str| next.bytes().all(|byte| byte.is_ascii_uppercase());
    match rest.first().filter(is_operand).copied() {
        Some(next) if next.contains('|') => {
            take(rest);
            Argument { token: Some(word.to_owned()), ..choice(next, word) }
        }
        Some(next) if !is_keyword(next) => {
            take(rest);
            Argument { token: Some(word.to_owned()), ..Argument::named(next) }
        }
        _ => Argument::word(word),
    }
}

fn choice(words: &str, name: &str) -> Argument {
    let choices = words.split('|').map(Argument::word).collect();
    Argument::new(&name.replace('|', "_"), Kind::OneOf(choices))
}
