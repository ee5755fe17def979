//! Keeps the topology of a Redis Cluster: every node is asked what it serves, twice a second and whenever one says
//! something else than is known. Of contradicting words about a slot the one of the newest epoch holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};

use super::{Warned, ask, dial, look_at_settings};
use crate::clock::Moment;
use crate::command::SLOTS;
use crate::config::{Address, Target};
use crate::shared::{Cluster, Remote, Shared, View};

const PACE: Duration = Duration::from_millis(400);
/// The least pause between two rounds, however much doubt there is.
const PACE_IN_DOUBT: Duration = Duration::from_millis(20);
/// An answer that takes longer counts as none in this round.
const PATIENCE: Duration = Duration::from_millis(300);
/// Settings of a node are looked at this many rounds apart.
const SETTINGS_EVERY: u64 = 75;

/// What one node said, and how to ask it again.
struct Node {
    address: Address,
    connection: Option<MultiplexedConnection>,
}

/// Waits for the first round of every cluster, which takes milliseconds: whoever asked before would be refused. Where no node
/// answers, that is what happens.
pub async fn know_nodes(shared: &Shared) {
    const PACE: Duration = Duration::from_millis(2);
    let remotes = std::iter::once(&shared.l2).chain(&shared.places.own);
    let known = async {
        for cluster in remotes.filter_map(|remote| remote.cluster.as_ref()) {
            while cluster.topology().nodes.is_empty() {
                tokio::time::sleep(PACE).await;
            }
        }
    };
    // The patience of that round, and time to run.
    let _ = tokio::time::timeout(2 * PATIENCE, known).await;
}

/// Follows a cluster as long as the daemon runs.
pub async fn follow(shared: Arc<Shared>, remote: Arc<Remote>) {
    let Some(cluster) = &remote.cluster else { return };
    remote.is_reachable.store(false, Relaxed);
    let mut nodes: Vec<Node> = Vec::new();
    let mut told = None;
    let mut heard = Moment::now();
    let mut warned = Warned::default();
    let mut rounds = 0u64;
    let mut first = true;
    loop {
        let answers = ask_all(&shared, cluster, &remote.target, &mut nodes).await;
        let view = Gathered::of(&answers);
        let answered = answers.len();
        let is_enough = answered > 0 && answered * 2 > view.masters.len();
        if answered > 0 {
            shared.revoke_leases_of(&cluster.learn(view.view()));
        }
        cluster.looked();
        match is_enough {
            true => heard = Moment::now(),
            // Nobody says any more whether what L1 holds still has its owner.
            false if Moment::now().since(heard) > freshness(&shared) => shared.revoke_leases(),
            false => {}
        }
        let is_up = is_enough && cluster.topology().is_complete();
        // The first round knows no nodes but the seeds.
        let is_first = told.is_none() && answered > 0 && std::mem::take(&mut first);
        if !is_first {
            tell(&shared, &remote, is_up, &mut told, &answers);
        }
        if is_up && rounds.is_multiple_of(SETTINGS_EVERY) {
            let connection = nodes.iter_mut().find_map(|node| node.connection.as_mut());
            if let Some(connection) = connection {
                // Asked again with the next turn.
                let _ = look_at_settings(&shared, &remote, connection, &mut warned).await;
            }
        }
        rounds = if is_up { rounds + 1 } else { 0 };
        tokio::time::sleep(PACE_IN_DOUBT).await;
        if is_first {
            continue;
        }
        let _ = tokio::time::timeout(PACE - PACE_IN_DOUBT, cluster.doubts.notified()).await;
    }
}

fn freshness(shared: &Shared) -> Duration {
    Duration::from_millis(shared.live.load().config.cache.max_staleness_ms)
}

fn tell(shared: &Shared, remote: &Remote, is_up: bool, told: &mut Option<bool>, answers: &[Answer]) {
    remote.is_reachable.store(is_up, Relaxed);
    if let Some(cache) = shared.cache.as_ref().filter(|_| remote.is_l2) {
        cache.set_l2_down(!is_up);
    }
    if told.replace(is_up) == Some(is_up) {
        return;
    }
    let topology = remote.cluster.as_ref().map(|cluster| cluster.topology().nodes.len()).unwrap_or(0);
    match is_up {
        true => tracing::info!(masters = topology, "{remote} is reachable: {}", remote.target.endpoint),
        false => tracing::warn!(
            nodes_that_answer = answers.len(),
            "{remote} is not whole: too few nodes of {} answer, or slots are not served",
            remote.target.endpoint
        ),
    }
}

/// One node's CLUSTER NODES.
struct Answer {
    asked: Address,
    text: String,
}

