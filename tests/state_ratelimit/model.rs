//! A model of the four algorithms that knows only how much is used at a given time, and finds every other field by
//! searching; random histories must give the same replies.
use super::{ALGORITHMS, Rates};

/// A small generator, so that a failure can be repeated by its seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Between 0 and 1.
    pub fn fraction(&mut self) -> f64 {
        (self.below(1 << 30) as f64 + 0.5) / (1u64 << 30) as f64
    }
}

/// One counter. Usage is in units of 1/window.
#[derive(Clone)]
struct Counter {
    algorithm: &'static str,
    window: u64,
    /// Time in us and cost, oldest first.
    events: Vec<(u64, u64)>,
    /// Of GCRA: units, and the millisecond they were counted at.
    level: u64,
    level_ms: u64,
    /// From this millisecond on it counts for nothing.
    level_until: u64,
}

#[derive(Clone, Copy)]
struct Rule {
    limit: u64,
    capacity: u64,
    cost: u64,
}

impl Counter {
    fn window_of(&self, us: u64) -> u64 {
        us / 1000 / self.window
    }

    fn used(&self, us: u64, limit: u64) -> u64 {
        let sum = |in_it: &dyn Fn(u64) -> bool| -> u64 {
            self.events.iter().filter(|(at, _)| in_it(*at)).map(|(_, cost)| cost).sum()
        };
        let now = self.window_of(us);
        match self.algorithm {
            "fixed" => sum(&|at| self.window_of(at) == now) * self.window,
            "log" => sum(&|at| at + self.window * 1000 > us) * self.window,
            "gcra" if us / 1000 >= self.level_until => 0,
            "gcra" => self.level.saturating_sub(limit.saturating_mul(us / 1000 - self.level_ms)),
            _ => {
                let carried = self.window - us / 1000 % self.window;
                sum(&|at| self.window_of(at) == now) * self.window
                    + sum(&|at| self.window_of(at) + 1 == now) * carried
            }
        }
    }

    fn fits(&self, us: u64, rule: Rule) -> bool {
        self.used(us, rule.limit) + rule.cost * self.window <= rule.capacity * self.window
    }

    /// The first millisecond from now on of which `holds` says yes; it goes on saying so.
    fn first_ms(&self, holds: impl Fn(u64) -> bool) -> u64 {
        let (mut no, mut yes) = (0, 1u64 << 40);
        if holds(0) {
            return 0;
        }
        while yes - no > 1 {
            let middle = no + (yes - no) / 2;
            if holds(middle) { yes = middle } else { no = middle }
        }
        yes
    }

    fn answer(&self, us: u64, rule: Rule, allowed: bool) -> String {
        let left = (rule.capacity * self.window).saturating_sub(self.used(us, rule.limit)) / self.window;
        let retry = if allowed {
            "-1".to_owned()
        } else if rule.cost > rule.capacity {
            "-2".to_owned()
        } else {
            self.first_ms(|ms| self.fits(us + ms * 1000, rule)).to_string()
        };
        let reset = self.first_ms(|ms| self.used(us + ms * 1000, rule.limit) == 0);
        format!("[{} {} {left} {retry} {reset}]", u8::from(allowed), rule.capacity)
    }

    fn check(&mut self, us: u64, rule: Rule) -> String {
        let allowed = self.fits(us, rule);
        if allowed && rule.cost > 0 {
            self.fill(us, self.used(us, rule.limit) + rule.cost * self.window, rule.limit);
            self.events.push((us, rule.cost));
        }
        self.answer(us, rule, allowed)
    }

    /// What GCRA stores: it lasts until the end of the next window, and at least until it is drained.
    fn fill(&mut self, us: u64, units: u64, limit: u64) {
        (self.level, self.level_ms) = (units, us / 1000);
        self.level_until = us / 1000 + units.div_ceil(limit).max(2 * self.window);
    }

