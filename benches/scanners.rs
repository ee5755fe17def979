//! What scanning the usual small frames costs.
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use madcache::command::Shape;
use madcache::resp::*;
use std::hint::black_box;

const LIMITS: RequestLimits = RequestLimits {
    args_max: 1 << 20,
    bulk_bytes_max: 1 << 29,
    inline_bytes_max: 65536,
    authenticated: true,
};

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let requests: [(&str, &[&[u8]]); 2] =
        [("get", &[b"GET", b"key:000000001234"]), ("set_100", &[b"SET", b"key:000000001234", &[b'x'; 100]])];
    for (name, args) in requests {
        let wire = encode_request(args);
        let mut scanner = RequestScanner::default();
        group.throughput(Throughput::Elements(1)).bench_function(name, |bencher| {
            bencher.iter(|| {
                let found = scanner.scan(black_box(&wire), &LIMITS);
                assert!(matches!(found, RequestScan::Complete { .. }));
                scanner.ranges().len()
            });
        });
    }
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    let mut scores = b"*100\r\n".to_vec();
    for i in 0..100 {
        scores.extend_from_slice(format!("*2\r\n$8\r\nmember{i:02}\r\n,{i}.5\r\n").as_bytes());
    }
    let bulk = [&b"$100\r\n"[..], &[b'x'; 100], b"\r\n"].concat();
    let replies = [
        ("bulk_100", bulk),
        ("ok", b"+OK\r\n".to_vec()),
        ("null", b"$-1\r\n".to_vec()),
        ("scores_100", scores),
    ];
    for (name, wire) in &replies {
        let mut scanner = ReplyScanner::default();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let found = scanner.scan(black_box(wire));
                assert!(matches!(found, ReplyScan::Complete(_)));
                found
            });
        });
    }
    let mut out = Vec::new();
    group.bench_function("scores_100_to_resp2", |bencher| {
        bencher.iter(|| {
            out.clear();
            resp3_to_resp2(black_box(&replies[3].1), Shape::Scores, &mut out)
        });
    });
    group.finish();
}

criterion_group!(benches, requests, replies);
criterion_main!(benches);
