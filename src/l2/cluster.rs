//! Keeps the topology of a Redis Cluster: every node is asked what it serves, 2.5 times a second and whenever one says
//! something else than is known. Of contradicting words about a slot the one of the newest epoch holds; `members` says whose
//! words count.

mod members;
mod silence;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::{Warned, dial, look_at_settings};
use crate::clock::Moment;
use crate::command::SLOTS;
use crate::config::{Address, Target};
use crate::shared::{Cluster, Leader, Remote, Shared, View};
use members::{Absences, members};
use silence::{Silence, foremost, reason};

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
    let mut absences = Absences::default();
    let mut told = None;
    let mut heard = Moment::now();
    let mut warned = Warned::default();
    let mut rounds = 0u64;
    let mut first = true;
    loop {
        let round = Round::ask(&shared, cluster, &remote.target, &mut nodes).await;
        let answered = round.answers.len();
        let is_enough = answered > 0 && answered * 2 > round.gathered.masters.len();
        if answered > 0 {
            shared.revoke_leases_of(&cluster.learn(round.gathered.view()));
        }
        if let Some(members) = &round.members {
            for address in absences.removed(cluster.members(), members, Moment::now()) {
                tracing::info!("{address} was removed from the cluster: links to it are closed");
                cluster.remove(&address);
            }
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
            tell(&shared, &remote, is_up, &mut told, &round);
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

fn tell(shared: &Shared, remote: &Remote, is_up: bool, told: &mut Option<bool>, round: &Round) {
    remote.is_reachable.store(is_up, Relaxed);
    if let Some(cache) = shared.cache.as_ref().filter(|_| remote.is_l2) {
        cache.set_l2_down(!is_up);
    }
    let masters = remote.cluster.as_ref().map(|cluster| cluster.topology().nodes.len()).unwrap_or(0);
    match masters {
        0 => tell_unknown(remote, round),
        _ => remote.leader.set(Leader::Known(Arc::new(remote.target.clone()))),
    }
    if told.replace(is_up) == Some(is_up) {
        return;
    }
    match is_up {
        true => tracing::info!(masters, "{remote} is reachable: {}", remote.target.endpoint),
        false if masters == 0 => {}
        false => tracing::warn!(
            nodes_that_answer = round.answers.len(),
            reason = foremost(&round.silences).map(|silence| reason(silence, &remote.target)),
            "{remote} is not whole: too few nodes of {} answer, or slots are not served",
            remote.target.endpoint
        ),
    }
}

/// Nobody is known who serves a slot: clients and the log are told why, in the words of a node if one has any.
fn tell_unknown(remote: &Remote, round: &Round) {
    let (silences, answered) = (&round.silences, !round.answers.is_empty());
    // Where some answer, it is not for others that are away.
    let foremost = foremost(silences).filter(|(_, silence)| silence.is_hopeless() || !answered);
    let reason = match foremost {
        Some(silence) => reason(silence, &remote.target),
        None => "those that answer say that nobody serves a slot".into(),
    };
    let reason: Arc<str> = format!("the nodes of the cluster are not known: {reason}").into();
    if remote.leader.now() == Leader::Nobody(reason.clone()) {
        return;
    }
    match foremost.is_some_and(|(_, silence)| silence.is_hopeless()) {
        true => tracing::error!("{reason}: check {}", remote.setting()),
        false => tracing::warn!("{reason}"),
    }
    remote.leader.set(Leader::Nobody(reason));
}

/// One node's CLUSTER NODES.
struct Answer {
    asked: Address,
    text: String,
}

impl Answer {
    /// What the node says of itself.
    fn itself(&self) -> Option<Line<'_>> {
        lines(self).find(|line| line.is("myself"))
    }
}

/// What became of asking everybody once.
struct Round {
    /// Of nodes that belong to the cluster, as far as that can be said.
    answers: Vec<Answer>,
    silences: Vec<(Address, Silence)>,
    gathered: Gathered,
    /// None: it cannot be said who belongs to it.
    members: Option<HashSet<Address>>,
}

impl Round {
    /// Asks every node that is known; those that nobody knows any more are forgotten.
    async fn ask(shared: &Shared, cluster: &Cluster, target: &Target, nodes: &mut Vec<Node>) -> Round {
        let (mut answers, silences) = ask_all(shared, cluster, target, nodes).await;
        let mut gathered = Gathered::of(&answers);
        let members = members(&answers, &gathered.owners());
        if let Some(members) = &members {
            let asked = answers.len();
            answers.retain(|answer| answer.itself().is_some_and(|line| members.contains(&line.address)));
            if answers.len() < asked {
                gathered = Gathered::of(&answers);
            }
        }
        if !answers.is_empty() {
            let all = || answers.iter().flat_map(lines).filter(Line::is_there).map(|line| line.address);
            let known = members.clone().unwrap_or_else(|| all().collect());
            nodes.retain(|node| known.contains(&node.address));
            let have: HashSet<Address> = nodes.iter().map(|node| node.address.clone()).collect();
            nodes.extend(known.into_iter().filter(|address| !have.contains(address)).map(Node::new));
        }
        Round { answers, silences, gathered, members }
    }
}

async fn ask_all(
    shared: &Shared,
    cluster: &Cluster,
    target: &Target,
    nodes: &mut Vec<Node>,
) -> (Vec<Answer>, Vec<(Address, Silence)>) {
    if nodes.iter().all(|node| node.connection.is_none()) {
        let known: HashSet<Address> = nodes.iter().map(|node| node.address.clone()).collect();
        let new = cluster.seeds().iter().filter(|seed| !known.contains(*seed) && !cluster.is_removed(seed));
        nodes.extend(new.cloned().map(Node::new));
    }
    let round = nodes.iter_mut().map(|node| async {
        let at = target.at(&node.address);
        let silence = match tokio::time::timeout(PATIENCE, node.ask(shared, &at)).await {
            Ok(Ok(text)) => return Ok(Answer { asked: node.address.clone(), text }),
            Ok(Err(error)) => Silence::of(error, &at),
            Err(_) => Silence::late(PATIENCE, &at),
        };
        node.connection = None;
        Err((node.address.clone(), silence))
    });
    let (mut answers, mut silences) = (Vec::new(), Vec::new());
    for answer in join_all(round).await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(silence) => silences.push(silence),
        }
    }
    (answers, silences)
}