    fn refund(&mut self, us: u64, rule: Rule) -> u64 {
        if self.algorithm == "gcra" {
            let units = self.used(us, rule.limit);
            let given = (rule.cost * self.window).min(units);
            if given > 0 {
                self.fill(us, units - given, rule.limit);
            }
            return given.div_ceil(self.window);
        }
        let mut left = rule.cost;
        let now = self.window_of(us);
        let reach = match self.algorithm {
            "sliding" => (now - 1) * self.window * 1000,
            "fixed" => now * self.window * 1000,
            _ => us - self.window * 1000 + 1,
        };
        for (_, cost) in self.events.iter_mut().rev().take_while(|(at, _)| *at >= reach) {
            let part = left.min(*cost);
            *cost -= part;
            left -= part;
        }
        self.events.retain(|(_, cost)| *cost > 0);
        rule.cost - left
    }
}

fn history(seed: u64, steps: u64) {
    let mut random = Random(seed);
    let mut rates = Rates::start();
    let windows = [7, 1000, 60_000];
    let mut counters: Vec<Counter> = ALGORITHMS
        .iter()
        .flat_map(|&algorithm| windows.map(|window| (algorithm, window)))
        .map(|(algorithm, window)| Counter {
            algorithm,
            window,
            events: vec![],
            level: 0,
            level_ms: 0,
            level_until: 0,
        })
        .collect();
    for step in 0..steps {
        let bound = [3, 2_000, 400_000, 30_000_000][random.below(4) as usize];
        rates.store.now_us += random.below(bound);
        let us = rates.store.now_us;
        let count = counters.len() as u64;
        let counter = &mut counters[random.below(count) as usize];
        let limit = 1 + random.below(12);
        let burst = (counter.algorithm == "gcra" && random.below(2) == 0).then(|| 1 + random.below(20));
        let cost = [1, 1, 2, 5, random.below(15)][random.below(5) as usize];
        let rule = Rule { limit, capacity: burst.unwrap_or(limit), cost };
        let terms = format!("LIMIT {limit} WINDOW {} ALGO {}", counter.window, counter.algorithm);
        let burst = burst.map_or(String::new(), |burst| format!(" BURST {burst}"));
        let (line, expected) = match random.below(6) {
            0 => (format!("REFUND user 7 {cost} {terms}{burst}"), counter.refund(us, rule).to_string()),
            1 => {
                let expected = counter.answer(us, rule, counter.fits(us, rule));
                (format!("PEEK user 7 {terms}{burst} COST {cost}"), expected)
            }
            _ => (format!("CHECK user 7 {terms}{burst} COST {cost}"), counter.check(us, rule)),
        };
        assert_eq!(rates.run(&format!("RATELIMIT.{line}")), expected, "seed {seed} step {step}: {line}");
    }
}

#[test]
fn random_histories_answer_as_the_model_does() {
    for seed in 1..=4 {
        history(seed, 3000);
    }
}

#[test]
fn the_largest_products_are_still_exact() {
    let mut rates = Rates::start();
    // 2^53 = limit x window, for three shapes of it, and a cost that leaves the last one over.
    for (limit, window) in [(1u64 << 22, 1u64 << 31), (1 << 43, 1 << 10), ((1 << 53) / 999, 999)] {
        for algorithm in ALGORITHMS {
            rates.redis("FLUSHALL");
            let mut counter =
                Counter { algorithm, window, events: vec![], level: 0, level_ms: 0, level_until: 0 };
            let terms = format!("LIMIT {limit} WINDOW {window} ALGO {algorithm}");
            for cost in [limit - 1, 2, 1, 1, limit] {
                let rule = Rule { limit, capacity: limit, cost };
                let line = format!("{terms} COST {cost}");
                assert_eq!(rates.check(&line), counter.check(rates.store.now_us, rule), "{line}");
                rates.store.now_us += window * 300;
            }
        }
    }
}
