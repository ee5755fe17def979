//! What COMMAND DOCS, INFO and GETKEYS say of the daemon's own commands, which L2 does not know: declared here once, beside
//! the rows that say how they are executed.

mod complete;
mod describe;
#[cfg(test)]
mod tests;
mod usage;

pub use complete::Asked;

use super::{Effect, Local, Route, Row, lookup_name};

/// One of our own commands.
#[derive(Debug)]
struct Own {
    /// That of its row.
    name: &'static str,
    /// Its arguments as a line of help shows them; see `usage`.
    usage: &'static str,
    summary: &'static str,
    complexity: &'static str,
    /// What COMMAND calls it besides what follows from its row.
    flags: &'static [&'static str],
}

const fn own(
    name: &'static str,
    usage: &'static str,
    summary: &'static str,
    complexity: &'static str,
) -> Own {
    Own { name, usage, summary, complexity, flags: &[] }
}

impl Own {
    const fn with(self, flags: &'static [&'static str]) -> Own {
        Own { flags, ..self }
    }
}

const CONSTANT: &str = "O(1)";
const PER_EVENT: &str = "O(1); O(N) with ALGO log, N being the number of events in the window";
const PER_SESSION: &str = "O(N) where N is the number of sessions of the user";
const PER_MEMBER: &str = "O(N) where N is the number of users in the channel";
const GROWS: &[&str] = &["denyoom"];

#[rustfmt::skip]
static OWN: &[Own] = &[
    own("LOCK.ACQUIRE", "name ttl_ms [TOKEN token] [WAIT ms] [FAIR] [REENTRANT] [RENEW] [BIND] [OWNER label]",
        "Takes a lock for a time, and answers its token and its fence", "O(log(N)) where N is the number of waiters")
        .with(&["denyoom", "blocking"]),
    own("LOCK.CHECK", "name token", "Tells whether a lock is held with a token", CONSTANT),
    own("LOCK.EXTEND", "name token ttl_ms", "Sets the time to live of a lock that is held", CONSTANT),
    own("LOCK.FORCE", "name", "Ends a lock, whoever holds it", CONSTANT),
    own("LOCK.INFO", "name", "Tells who holds a lock, never with which token", CONSTANT),
    own("LOCK.RELEASE", "name token", "Releases a lock, and answers how many holds are left", "O(log(N)) where N is the number of waiters"),
    own("CL.THROTTLE", "key max_burst count period [quantity]", "Limits a rate, as the module redis-cell does", CONSTANT).with(GROWS),
    own("RATELIMIT.CHECK", "scope subject (POLICY policy | LIMIT limit WINDOW window_ms [BURST burst]) [ALGO sliding|gcra|fixed|log] [COST cost] [SHADOW]",
        "Uses a limit if the cost fits, and tells how it stands", PER_EVENT).with(GROWS),
    own("RATELIMIT.MULTI", "items (scope subject policy cost)..", "Uses several limits, or none of them if one denies",
        "O(N) where N is the number of limits").with(GROWS),
    own("RATELIMIT.PEEK", "scope subject (POLICY policy | LIMIT limit WINDOW window_ms [BURST burst]) [ALGO sliding|gcra|fixed|log] [COST cost] [SHADOW]",
        "Tells how a limit stands without using it", PER_EVENT),
    own("RATELIMIT.REFUND", "scope subject cost (POLICY policy | LIMIT limit WINDOW window_ms [BURST burst]) [ALGO sliding|gcra|fixed|log]",
        "Gives back what was used of a limit, and answers how much", PER_EVENT),
    own("RATELIMIT.RESET", "scope subject", "Forgets all that a subject has used", "O(N) where N is the number of its counters"),
    own("PRESENCE.CHANNELS", "user", "Lists the channels in which a user is", "O(N) where N is the number of channels"),
    own("PRESENCE.COUNT", "channel", "Counts a channel's users and connections", CONSTANT),
    own("PRESENCE.HEARTBEAT", "connection (channel user)..", "Refreshes entries; 0 stands for one that is gone",
        "O(N*log(M)) for N entries among M connections of a channel"),
    own("PRESENCE.JOIN", "channel user connection [META json] [TTL ttl_ms] [BIND]", "Enters a user's connection into a channel",
        "O(log(N)) where N is the number of connections in the channel").with(GROWS),
    own("PRESENCE.LEAVE", "channel user connection", "Takes a user's connection out of a channel",
        "O(log(N)) where N is the number of connections in the channel"),
    own("PRESENCE.LEAVEALL", "connection", "Takes a connection out of all its channels", "O(N) where N is the number of its channels"),
    own("PRESENCE.MEMBERS", "channel [WITHMETA]", "Lists the users of a channel", PER_MEMBER),
    own("PRESENCE.STATE", "channel", "Tells who is in a channel, as of the number of its last event", PER_MEMBER),
    own("PRESENCE.UPDATE", "channel user connection META json", "Sets what is said of a user in a channel", CONSTANT).with(GROWS),
    own("SESSION.COUNT", "user", "Counts the sessions of a user", PER_SESSION),
    own("SESSION.CREATE", "user [IDLE idle_ms] [ABSOLUTE absolute_ms] [DATA json] [DEVICE label] [MAX sessions EVICT|REJECT]",
        "Logs a user in, and answers the token", "O(log(N)) where N is the number of sessions of the user").with(GROWS),
    own("SESSION.DESTROY", "token", "Ends the session of a token", CONSTANT),
    own("SESSION.DESTROYALL", "user [EXCEPT token]", "Ends all sessions of a user", PER_SESSION),
    own("SESSION.LIST", "user", "Lists the sessions of a user, without their tokens", PER_SESSION),
    own("SESSION.REVOKE", "id", "Ends the session of this id", CONSTANT),
    own("SESSION.ROTATE", "token [GRACE grace_ms]", "Puts another token in a token's place", CONSTANT).with(GROWS),
    own("SESSION.SET", "token json [IFVER version]", "Sets the data of a session, and answers its version", CONSTANT).with(GROWS),
    own("SESSION.TOUCH", "token", "Counts as a use of a session, and answers what is left of its idle time", CONSTANT),
    own("SESSION.VALIDATE", "token [NOTOUCH] [STRICT]", "Tells whose session a token is, or nil", CONSTANT),
    own("MADCACHE", "", "A container for the operator's commands of the caching proxy", "Depends on subcommand."),
    own("MADCACHE|BYPASS", "ON|OFF", "Makes this connection read past L1, or through it again", CONSTANT),
    own("MADCACHE|FLUSH", "", "Makes everything in L1 invalid; L2 is not touched", "O(N) where N is the number of entries"),
    own("MADCACHE|HELP", "", "Show helpful text about the different subcommands", CONSTANT),
    own("MADCACHE|INVALIDATE", "pattern", "Makes L1's entries of all keys that match invalid, and counts them", "O(N) where N is the number of entries"),
    own("MADCACHE|KEY", "key", "Tells what L1 holds for a key", "O(N) where N is the number of entries"),
    own("MADCACHE|STATS", "", "Tells the daemon's counters, as INFO madcache does", CONSTANT),
];

