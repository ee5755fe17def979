//! The admin address: health, readiness, metrics in strict Prometheus text form; and SIGHUP, which takes a good file and
//! refuses a bad one.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::{Client, Daemon, Redis, encode, eventually};

#[test]
fn readiness_follows_redis_and_health_does_not() {
    let mut redis = Redis::start();
    let daemon = Daemon::start(&redis);
    eventually("ready once Redis is there", || daemon.http("/readyz").0 == 200);
    assert_eq!(daemon.http("/healthz").0, 200);
    redis.process.kill();
    eventually("not ready without Redis", || daemon.http("/readyz").0 == 503);
    assert_eq!(daemon.http("/healthz").0, 200, "the daemon itself is well");
    redis.restart();
    eventually("ready again", || daemon.http("/readyz").0 == 200);
    assert_eq!(daemon.http("/nowhere").0, 404);
}

#[test]
fn a_daemon_whose_redis_was_never_there_is_well_but_not_ready() {
    let mut redis = Redis::start();
    redis.process.kill();
    let daemon = Daemon::start(&redis);
    assert_eq!(daemon.http("/healthz").0, 200);
    assert_eq!(daemon.http("/readyz").0, 503);
}

/// One line of the text form: name, labels as written, value.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What `/metrics` says, by family, checked against the text form on the way.
#[derive(Default)]
struct Exposition {
    kinds: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    samples: Vec<Sample>,
}

impl Exposition {
    fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut all = Exposition::default();
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, _) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(all.helps.insert(name.into()), "a second HELP: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                let kinds = ["counter", "gauge", "histogram", "summary", "untyped"];
                assert!(is_name(name) && kinds.contains(&kind), "{line}");
                assert!(all.kinds.insert(name.into(), kind.into()).is_none(), "a second TYPE: {line}");
            } else if !line.starts_with('#') {
                let sample = parse_sample(line);
                assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
                let family = all.family(&sample.name).unwrap_or_else(|| panic!("no TYPE before: {line}"));
                assert!(all.helps.contains(&family), "{family} has no HELP");
                if all.kinds[&family] == "counter" {
                    assert!(sample.value >= 0.0 && sample.name.ends_with("_total"), "no counter: {line}");
                }
                all.samples.push(sample);
            }
        }
        all
    }

    /// The declared family that a sample belongs to.
    fn family(&self, sample: &str) -> Option<String> {
        let of_parts = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| sample.strip_suffix(suffix));
        let parts_of = |family: &&str| {
            matches!(self.kinds.get(*family).map(String::as_str), Some("histogram" | "summary"))
        };
        let family = [sample]
            .into_iter()
            .filter(|name| self.kinds.contains_key(*name))
            .chain(of_parts.filter(parts_of));
        family.map(String::from).next()
    }

    /// The samples whose name starts with the daemon's prefix and contains all of these words.
    fn about(&self, words: &[&str]) -> Vec<&Sample> {
        let about = |sample: &&Sample| {
            sample.name.starts_with("madcache_") && words.iter().all(|word| sample.name.contains(word))
        };
        self.samples.iter().filter(about).collect()
    }

    fn sum(&self, words: &[&str]) -> f64 {
        self.about(words).iter().map(|sample| sample.value).sum()
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn parse_sample(line: &str) -> Sample {
    let fail = || -> ! { panic!("no sample: {line}") };
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| fail());
    let value = value.parse().unwrap_or_else(|_| fail());
    let (name, inside) = match head.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap_or_else(|| fail())),
        None => (head, ""),
    };
    let mut labels = BTreeMap::new();
    let mut rest = inside;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| fail());
        let (mut value, mut end, mut chars) = (String::new(), None, after.char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '"' | 'n'))) => value.push(c),
                    _ => fail(),
                },
                c => value.push(c),
            }
        }
        assert!(is_name(label) && labels.insert(label.into(), value).is_none(), "{line}");
        rest = &after[end.unwrap_or_else(|| fail())..];
        rest = match rest.strip_prefix(',') {
            Some(more) => more,
            None if rest.is_empty() => rest,
            None => fail(),
        };
    }
    if !is_name(name) {
        fail();
    }
    Sample { name: name.into(), labels, value }
}

fn metrics(daemon: &Daemon) -> String {
    let (status, text) = daemon.http("/metrics");
    assert_eq!(status, 200, "/metrics: {text}");
    text
}

/// Labels without `le`, in order.
type Labels = Vec<(String, String)>;

/// Histograms have rising buckets that end with the count.
fn check_histograms(all: &Exposition) {
    for (family, _) in all.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in all.samples.iter().filter(|sample| sample.name == format!("{family}_bucket")) {
            let le = sample.labels.get("le").expect("a bucket has le").parse().expect("le is a number");
            let others = sample.labels.iter().filter(|(name, _)| *name != "le");
            let others = others.map(|(name, value)| (name.clone(), value.clone())).collect();
            series.entry(others).or_default().push((le, sample.value));
        }
        for (labels, buckets) in &series {
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family} {labels:?}: {buckets:?}");
            let (le, last) = *buckets.last().unwrap();
            assert!(le.is_infinite(), "{family} {labels:?} has no +Inf");
            let count = all.samples.iter().find(|sample| {
                sample.name == format!("{family}_count")
                    && sample.labels.clone().into_iter().collect::<Vec<_>>() == *labels
            });
            assert_eq!(count.expect("a histogram has a count").value, last, "{family} {labels:?}");
        }
    }
}

