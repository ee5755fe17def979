//! What L1 costs in the process: a hit in a worker's front table, a hit in the table of all workers behind it, a miss,
//! and a fill. Keys, hashes and request ids are made as a session makes them; nothing is sent anywhere.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use madcache::cache::{Cache, Entry, FrontTable, Lease, RequestId, Scope, Terms};
use madcache::clock::Moment;
use madcache::command::{Row, lookup_name};
use madcache::config::{Config, Secret};
use madcache::resp::encode_request;
use madcache::shared::{Live, Shared};
use madcache::upstream::User;
use madcache::worker::Worker;

const KEYS: usize = 10_000;
const SCOPE: Scope = Scope { user: User::OWN, db: 0, resp3: false };
const FRESHNESS: Duration = Duration::from_secs(1);
/// `*2\r\n$3\r\nGET\r\n` stands before the key.
const TAIL_AT: usize = 13;
const KEY_AT: usize = TAIL_AT + 5;

/// A worker without a thread, its L1, and requests with their replies' size.
struct Setup {
    worker: Rc<Worker>,
    cache: Arc<Cache>,
    lease: Arc<Lease>,
    get: &'static Row,
    now: Moment,
    reply: Vec<u8>,
    wires: Vec<Vec<u8>>,
}

impl Setup {
    fn new(prefix: &str) -> Setup {
        let mut config = Config::default();
        config.upstream.url = Some(Secret::new("redis://127.0.0.1:6379"));
        let residences = config.residences().expect("a URL");
        let (mailbox, _) = tokio::sync::mpsc::channel(1);
        let shared = Arc::new(Shared::new(Live::new(config), residences, Default::default(), vec![mailbox]));
        let cache = shared.cache.clone().expect("L1 is on");
        let lease = shared.new_lease(0, 0);
        let now = Moment::now();
        lease.prove(now);
        let key = |i| format!("{prefix}:{i:012}");
        Setup {
            worker: Worker::new(0, shared),
            cache,
            lease,
            get: lookup_name("GET").expect("GET is a command"),
            now,
            reply: [&b"$100\r\n"[..], &[b'x'; 100], b"\r\n"].concat(),
            wires: (0..KEYS).map(|i| encode_request(&[&b"GET"[..], key(i).as_bytes()])).collect(),
        }
    }

    fn id<'a>(&self, wire: &'a [u8]) -> RequestId<'a> {
        let key_hash = self.worker.shared.hash(&wire[KEY_AT..wire.len() - 2]);
        self.worker.request_id(&self.cache, SCOPE, self.get, wire, TAIL_AT, key_hash)
    }

    /// An entry whose key's stamp has moved on so often since its request was sent.
    fn entry(&self, wire: &[u8], moved: u32) -> Entry {
        let id = self.id(wire);
        let terms = Terms {
            stamp: self.cache.stamps.claim(id.stripe).wrapping_sub(moved),
            incarnation: self.lease.incarnation(),
            lease: self.lease.clone(),
            deadline: self.now.after(Duration::from_secs(3600)),
            stale_ms_max: 0,
        };
        Entry::new(&id, &self.reply, terms)
    }

    fn fill_all(&self, front: &mut FrontTable) {
        for wire in &self.wires {
            assert!(self.cache.fill(front, self.entry(wire, 0), self.now));
        }
        self.cache.upkeep();
    }

    /// Hands the reply to `show`, which a session has copy it.
    fn look_up<R>(&self, front: &mut FrontTable, wire: &[u8], show: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.cache.lookup(front, &self.id(wire), self.now, FRESHNESS, |entry| show(entry.reply()))
    }
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    let setup = Setup::new("key");
    let absent = Setup::new("none");

    let mut front = FrontTable::default();
    setup.fill_all(&mut front);
    let one = &setup.wires[0];
    group.bench_function("front_hit_one_key", |bencher| {
        bencher.iter(|| setup.look_up(&mut front, black_box(one), <[u8]>::len).expect("a hit"))
    });
    let mut out: Vec<u8> = Vec::with_capacity(64 * 1024);
    group.bench_function("front_hit_one_key_and_copy", |bencher| {
        bencher.iter(|| {
            if out.len() > 32 * 1024 {
                out.clear();
            }
            let copy = |reply: &[u8]| out.extend_from_slice(reply);
            setup.look_up(&mut front, black_box(one), copy).expect("a hit");
        })
    });
    let mut wires = setup.wires.iter().cycle();
    group.bench_function("hit_10000_keys", |bencher| {
        bencher
            .iter(|| setup.look_up(&mut front, wires.next().expect("endless"), <[u8]>::len).expect("a hit"))
    });
    group.bench_function("moka_hit", |bencher| {
        bencher.iter(|| {
            front.forget(&setup.id(one));
            setup.look_up(&mut front, black_box(one), <[u8]>::len).expect("a hit")
        })
    });
    let mut wires = absent.wires.iter().cycle();
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            assert!(setup.look_up(&mut front, wires.next().expect("endless"), <[u8]>::len).is_none())
        })
    });
    group.finish();
}

fn fills(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fill");
    group.throughput(Throughput::Elements(1));
    let setup = Setup::new("key");
    let mut front = FrontTable::default();
    setup.fill_all(&mut front);
    let mut wires = setup.wires.iter().cycle();
    group.bench_function("entry", |bencher| {
        bencher.iter_batched(
            || wires.next().expect("endless"),
            |wire| setup.entry(wire, 0),
            BatchSize::SmallInput,
        )
    });
    let mut wires = setup.wires.iter().cycle();
    group.bench_function("replaced", |bencher| {
        bencher.iter_batched(
            || setup.entry(wires.next().expect("endless"), 0),
            |entry| assert!(setup.cache.fill(&mut front, entry, setup.now)),
            BatchSize::SmallInput,
        )
    });
    group.bench_function("refused", |bencher| {
        bencher.iter_batched(
            || setup.entry(&setup.wires[0], 2),
            |entry| assert!(!setup.cache.fill(&mut front, entry, setup.now)),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group!(benches, lookups, fills);
criterion_main!(benches);
