//! The status page: what an operator looks at first, as plain text. Shows no secret, key or value.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::health;
use crate::clock::Moment;
use crate::config::Kind;
use crate::shared::{Place, Shared};

pub(super) fn page(shared: &Shared, now: Moment) -> String {
    let live = shared.live.load_full();
    let mut page = String::new();
    let mut line = |name: &str, text: &str| {
        writeln!(page, "{name:<9} {text}").expect("a string takes everything");
    };
    line("madcache", env!("CARGO_PKG_VERSION"));
    line("health", &health::health(shared, now).map_or_else(|reason| reason, |()| "ok".into()));
    line("ready", &health::readiness(shared, now).map_or_else(|reason| reason, |()| "yes".into()));
    line("redis", &shared.l2.place());
    for kind in Kind::ALL {
        let place = match shared.places.of(kind) {
            Place::Shared => continue,
            Place::Own(at) => shared.places.own[at].place(),
            Place::Masters => {
                let masters = shared.places.own.iter().filter(|remote| remote.is_master);
                let endpoints: Vec<String> =
                    masters.map(|master| master.target.endpoint.to_string()).collect();
                endpoints.join(", ")
            }
            Place::Beside => "in this process alone".into(),
            Place::Nowhere => "disabled".into(),
        };
        line(kind.name(), &place);
    }
    health::lacking(shared).iter().for_each(|lack| line("away", lack));
    line(
        "evicts",
        if shared.l2_evicts.load(Relaxed) { "Redis evicts keys; hot ones are touched" } else { "no" },
    );
    let l1 = match shared.cache {
        Some(_) => format!("{} bytes at most", live.config.cache.bytes_max),
        None => "off".into(),
    };
    line("l1", &l1);
    let numbers = shared.numbers();
    let width = numbers.iter().map(|number| number.name.len()).max().unwrap_or_default();
    page.push('\n');
    for number in numbers {
        writeln!(page, "{:<width$} {:>14}  {}", number.name, number.value, number.help)
            .expect("a string takes everything");
    }
    page
}
