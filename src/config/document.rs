//! Writes the declaration down as `conf/madcache.toml`: every key with its documentation and default, commented out.
use std::fmt::Write as _;

use super::declare::{Key, Live, Section};
use super::{Config, Policy, Rule};

const HEAD: &str = "\
## Settings of madcache. Every key stands here with its default; remove \"# \" before a line to change it.
##
## Each key is also the environment variable MADCACHE_<SECTION>_<KEY> (lists with commas between the items; an empty
## variable counts as unset). MADCACHE_<SECTION>_<KEY>_FILE names a file that holds a secret. Flags win over the
## environment, the environment over this file. Sizes: 256MiB, 64KiB, 1GiB, or a number of bytes. SIGHUP reads this
## file again; a change that needs a restart is named in the log.
";

const RULES_EXAMPLE: &str = "\
# [[rules]]
# pattern = \"page:*\"
# ttl_seconds = 300
# on_l2_down = \"serve-stale\"
# [[rules]]
# pattern = \"basket:*\"
# cache = false
";

const POLICIES_EXAMPLE: &str = "\
# [ratelimit.policies.free]
# limit = 60
# window_ms = 60000
# [ratelimit.policies.paid]
# limit = 600
# window_ms = 60000
# burst = 100
# on_l2_down = \"local\"
";

/// The text of `conf/madcache.toml`.
pub fn document() -> String {
    let config = Config::default();
    let mut text = HEAD.to_owned();
    for (name, section) in config.sections() {
        put(&mut text, &format!("\n## {}\n[{name}]\n", lines(section.doc(), "\n## ")));
        for key in section.keys() {
            put(&mut text, &key_text(section, key));
        }
        if name == "cache" {
            put(&mut text, &tables_text(&Rule::default(), RULES_EXAMPLE));
        }
        if name == "ratelimit" {
            put(&mut text, &tables_text(&Policy::default(), POLICIES_EXAMPLE));
        }
    }
    text
}

fn key_text(section: &dyn Section, key: &Key) -> String {
    let default = key.shown.map_or_else(|| section.show(key), str::to_owned);
    let restart = if key.live == Live::Restart { " Needs a restart." } else { "" };
    format!("## {}{restart}\n# {} = {default}\n", lines(key.doc, "\n## "), key.name)
}

/// What stands in the file as tables, any number of them.
fn tables_text(section: &dyn Section, example: &str) -> String {
    let mut text = format!("\n## {}\n", lines(section.doc(), "\n## "));
    for key in section.keys() {
        put(&mut text, &format!("## {}: {}\n", key.name, lines(key.doc, "\n##   ")));
    }
    text + example
}

fn lines(doc: &[&str], separator: &str) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(separator)
}

fn put(text: &mut String, more: &str) {
    text.write_str(more).expect("writing to a String cannot fail");
}
