//! `[[rules]]`: what configuration says of keys by pattern. The first match wins.

use std::time::Duration;

use crate::config::{Config, OnL2Down};

struct Compiled {
    pattern: Vec<u8>,
    cache: Option<bool>,
    ttl: Option<Duration>,
    negative_ttl: Option<Duration>,
    on_l2_down: Option<OnL2Down>,
}

pub struct Rules {
    rules: Vec<Compiled>,
    ttl: Duration,
    negative_ttl: Duration,
    on_l2_down: OnL2Down,
    stale_max: Duration,
    /// How keys of locks and user sessions begin.
    never_stale: [Vec<u8>; 2],
}

/// What holds for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub cache: bool,
    pub ttl: Duration,
    pub negative_ttl: Duration,
    /// How old a reply may be shown while L2 is away.
    pub stale_for: Duration,
}

impl Rules {
    pub fn new(config: &Config) -> Rules {
        let seconds = Duration::from_secs;
        let rules = config.rules.iter().map(|rule| Compiled {
            pattern: rule.pattern.clone().into_bytes(),
            cache: rule.cache,
            ttl: rule.ttl_seconds.map(seconds),
            negative_ttl: rule.negative_ttl_seconds.map(seconds),
            on_l2_down: rule.on_l2_down,
        });
        Rules {
            rules: rules.collect(),
            ttl: seconds(config.cache.ttl_seconds),
            negative_ttl: seconds(config.cache.negative_ttl_seconds),
            on_l2_down: config.cache.on_l2_down,
            stale_max: seconds(config.cache.stale_max_seconds),
            never_stale: [(&config.lock.prefix, "lock:"), (&config.session.prefix, "session:")]
                .map(|(prefix, kind)| format!("{prefix}{kind}").into_bytes()),
        }
    }

    /// Locks and user sessions are never shown stale, whatever the rules say.
    pub fn verdict(&self, key: &[u8]) -> Verdict {
        let rule = self.rules.iter().find(|rule| glob(&rule.pattern, key));
        let on_l2_down = rule.and_then(|r| r.on_l2_down).unwrap_or(self.on_l2_down);
        let may_be_stale = on_l2_down == OnL2Down::ServeStale
            && !self.never_stale.iter().any(|start| key.starts_with(start));
        Verdict {
            cache: rule.and_then(|r| r.cache).unwrap_or(true),
            ttl: rule.and_then(|r| r.ttl).unwrap_or(self.ttl),
            negative_ttl: rule.and_then(|r| r.negative_ttl).unwrap_or(self.negative_ttl),
            stale_for: if may_be_stale { self.stale_max } else { Duration::ZERO },
        }
    }
}

/// Redis's glob: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Takes time linear in the text per `*`, never exponential.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t < text.len()
            && p < pattern.len()
            && let Some(used) = one(&pattern[p..], text[t])
        {
            p += used;
            t += 1;
            continue;
        }
        match retry {
            Some((after_star, at)) if at < text.len() => {
                retry = Some((after_star, at + 1));
                (p, t) = (after_star, at + 1);
            }
            _ => return false,
        }
    }
}

/// How much of the pattern matches this one byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => in_class(class, byte).map(|used| used + 1),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// `class` begins behind the bracket; an unclosed one ends with the pattern, as in Redis.
fn in_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    while at < class.len() && class[at] != b']' {
        match class[at..] {
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] if high != b']' => {
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
            [] => break,
        }
    }
    (found != negated).then_some((at + 1).min(class.len()))
}

#[cfg(test)]
mod tests {
    use super::{Rules, glob};
    use crate::config::{Config, OnL2Down};

    #[test]
    fn locks_and_user_sessions_are_never_stale_whatever_their_prefix() {
        let mut config = Config::default();
        config.cache.on_l2_down = OnL2Down::ServeStale;
        config.lock.prefix = "app:".into();
        let stale = |config: &Config, key: &[u8]| !Rules::new(config).verdict(key).stale_for.is_zero();
        assert!(stale(&config, b"page:1"));
        assert!(!stale(&config, b"app:lock:job"));
        assert!(!stale(&config, b"session:0123"));
        assert!(stale(&config, b"app:session:0123"), "another's key");
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("user:*", "user:1", true),
            ("user:*", "users", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }
}