#[test]
fn metrics_are_in_text_form_and_tell_what_happened() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_SERVER_CLIENTS_MAX", "50")]);
    let mut client = daemon.client();
    assert_eq!(client.text(&["SET", "zzkey", "zzvalue"]), "+OK");
    for _ in 0..50 {
        assert_eq!(client.text(&["GET", "zzkey"]), "zzvalue");
        client.call(&["GET", "none"]);
    }
    client.call(&["EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "zzkey"]);
    client.call(&["GET", "zzkey"]);
    let crowd: Vec<Client> = (0..60).map(|_| daemon.client()).collect();
    eventually("a refusal is counted", || {
        Exposition::parse(&metrics(&daemon)).sum(&["refus", "_total"]) > 0.0
    });
    drop(crowd);

    let text = metrics(&daemon);
    let all = Exposition::parse(&text);
    check_histograms(&all);
    let families: [&[&str]; 14] = [
        &["hits"],
        &["misses"],
        &["fills"],
        &["fills", "refused"],
        &["invalidations"],
        &["evictions"],
        &["entries"],
        &["bytes"],
        &["commands"],
        &["links"],
        &["clients"],
        &["refus"],
        &["barriers"],
        &["staleness"],
    ];
    for words in families {
        assert!(!all.about(words).is_empty(), "no metric about {words:?} in\n{text}");
    }
    let grouped = |words: &[&str]| {
        all.about(words)
            .iter()
            .any(|sample| sample.labels.len() > usize::from(sample.labels.contains_key("le")))
    };
    assert!(grouped(&["commands"]), "commands are not counted by group");
    assert!(grouped(&["seconds"]) || grouped(&["latency"]), "no latency by group");
    assert!(grouped(&["refus"]), "refusals have no reason");
    assert!(all.sum(&["hits", "_total"]) > 0.0 && all.sum(&["misses", "_total"]) > 0.0, "{text}");
    assert!(all.sum(&["barriers", "_total"]) > 0.0, "{text}");
    for sample in &all.samples {
        assert!(sample.value.is_finite() || sample.value.is_nan(), "{} is {}", sample.name, sample.value);
    }
    assert!(!text.contains("zzkey") && !text.contains("zzvalue"), "keys or values are shown");
}

#[test]
fn metrics_do_not_go_backwards() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    for n in 0..20 {
        for _ in 0..20 {
            client.call(&["SET", "a", &n.to_string()]);
            client.call(&["GET", "a"]);
        }
        let all = Exposition::parse(&metrics(&daemon));
        for sample in all.samples.iter().filter(|sample| sample.name.ends_with("_total")) {
            let name = format!("{}{:?}", sample.name, sample.labels);
            let before = last.insert(name.clone(), sample.value).unwrap_or(0.0);
            assert!(sample.value >= before, "{name} fell from {before} to {}", sample.value);
        }
    }
}

/// How many clients are served at once, up to ten.
fn served(daemon: &Daemon) -> usize {
    let mut clients: Vec<Client> = (0..10).map(|_| daemon.client()).collect();
    let answers = |client: &mut Client| {
        client.send_raw(&encode(&["PING"])).is_ok()
            && client.try_read_frame().is_ok_and(|reply| reply == b"+PONG\r\n")
    };
    clients.iter_mut().filter_map(|client| answers(client).then_some(())).count()
}

#[test]
fn a_reload_takes_a_good_file_and_refuses_a_bad_one_with_its_line() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("madcache.toml");
    std::fs::write(&file, "[server]\nclients_max = 8\n").unwrap();
    let daemon = Daemon::spawn_as(&redis.url(), &[], |command| {
        command.arg("--config").arg(&file);
    })
    .ready();
    eventually("the file's limit applies", || served(&daemon) == 8);

    std::fs::write(&file, "[server]\nclients_max = 4\n").unwrap();
    daemon.process.signal("HUP");
    eventually("the new limit applies", || served(&daemon) == 4);

    for (text, line) in [
        ("[server]\nclients_max = 6\nclients_mux = 7\n", 3),
        ("[server]\nclients_max = \"many\"\n", 2),
        ("[server]\nclients_max = 6\n\n[limits\n", 4),
    ] {
        let logged = daemon.stderr().len();
        std::fs::write(&file, text).unwrap();
        daemon.process.signal("HUP");
        eventually("the bad file is refused with its line", || {
            let log = daemon.stderr().split_off(logged);
            log.contains("madcache.toml")
                && (log.contains(&format!("line {line}")) || log.contains(&format!(":{line}")))
        });
        eventually("the old limit stays", || served(&daemon) == 4);
    }

    std::fs::write(&file, "[server]\nclients_max = 5\n").unwrap();
    daemon.process.signal("HUP");
    eventually("a good file is taken again", || served(&daemon) == 5);
}