impl Node {
    fn new(address: Address) -> Node {
        Node { address, connection: None }
    }

    async fn ask(&mut self, shared: &Shared, target: &Target) -> RedisResult<String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(dial::logged_in(target, shared).await?),
        };
        redis::cmd("CLUSTER").arg("NODES").query_async(connection).await
    }
}

/// One line of CLUSTER NODES.
struct Line<'a> {
    id: &'a str,
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
        let (id, place, flags, epoch) = (words.first()?, words.get(1)?, words.get(2)?, words.get(6)?);
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
            id,
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
#[derive(Default)]
struct Gathered {
    /// See `View::owners`.
    owners: Vec<(u16, Option<Address>)>,
    unstable: HashSet<u16>,
    masters: HashSet<Address>,
    names: HashMap<Address, Address>,
}

/// Somebody's word about who serves some slots.
struct Claim {
    /// How much it counts: by its epoch, and about itself a node knows best.
    weight: (u64, bool),
    owner: Address,
    slots: Vec<RangeInclusive<u16>>,
}

impl Gathered {
    fn of(answers: &[Answer]) -> Gathered {
        let mut gathered = Gathered::default();
        let mut claims = Vec::new();
        for answer in answers {
            for line in lines(answer).filter(Line::is_there) {
                let names = line.hostname.clone().into_iter().chain([line.address.clone()]);
                gathered.names.extend(names.map(|name| (name, line.address.clone())));
                if line.is("master") {
                    claims.extend(gathered.claim(line));
                }
            }
        }
        gathered.owners = by_weight(claims);
        gathered
    }