impl Own {
    /// The version of the daemon that brought it.
    fn since(&self) -> &'static str {
        if self.name.starts_with("MADCACHE") { "0.1.0" } else { "0.2.0" }
    }

    /// The command called so, in any case: `lock.acquire`, `madcache|key`.
    fn named(name: &[u8]) -> Option<&'static Own> {
        let row = lookup_name(std::str::from_utf8(name).ok()?)?;
        let is_own = matches!(row.route, Route::State | Route::Local(Local::Madcache));
        OWN.iter().find(|own| is_own && own.name == row.name)
    }

    fn all() -> impl Iterator<Item = &'static Own> {
        OWN.iter().filter(|own| !own.name.contains('|'))
    }

    fn subcommands(&self) -> Vec<&'static Own> {
        let is_inner =
            |own: &&Own| own.name.strip_prefix(self.name).is_some_and(|rest| rest.starts_with('|'));
        OWN.iter().filter(is_inner).collect()
    }

    fn row(&self) -> &'static Row {
        lookup_name(self.name).expect("each of our own commands has a row")
    }

    fn name(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// As `help @lock` of redis-cli takes it.
    fn group(&self) -> String {
        match self.name().split_once('.') {
            Some(("cl", _)) => "ratelimit".to_owned(),
            Some((kind, _)) => kind.to_owned(),
            None => "server".to_owned(),
        }
    }

    fn flags(&self) -> Vec<&'static str> {
        let mut flags = match self.row().effect {
            Effect::Read => vec!["readonly"],
            Effect::Write => vec!["write"],
            Effect::None | Effect::Unknown => vec!["admin"],
        };
        flags.extend(self.flags);
        flags.push("noscript");
        flags.extend(self.is_fast().then_some("fast"));
        flags
    }

    fn categories(&self) -> Vec<&'static str> {
        let mut categories = match self.row().effect {
            Effect::Read => vec!["@read"],
            Effect::Write => vec!["@write"],
            Effect::None | Effect::Unknown => vec!["@admin"],
        };
        categories.extend(self.flags.contains(&"blocking").then_some("@blocking"));
        categories.push(if self.is_fast() { "@fast" } else { "@slow" });
        categories
    }

    fn is_fast(&self) -> bool {
        self.complexity == CONSTANT
    }
}