/// Asks every node that is known; those that nobody knows any more are forgotten.
async fn ask_all(shared: &Shared, cluster: &Cluster, target: &Target, nodes: &mut Vec<Node>) -> Vec<Answer> {
    if nodes.iter().all(|node| node.connection.is_none()) {
        let known: HashSet<Address> = nodes.iter().map(|node| node.address.clone()).collect();
        let new = cluster.seeds().iter().filter(|seed| !known.contains(*seed)).cloned();
        nodes.extend(new.map(|address| Node { address, connection: None }));
    }
    let round = nodes.iter_mut().map(|node| async {
        let text = tokio::time::timeout(PATIENCE, node.ask(shared, target)).await;
        match text {
            Ok(Ok(text)) => Some(Answer { asked: node.address.clone(), text }),
            _ => {
                node.connection = None;
                None
            }
        }
    });
    let answers: Vec<Answer> = join_all(round).await.into_iter().flatten().collect();
    let mut known: HashSet<Address> = HashSet::new();
    for answer in &answers {
        known.extend(lines(answer).filter(Line::is_there).map(|line| line.address));
    }
    if !answers.is_empty() {
        nodes.retain(|node| known.contains(&node.address));
        let have: HashSet<Address> = nodes.iter().map(|node| node.address.clone()).collect();
        nodes.extend(
            known.into_iter().filter(|a| !have.contains(a)).map(|address| Node { address, connection: None }),
        );
    }
    answers
}

impl Node {
    async fn ask(&mut self, shared: &Shared, target: &Target) -> RedisResult<String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(dial::connection(&target.at(&self.address), shared).await?),
        };
        let text: Option<String> = ask(connection, &["CLUSTER", "NODES"]).await?;
        text.ok_or_else(|| RedisError::from((redis::ErrorKind::Client, "it is no node of a cluster")))
    }
}

/// One line of CLUSTER NODES.
struct Line<'a> {
    address: Address,
    /// Where others may say that it is, if it has a name besides.
    hostname: Option<Address>,
    flags: Vec<&'a str>,
    epoch: u64,
    /// Ranges of slots, and `[slot->-node]`.
    slots: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str, asked: &Address) -> Option<Line<'a>> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (_, place, flags, epoch) = (words.first()?, words.get(1)?, words.get(2)?, words.get(6)?);
        let (place, rest) = place.split_once('@').unwrap_or((place, ""));
        let (host, port) = place.rsplit_once(':')?;
        let at = |host: &str| Some(Address { host: host.to_owned(), port: port.parse().ok()? });
        let hostname = rest.split(',').nth(1).filter(|name| !name.is_empty()).and_then(at);
        let flags: Vec<&str> = flags.split(',').collect();
        // Where it is a node learns from others; a lone one is where it was asked.
        let address = match host.is_empty() && flags.contains(&"myself") {
            true => asked.clone(),
            false => at(host)?,
        };
        Some(Line {
            address,
            hostname,
            flags,
            epoch: epoch.parse().ok()?,
            slots: words.get(8..).unwrap_or_default().to_vec(),
        })
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn is_there(&self) -> bool {
        !self.is("noaddr") && !self.is("handshake") && !self.address.host.is_empty()
    }
}

fn lines(answer: &Answer) -> impl Iterator<Item = Line<'_>> {
    answer.text.lines().filter_map(|line| Line::parse(line, &answer.asked))
}

/// What all answers together say.
struct Gathered {
    /// By slot: the newest word.
    owners: Vec<Option<(u64, bool, Arc<Address>)>>,
    unstable: HashSet<u16>,
    masters: HashSet<Address>,
    names: HashMap<Address, Address>,
}

impl Gathered {
    fn of(answers: &[Answer]) -> Gathered {
        let mut gathered = Gathered {
            owners: vec![None; usize::from(SLOTS)],
            unstable: HashSet::new(),
            masters: HashSet::new(),
            names: HashMap::new(),
        };
        for answer in answers {
            for line in lines(answer).filter(Line::is_there) {
                let names = line.hostname.clone().into_iter().chain([line.address.clone()]);
                gathered.names.extend(names.map(|name| (name, line.address.clone())));
                if line.is("master") {
                    gathered.add(line);
                }
            }
        }
        gathered
    }

    fn add(&mut self, line: Line<'_>) {
        let myself = line.is("myself");
        let mut serves = false;
        let address = Arc::new(line.address.clone());
        for word in &line.slots {
            if let Some(moving) = word.strip_prefix('[') {
                let slot = moving.split('-').next().and_then(|slot| slot.parse::<u16>().ok());
                self.unstable.extend(slot.filter(|slot| *slot < SLOTS));
                continue;
            }
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
            serves = true;
            for slot in first..=last.min(SLOTS - 1) {
                let place = &mut self.owners[usize::from(slot)];
                // About itself a node knows best.
                if place.as_ref().is_none_or(|(epoch, itself, _)| (line.epoch, myself) > (*epoch, *itself)) {
                    *place = Some((line.epoch, myself, address.clone()));
                }
            }
        }
        if serves {
            self.masters.insert(line.address);
        }
    }

    fn view(self) -> View {
        let owners = self.owners.into_iter().map(|owner| owner.map(|(_, _, address)| address)).collect();
        View { owners, unstable: self.unstable, names: self.names }
    }
}
