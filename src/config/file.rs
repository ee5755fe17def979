//! Applies a TOML file to a configuration. Each error names the file and the line, and never quotes the line, which
//! may hold a password.
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::declare::Section;
use super::nearest::nearest;
use super::value::Raw;
use super::{Config, Error, Policy, Rule};

pub(super) fn apply(config: &mut Config, path: &Path) -> Result<(), Error> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(format!("cannot read {name}: {error}"), "give --config a readable file")
    })?;
    apply_text(config, &name, &text)
}

pub(super) fn apply_text(config: &mut Config, name: &str, text: &str) -> Result<(), Error> {
    let file = File { name, text };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or(0..0);
        Error::new(file.at(&at, "not TOML"), error.message().replace('\n', ", "))
    })?;
    for entry in in_order(document.get_ref()) {
        match entry.name {
            "rules" => config.rules = file.rules(&entry)?,
            "ratelimit" => {
                config.policies = file.policies(&entry)?;
                file.section("ratelimit", &mut config.ratelimit, &entry)?;
            }
            section => match config.section_mut(section) {
                Some(fields) => file.section(section, fields, &entry)?,
                None => return Err(file.unknown_section(&Config::default(), &entry)),
            },
        }
    }
    Ok(())
}

/// The one table within a section.
const POLICIES: &str = "policies";

struct File<'a> {
    name: &'a str,
    text: &'a str,
}

struct Entry<'a> {
    name: &'a str,
    at: Range<usize>,
    value: &'a DeValue<'a>,
}

/// The parser sorts by name; errors are to appear for the first line that has one.
fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry { name: key.get_ref().as_ref(), at: key.span(), value: value.get_ref() })
        .collect();
    entries.sort_by_key(|entry| entry.at.start);
    entries
}

impl File<'_> {
    /// `what` with file and line before it.
    fn at(&self, at: &Range<usize>, what: &str) -> String {
        let start = at.start.min(self.text.len());
        let line = 1 + self.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        format!("{}:{line}: {what}", self.name)
    }

    fn section(&self, section: &str, fields: &mut dyn Section, entry: &Entry) -> Result<(), Error> {
        let DeValue::Table(table) = entry.value else {
            return Err(Error::new(
                self.at(&entry.at, &format!("{section} is a section")),
                format!("write [{section}] and its keys below"),
            ));
        };
        self.fields(section, fields, table)
    }

    fn rules(&self, entry: &Entry) -> Result<Vec<Rule>, Error> {
        let malformed = || {
            Error::new(self.at(&entry.at, "rules is a list of tables"), "write [[rules]] before each rule")
        };
        let DeValue::Array(items) = entry.value else { return Err(malformed()) };
        let mut rules = Vec::new();
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else { return Err(malformed()) };
            let mut rule = Rule::default();
            self.fields("rules", &mut rule, table)?;
            rule.check().map_err(|error| Error::new(self.at(&item.span(), &error.what), error.remedy))?;
            rules.push(rule);
        }
        Ok(rules)
    }

    /// The tables below `[ratelimit.policies]`.
    fn policies(&self, ratelimit: &Entry) -> Result<BTreeMap<String, Policy>, Error> {
        let mut policies = BTreeMap::new();
        let entry = match ratelimit.value {
            DeValue::Table(table) => in_order(table).into_iter().find(|entry| entry.name == POLICIES),
            _ => None,
        };
        let Some(entry) = entry else { return Ok(policies) };
        let malformed = |at: &Range<usize>| {
            Error::new(
                self.at(at, "ratelimit.policies holds tables"),
                "write [ratelimit.policies.<name>] before each policy",
            )
        };
        let DeValue::Table(table) = entry.value else { return Err(malformed(&entry.at)) };
        for entry in in_order(table) {
            let DeValue::Table(table) = entry.value else { return Err(malformed(&entry.at)) };
            let name = format!("ratelimit.policies.{}", one_line(entry.name));
            let mut policy = Policy::default();
            self.fields(&name, &mut policy, table)?;
            policy.check(&name).map_err(|error| Error::new(self.at(&entry.at, &error.what), error.remedy))?;
            policies.insert(entry.name.to_owned(), policy);
        }
        Ok(policies)
    }

    fn fields(&self, section: &str, fields: &mut dyn Section, table: &DeTable) -> Result<(), Error> {
        for entry in in_order(table) {
            if section == "ratelimit" && entry.name == POLICIES {
                continue;
            }
            let Some(key) = fields.keys().iter().find(|key| key.name == entry.name) else {
                return Err(self.unknown_key(section, fields, &entry));
            };
            let raw = Raw::from_toml(entry.value);
            fields.set(key, &raw).map_err(|expected| {
                let found = if key.secret { "is not usable".to_owned() } else { format!("= {raw}") };
                let what = format!("{section}.{} {found}", key.name);
                Error::new(self.at(&entry.at, &what), format!("expected {expected}"))
            })?;
        }
        Ok(())
    }

    fn unknown_key(&self, section: &str, fields: &dyn Section, entry: &Entry) -> Error {
        let name = one_line(entry.name);
        let what = self.at(&entry.at, &format!("{section}.{name} is unknown"));
        if let Some(home) = home_of(entry.name) {
            return Error::new(what, format!("{name} belongs under [{home}]"));
        }
        match nearest(entry.name, fields.keys().iter().map(|key| key.name)) {
            Some(known) => Error::new(what, format!("did you mean {known}?")),
            None => Error::new(what, "conf/madcache.toml lists every key"),
        }
    }

    fn unknown_section(&self, config: &Config, entry: &Entry) -> Error {
        let name = one_line(entry.name);
        if !entry.value.is_table() && !entry.value.is_array() || home_of(entry.name).is_some() {
            let what = self.at(&entry.at, &format!("{name} stands outside of any section"));
            return match home_of(entry.name) {
                Some(home) => Error::new(what, format!("write it under [{home}]")),
                None => Error::new(what, "conf/madcache.toml lists every section and key"),
            };
        }
        let what = self.at(&entry.at, &format!("[{name}] is unknown"));
        let sections = config.sections();
        let known = sections.iter().map(|(section, _)| *section).chain(["rules"]);
        match nearest(entry.name, known) {
            Some(known) => Error::new(what, format!("did you mean [{known}]?")),
            None => Error::new(what, "conf/madcache.toml lists every section"),
        }
    }
}

/// The section that has a key of this name.
fn home_of(key: &str) -> Option<&'static str> {
    let config = Config::default();
    let sections = config.sections();
    sections
        .iter()
        .find(|(_, fields)| fields.keys().iter().any(|known| known.name == key))
        .map(|(name, _)| *name)
}

/// Quoted TOML keys may hold anything.
fn one_line(name: &str) -> String {
    name.escape_debug().to_string()
}
