//! The daemon's numbers in Prometheus text form, in the order in which they are declared. Read anew at each scrape:
//! nothing is kept here, so nothing has to be published in between. (The exporter's recorder takes histograms one
//! observation at a time; the workers have them counted already. So only its formatting is used.)

use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use crate::command::Group;
use crate::metrics::{Kind, Latencies, Number};
use crate::shared::Shared;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const LATENCY: &str = "madcache_l2_latency_seconds";
const LATENCY_HELP: &str = "Time from sending a request to L2 to its reply, by group; group \"other\" has the daemon's own \
                            PING and PTTL too.";

pub(super) fn render(shared: &Shared) -> String {
    let mut text = String::with_capacity(32 * 1024);
    head(&mut text, "madcache_build_info", "gauge", "Always 1; the version is its label.");
    let version = labels("version", env!("CARGO_PKG_VERSION"));
    write_metric_line(&mut text, "madcache_build_info", None, &version, None::<(_, u8)>, 1, None);
    write_numbers(&mut text, &shared.numbers());
    head(&mut text, LATENCY, "histogram", LATENCY_HELP);
    for group in Group::ALL {
        write_latencies(&mut text, group, shared.metrics.iter().map(|metrics| metrics.latencies(group)));
    }
    text
}

fn write_numbers(text: &mut String, numbers: &[Number]) {
    let shown: Vec<(String, &Number)> =
        numbers.iter().filter_map(|number| Some((family_name(number)?, number))).collect();
    for (at, (name, first)) in shown.iter().enumerate() {
        // All of a family stand behind its first member.
        if shown[..at].iter().any(|(earlier, _)| earlier == name) {
            continue;
        }
        let kind = if first.kind == Kind::Counter { "counter" } else { "gauge" };
        head(text, name, kind, first.member.map_or(first.help, |(family, _)| family.help));
        for (_, number) in shown[at..].iter().filter(|(other, _)| other == name) {
            write_number(text, name, number);
        }
    }
}

fn write_number(text: &mut String, name: &str, number: &Number) {
    let labels =
        number.member.map_or_else(|| label_set(Vec::new()), |(family, value)| labels(family.label, value));
    match number.name.ends_with("_ms") {
        true => {
            let seconds = number.value as f64 / 1e3;
            write_metric_line(text, name, None, &labels, None::<(_, u8)>, seconds, None);
        }
        false => write_metric_line(text, name, None, &labels, None::<(_, u8)>, number.value, None),
    }
}

/// By Prometheus's conventions: base units, counters end in `_total`.
fn family_name(number: &Number) -> Option<String> {
    let name = number.member.map_or(&*number.name, |(family, _)| family.name);
    match number.kind {
        Kind::Counter => Some(format!("madcache_{name}_total")),
        Kind::Gauge => Some(match name.strip_suffix("_ms") {
            Some(name) => format!("madcache_{name}_seconds"),
            None => format!("madcache_{name}"),
        }),
        Kind::Sum => None,
    }
}

fn write_latencies<'a>(text: &mut String, group: Group, workers: impl Iterator<Item = &'a Latencies>) {
    let mut counts = [0; Latencies::BUCKETS];
    let mut sum_us = 0;
    for latencies in workers {
        for (count, of_worker) in counts.iter_mut().zip(latencies.counts()) {
            *count += of_worker;
        }
        sum_us += latencies.sum_us();
    }
    let labels = labels("group", group.name());
    let mut below = 0;
    // The last bucket has no bound.
    for (i, count) in counts[..Latencies::BUCKETS - 1].iter().enumerate() {
        below += count;
        let bound = (1u64 << i) as f64 / 1e6;
        write_metric_line(text, LATENCY, Some("bucket"), &labels, Some(("le", bound)), below, None);
    }
    let all = below + counts[Latencies::BUCKETS - 1];
    write_metric_line(text, LATENCY, Some("bucket"), &labels, Some(("le", "+Inf")), all, None);
    let sum = sum_us as f64 / 1e6;
    write_metric_line(text, LATENCY, Some("sum"), &labels, None::<(_, u8)>, sum, None);
    write_metric_line(text, LATENCY, Some("count"), &labels, None::<(_, u8)>, all, None);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, kind);
}

fn labels(name: &'static str, value: &'static str) -> LabelSet {
    label_set(vec![Label::from_static_parts(name, value)])
}

fn label_set(labels: Vec<Label>) -> LabelSet {
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default())
}
