//! CL.THROTTLE against a model of what redis-cell documents: GCRA with whole nanoseconds, `[limited, limit, remaining,
//! retry, reset]`, times in seconds where a rest of a millisecond or more counts as another one.
use super::Rates;
use super::model::Random;

/// The theoretical arrival time of the next event, in nanoseconds since 1970.
#[derive(Default)]
struct Model {
    arrival_ns: i128,
}

fn seconds(ns: i128) -> i128 {
    ns / 1_000_000_000 + i128::from(ns % 1_000_000_000 >= 1_000_000)
}

impl Model {
    fn throttle(&mut self, now_ns: i128, [burst, count, period, quantity]: [i128; 4]) -> String {
        let interval = ((period * 1_000_000_000) as f64 / count as f64) as i128;
        let tolerance = interval * (burst + 1);
        let arrival = self.arrival_ns.max(now_ns);
        let next = arrival + interval * quantity;
        let early = next - tolerance - now_ns;
        let limited = early > 0;
        let mut retry = -1;
        if !limited {
            self.arrival_ns = next;
        } else if interval * quantity <= tolerance {
            retry = seconds(early);
        }
        let reset = if limited { arrival - now_ns } else { next - now_ns };
        let room = tolerance - reset;
        let remaining =
            if room > -interval { ((room / 1000) as f64 / (interval / 1000) as f64) as i128 } else { 0 };
        format!("[{} {} {remaining} {retry} {}]", u8::from(limited), burst + 1, seconds(reset))
    }
}

#[test]
fn the_example_of_its_documentation_reads_the_same() {
    let mut rates = Rates::start();
    assert_eq!(rates.run("CL.THROTTLE user123 15 30 60"), "[0 16 15 -1 2]");
    for left in (0..15).rev() {
        let reply = rates.run("CL.THROTTLE user123 15 30 60 1");
        assert_eq!(reply, format!("[0 16 {left} -1 {}]", 2 * (16 - left)));
    }
    assert_eq!(rates.run("CL.THROTTLE user123 15 30 60 1"), "[1 16 0 2 32]");
    assert_eq!(rates.run("CL.THROTTLE user123 15 30 60 17"), "[1 16 0 -1 32]");
    rates.store.pass_ms(500);
    assert_eq!(rates.run("CL.THROTTLE user123 15 30 60 0"), "[0 16 0 -1 32]");
    assert_eq!(rates.run("CL.THROTTLE user123 15 30 60 1"), "[1 16 0 2 32]");
    assert_eq!(rates.redis("KEYS *"), "*1\r\n$26\r\nratelimit:throttle:user123");
    let left = rates.store.pttl("ratelimit:throttle:user123");
    assert!((25_000..=32_001).contains(&left), "{left}");
}

#[test]
fn random_calls_are_answered_as_the_model_answers() {
    let mut random = Random(3);
    let mut rates = Rates::start();
    let mut models: [Model; 4] = Default::default();
    for step in 0..8000 {
        let bound = [1, 1500, 700_000, 9_000_000][random.below(4) as usize];
        rates.store.now_us += random.below(bound);
        let key = random.below(4) as usize;
        // Each key has its own limits, and now and then another plan.
        let plan = if random.below(10) == 0 { random.below(4) as usize } else { key };
        let [burst, count, period] = [[0, 1, 1], [15, 30, 60], [3, 7, 2], [100, 999_999, 1]][plan];
        let quantity = [1, 1, 1, 2, random.below(20) as i128][random.below(5) as usize];
        let expected =
            models[key].throttle(i128::from(rates.store.now_us) * 1000, [burst, count, period, quantity]);
        let line = format!("CL.THROTTLE k{key} {burst} {count} {period} {quantity}");
        assert_eq!(rates.run(&line), expected, "step {step}: {line}");
    }
}

#[test]
fn a_clock_that_steps_back_admits_nothing_twice() {
    let mut rates = Rates::start();
    rates.store.pass_ms(100_000);
    assert_eq!(rates.run("CL.THROTTLE k 0 1 10"), "[0 1 0 -1 10]");
    rates.store.now_us -= 4_000_000;
    assert_eq!(rates.run("CL.THROTTLE k 0 1 10"), "[1 1 0 14 14]");
    rates.store.pass_ms(13_999);
    assert!(rates.run("CL.THROTTLE k 0 1 10").starts_with("[1 1 0 1 "));
    rates.store.pass_ms(1);
    assert!(rates.run("CL.THROTTLE k 0 1 10").starts_with("[0 1 0 "));
    rates.store.now_us -= 60_000_000;
    assert!(rates.run("CL.THROTTLE k 0 1 10").starts_with("[0 1 0 "), "by more than a period: forgotten");
}