    fn claim(&mut self, line: Line<'_>) -> Option<Claim> {
        let mut slots = Vec::new();
        for word in &line.slots {
            if let Some(moving) = word.strip_prefix('[') {
                let slot = moving.split('-').next().and_then(|slot| slot.parse::<u16>().ok());
                self.unstable.extend(slot.filter(|slot| *slot < SLOTS));
                continue;
            }
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
            if first <= last && last < SLOTS {
                slots.push(first..=last);
            }
        }
        if slots.is_empty() {
            return None;
        }
        self.masters.insert(line.address.clone());
        Some(Claim { weight: (line.epoch, line.is("myself")), owner: line.address, slots })
    }

    /// Everybody who serves a slot.
    fn owners(&self) -> HashSet<&Address> {
        self.owners.iter().filter_map(|(_, owner)| owner.as_ref()).collect()
    }

    fn view(&self) -> View {
        View { owners: self.owners.clone(), unstable: self.unstable.clone(), names: self.names.clone() }
    }
}

/// Whose the slots are by the words that count most; of equal ones the first holds.
fn by_weight(mut claims: Vec<Claim>) -> Vec<(u16, Option<Address>)> {
    claims.reverse();
    claims.sort_by_key(|claim| claim.weight);
    let mut owners = vec![u32::MAX; usize::from(SLOTS)];
    for (at, claim) in (0..).zip(&claims) {
        for slots in &claim.slots {
            owners[usize::from(*slots.start())..=usize::from(*slots.end())].fill(at);
        }
    }
    let mut first = 0;
    let runs = owners.chunk_by(|one, other| one == other).map(|run| {
        let begin = first;
        first += run.len() as u16;
        (begin, claims.get(run[0] as usize).map(|claim| claim.owner.clone()))
    });
    runs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(asked: u16, lines: &[&str]) -> Answer {
        Answer { asked: Address { host: "h".into(), port: asked }, text: lines.join("\n") }
    }

    /// By the port of the owner.
    fn owners(answers: &[Answer]) -> Vec<(u16, Option<u16>)> {
        let runs = Gathered::of(answers).owners.into_iter();
        runs.map(|(first, owner)| (first, owner.map(|owner| owner.port))).collect()
    }

    #[test]
    fn of_contradicting_words_the_newest_epochs_holds_and_then_the_nodes_own() {
        let old = answer(1, &["a h:1@1 myself,master - 0 0 1 c 0-16383", "b h:2@1 master - 0 0 2 c"]);
        let new =
            answer(2, &["b h:2@1 myself,master - 0 0 2 c 100-199 16383", "a h:1@1 master - 0 0 1 c 0-99"]);
        let split = [(0, Some(1)), (100, Some(2)), (200, Some(1)), (16_383, Some(2))];
        assert_eq!(owners(&[old, new]), split);
        let hearsay = answer(1, &["a h:1@1 myself,master - 0 0 1 c", "b h:2@1 master - 0 0 1 c 0-9"]);
        let itself = answer(3, &["c h:3@1 myself,master - 0 0 1 c 5-9"]);
        assert_eq!(owners(&[hearsay, itself]), [(0, Some(2)), (5, Some(3)), (10, None)]);
    }

    #[test]
    fn of_words_that_count_the_same_the_first_holds() {
        let one = answer(1, &["a h:1@1 myself,master - 0 0 1 c", "b h:2@1 master - 0 0 1 c 0-9"]);
        let other = answer(4, &["d h:4@1 myself,master - 0 0 1 c", "c h:3@1 master - 0 0 1 c 0-19"]);
        assert_eq!(owners(&[one, other]), [(0, Some(2)), (10, Some(3)), (20, None)]);
    }
}
