//! A node of a cluster does not serve a request's slot: where the request goes instead. Nothing was executed there, so it
//! may be sent again, also if it writes.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::link::{Kept, Link};
use super::pending::{Asker, Expect, Failure, Frame, Pending};
use super::{FillEach, LinkSet, Purpose, replies};
use crate::clock::Moment;
use crate::command::{self, Group, Route};
use crate::config::{Address, Endpoint};
use crate::resp;
use crate::session::{Displaced, Waited};
use crate::worker::Worker;

/// How long a request is sent to and fro, a slot may be unserved, or its keys be divided, before the client learns of it.
pub const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// Nodes that send a request to each other more often than that do not know better yet: it waits.
const HASTE_MAX: u32 = 4;

/// Instead of a redirection, which is no client's business.
const ON_ITS_WAY: &[u8] =
    b"-TRYAGAIN the hash slot of the request is on its way between nodes: repeat the request\r\n";

/// As Redis words it: of the keys of a request some are here, some are not.
const DIVIDED: &[u8] = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
/// What a script raises that reaches for an undeclared key which the node does not have, or not any more.
const NOT_ITS_KEY: &[u8] = b"-ERR Script attempted to access a non local key";

pub const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// A request that may go to another node.
struct Again {
    wire: Bytes,
    detour: Box<Detour>,
}

impl Again {
    fn of(link: &Link, pending: &mut Pending) -> Option<Again> {
        let wire = link.take_kept(pending)?;
        let sent = pending.sent;
        let since = || pending.expect.asker().map_or(sent, |asker| asker.session.patient_since(sent));
        let detour = pending.detour.take().unwrap_or_else(|| Detour::new(since()).into());
        Some(Again { wire, detour })
    }

    fn slot(&self) -> Option<u16> {
        command::slot_of_request(&self.wire)
    }

    /// Whether it is a script, or something that the table does not know.
    fn may_word_it_itself(&self) -> bool {
        let words: Vec<&[u8]> = resp::array_elements(&self.wire)
            .unwrap_or_default()
            .into_iter()
            .filter_map(resp::bulk_text)
            .collect();
        command::lookup_argv(&words).is_none_or(|row| row.route == Route::Script)
    }

    /// What this reply to such a request may mean, if it reads as that node would word it.
    fn doubtful(&self, worker: &Worker, link: &Link, frame: &[u8]) -> Option<Doubtful> {
        let node = &link.set.upstream;
        let Endpoint::Tcp { host, .. } = &node.remote.target.endpoint else { return None };
        let is_this_node = |to: &Address| {
            let whole = worker.whole_of(node)?;
            let cluster = whole.remote.cluster.as_ref()?;
            Some(cluster.node(&cluster.known(to)?).number == node.remote.number)
        };
        let names = |slot, to| Some(slot) == self.slot() && is_this_node(to) != Some(true);
        match Redirect::parse(frame, host)? {
            Redirect::Moved { slot, to } => names(slot, &to).then_some(Doubtful::Moved),
            Redirect::Ask { slot, to } => names(slot, &to).then_some(Doubtful::OnItsWay),
            Redirect::Later => (frame == DIVIDED).then_some(Doubtful::OnItsWay),
        }
    }
}

/// What a script that may word it itself says of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubtful {
    /// It is another node's.
    Moved,
    /// It moves.
    OnItsWay,
}

/// What a node says that does not serve a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The slot is another node's.
    Moved { slot: u16, to: Address },
    /// This request is another node's, the slot is on its way there.
    Ask { slot: u16, to: Address },
    /// Keys of the request are on both nodes, or nobody serves the slot, or the node is not ready.
    Later,
}

impl Redirect {
    /// `asked`: the host of the node that says so, which may leave its own out.
    fn parse(frame: &[u8], asked: &str) -> Option<Redirect> {
        if frame.first() != Some(&b'-') {
            return None;
        }
        let line = std::str::from_utf8(frame.strip_suffix(b"\r\n")?).ok()?;
        let mut words = line.split(' ');
        let word = words.next()?;
        match word {
            "-MOVED" | "-ASK" => {
                let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < command::SLOTS)?;
                let (host, port) = words.next()?.rsplit_once(':')?;
                let host = match host {
                    "" => asked,
                    // The node does not know where.
                    "?" => return Some(Redirect::Later),
                    host => host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host),
                };
                let to = Address { host: host.to_owned(), port: port.parse().ok()? };
                Some(if word == "-MOVED" { Redirect::Moved { slot, to } } else { Redirect::Ask { slot, to } })
            }
            "-TRYAGAIN" | "-CLUSTERDOWN" | "-MASTERDOWN" => Some(Redirect::Later),
            // Who waited in a master that has become a replica.
            "-UNBLOCKED" if words.next() == Some("force") => Some(Redirect::Later),
            _ => None,
        }
    }
}

impl Link {
    /// Whether this reply says that the node does not serve the request, so that nothing was executed.
    pub fn was_not_served(&self, worker: &Worker, frame: &[u8]) -> bool {
        self.redirect(worker, frame).is_some()
    }

    /// What this reply says of the node, if it is such a word. It is noted.
    pub(super) fn redirect(&self, worker: &Worker, frame: &[u8]) -> Option<Redirect> {
        let redirect = self.told_elsewhere(worker, frame)?;
        self.note_redirect(worker, &redirect);
        Some(redirect)
    }

    fn note_redirect(&self, worker: &Worker, redirect: &Redirect) {
        let Some(whole) = worker.whole_of(&self.set.upstream) else { return };
        let Some(cluster) = &whole.remote.cluster else { return };
        match redirect {
            Redirect::Moved { slot, to } => worker.shared.revoke_leases_of(&cluster.moved(*slot, to)),
            Redirect::Ask { slot, .. } => worker.shared.revoke_leases_of(&cluster.moves(*slot)),
            Redirect::Later => cluster.doubts.notify_one(),
        }
    }

    fn is_unstable(&self, worker: &Worker, slot: u16) -> bool {
        let whole = worker.whole_of(&self.set.upstream);
        let cluster = whole.as_ref().and_then(|whole| whole.remote.cluster.as_ref());
        cluster.is_some_and(|cluster| cluster.topology().is_unstable(slot))
    }

    /// The same, not noted. Nobody is sent to a stranger: what the cluster's nodes do not know yet, they are asked about.
    fn told_elsewhere(&self, worker: &Worker, frame: &[u8]) -> Option<Redirect> {
        if !self.is_of_a_cluster || frame.first() != Some(&b'-') {
            return None;
        }
        let Endpoint::Tcp { host, .. } = &self.set.upstream.remote.target.endpoint else { return None };
        let redirect = Redirect::parse(frame, host)?;
        worker.metrics.redirects.add(1);
        let whole = worker.whole_of(&self.set.upstream)?;
        let cluster = whole.remote.cluster.as_ref()?;
        Some(match redirect {
            Redirect::Moved { slot, to } => {
                cluster.known(&to).map_or(Redirect::Later, |to| Redirect::Moved { slot, to })
            }
            Redirect::Ask { slot, to } => {
                cluster.known(&to).map_or(Redirect::Later, |to| Redirect::Ask { slot, to })
            }
            Redirect::Later => Redirect::Later,
        })
    }
}

/// What a client is told of a request that no node serves in time: this reply, if it does not name a node.
pub(super) fn last_word(frame: &[u8]) -> Bytes {
    let names_a_node = frame.starts_with(b"-MOVED ") || frame.starts_with(b"-ASK ");
    if names_a_node { Bytes::from_static(ON_ITS_WAY) } else { Bytes::copy_from_slice(frame) }
}

/// A reply that is an error: a request that this node did not serve is sent elsewhere, or read anew by whoever waits for it.
/// Gives one back whose reply stands.
pub(super) fn follow(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    mut pending: Pending,
    frame: &Frame<'_>,
) -> Option<Pending> {
    let frame = frame.as_slice();
    match pending.expect {
        Expect::FillValue(fill) if link.was_not_served(worker, frame) => {
            // Its PTTL, which comes next, nobody waits for.
            replies::fill_failed(worker, *fill);
            return None;
        }
        Expect::FillEach(each) if link.was_not_served(worker, frame) => {
            FillEach::failed(*each, worker);
            return None;
        }
        _ => {}
    }
    // Who keeps the request by itself looks at its reply by itself.
    if matches!(pending.kept, Kept::Nothing) {
        return Some(pending);
    }
    let Some(redirect) = link.told_elsewhere(worker, frame) else { return Some(pending) };
    let Some(mut again) = Again::of(link, &mut pending) else { return Some(pending) };
    if again.may_word_it_itself() {
        let Some(doubtful) = again.doubtful(worker, link, frame) else { return Some(pending) };
        let is_unstable = again.slot().is_some_and(|slot| link.is_unstable(worker, slot));
        // The one that a slot leaves never says that it is another's.
        if !again.detour.verified && (doubtful == Doubtful::Moved || !is_unstable) {
            if let Some(asker) = pending.expect.asker() {
                asker.session.doubt(asker.seq);
            }
            let doubted = Doubted { again, redirect, doubtful, reply: Bytes::copy_from_slice(frame) };
            tokio::task::spawn_local(believe_nodes_alone(worker.clone(), link.clone(), pending, doubted));
            return None;
        }
    }
    link.note_redirect(worker, &redirect);
    match again.detour.turn(worker, redirect) {
        Some(pause) => Elsewhere::of(link, pending, again).go(worker, pause, last_word(frame)),
        None => {
            if let Some(asker) = pending.expect.asker() {
                asker.session.ran_out_of_patience();
            }
            replies::hand_over(worker, link, pending, Frame::Owned(last_word(frame)));
        }
    }
    None
}

/// What a client is told instead of this reply, if that sends the request elsewhere.
pub(super) fn told_instead(worker: &Worker, link: &Link, frame: &[u8]) -> Option<Bytes> {
    link.told_elsewhere(worker, frame).map(|_| last_word(frame))
}

/// A script's reply that sends it elsewhere.
struct Doubted {
    again: Again,
    redirect: Redirect,
    doubtful: Doubtful,
    reply: Bytes,
}

/// A script, and whatever else the table does not know, can answer with an error of its own that reads like a redirection,
/// after it has written. Nothing was executed only if the nodes themselves say that this one does not serve the slot.
async fn believe_nodes_alone(worker: Rc<Worker>, link: Rc<Link>, pending: Pending, doubted: Doubted) {
    let Doubted { mut again, redirect, doubtful, mut reply } = doubted;
    let node = &link.set.upstream;
    let asker = pending.expect.asker().cloned();
    let whole = worker.whole_of(node);
    let cluster = whole.as_ref().and_then(|whole| whole.remote.cluster.as_ref());
    if let (Some(cluster), Some(slot)) = (cluster, again.slot()) {
        cluster.look_again().await;
        let topology = cluster.topology();
        let serves = topology.owner(slot).is_some_and(|owner| owner.number == node.remote.number);
        let is_unstable = topology.is_unstable(slot);
        if !serves || is_unstable && doubtful == Doubtful::OnItsWay {
            again.detour.verified = true;
            match again.detour.turn(&worker, redirect) {
                Some(pause) => {
                    // What the node said then may not hold any more: the one that serves the slot says it anew.
                    again.detour.asked = None;
                    let last_word = last_word(&reply);
                    return Elsewhere::of(&link, pending, again).go(&worker, pause, last_word);
                }
                None => {
                    if let Some(asker) = &asker {
                        asker.session.ran_out_of_patience();
                    }
                    reply = last_word(&reply);
                }
            }
        }
    }
    replies::hand_over(&worker, &link, pending, Frame::Owned(reply));
    if let Some(asker) = asker {
        asker.session.believe(&worker, asker.seq);
    }
}

/// The way of requests that the daemon keeps by itself, from node to node.
pub struct Detour {
    since: Moment,
    redirects: u32,
    /// The nodes themselves have said that the slot is on its way, or another's.
    verified: bool,
    /// It was sent there for this time only.
    asked: Option<Address>,
}

impl Detour {
    /// `since`: from when on the patience counts.
    pub fn new(since: Moment) -> Detour {
        Detour { since, redirects: 0, verified: false, asked: None }
    }

    /// Where to go next. `whole`: the links of the Redis where its kind lives.
    pub fn links(
        &self,
        worker: &Rc<Worker>,
        whole: &Rc<LinkSet>,
        slot: Option<u16>,
    ) -> Result<Rc<LinkSet>, Failure> {
        match (&self.asked, &whole.upstream.remote.cluster, slot) {
            (Some(address), Some(cluster), _) => {
                let node = worker.node(&whole.upstream, &cluster.node(address));
                Ok(node.set(&whole.user, whole.db))
            }
            (None, Some(_), Some(slot)) => whole.of_slot(worker, slot),
            _ => Ok(whole.clone()),
        }
    }

    /// It is about to be sent: another node is asked for this time only if the node that says so has said it just now.
    pub fn go_on(&mut self, waited: Waited) {
        if waited == Waited::Yes {
            self.asked = None;
        }
    }

    /// What stands before a request that was sent there for this time only.
    pub fn ask(&self, worker: &Rc<Worker>, link: &Rc<Link>) {
        if self.asked.is_some() {
            link.send(worker, ASKING, Expect::Nobody, Group::Other);
        }
    }

    /// Whether the reply sends the request elsewhere.
    pub fn follows(&mut self, worker: &Worker, link: &Link, frame: &[u8]) -> Way {
        self.way(worker, link.redirect(worker, frame), frame)
    }

    /// The same of a script of the daemon's own. One that finds keys writes nothing before it has looked for all of them, and is
    /// asked of no node that does not serve the slot yet: there, what has not come yet is missing.
    pub fn follows_script(&mut self, worker: &Worker, link: &Link, finds_keys: bool, frame: &[u8]) -> Way {
        if finds_keys && link.is_of_a_cluster && frame.starts_with(NOT_ITS_KEY) {
            link.note_redirect(worker, &Redirect::Later);
            return self.way(worker, Some(Redirect::Later), DIVIDED);
        }
        match link.redirect(worker, frame) {
            Some(Redirect::Ask { .. }) if finds_keys => self.way(worker, Some(Redirect::Later), DIVIDED),
            redirect => self.way(worker, redirect, frame),
        }
    }

    fn way(&mut self, worker: &Worker, redirect: Option<Redirect>, frame: &[u8]) -> Way {
        let Some(redirect) = redirect else { return Way::Stands };
        match self.turn(worker, redirect) {
            Some(pause) => Way::Elsewhere(pause, last_word(frame)),
            None => Way::Ends(last_word(frame)),
        }
    }

    /// From when on its patience counts.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// After which pause it goes on. `None`: it was sent to and fro for long enough.
    pub fn turn(&mut self, worker: &Worker, redirect: Redirect) -> Option<Duration> {
        self.redirects += 1;
        if Moment::now().since(self.since) > PATIENCE {
            return None;
        }
        let waits = match redirect {
            Redirect::Later => true,
            Redirect::Moved { .. } => self.redirects > HASTE_MAX,
            Redirect::Ask { .. } => false,
        };
        self.asked = match redirect {
            Redirect::Ask { to, .. } => Some(to),
            _ => None,
        };
        Some(if waits { worker.jitter(PAUSE) } else { Duration::ZERO })
    }
}

/// What follows from a reply for a request that the daemon keeps by itself.
pub enum Way {
    /// The reply is the request's own.
    Stands,
    /// The request was not executed, and goes elsewhere after this pause; that is what it is answered if it cannot.
    Elsewhere(Duration, Bytes),
    /// It was not executed, and that is its answer.
    Ends(Bytes),
}

/// A request between two nodes.
struct Elsewhere {
    expect: Expect,
    group: Group,
    again: Again,
    /// The links of the node that did not serve it.
    from: Rc<LinkSet>,
    purpose: Purpose,
    resp3: bool,
}

impl Elsewhere {
    fn of(link: &Link, pending: Pending, again: Again) -> Elsewhere {
        let Pending { expect, group, .. } = pending;
        Elsewhere { expect, group, again, from: link.set.clone(), purpose: link.purpose, resp3: link.resp3 }
    }

    fn go(mut self, worker: &Rc<Worker>, pause: Duration, last_word: Bytes) {
        // What decides how a session goes on has no place among its requests.
        let asker = self.expect.asker().filter(|asker| asker.seq != u64::MAX).cloned();
        if let Some(Asker { session, seq }) = asker {
            let since = self.again.detour.since;
            let send = Box::new(|worker: &Rc<Worker>, waited| {
                self.again.detour.go_on(waited);
                self.send(worker);
            });
            return session.displace(worker, Displaced { seq, since, pause, replies: vec![last_word], send });
        }
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            self.send(&worker);
        });
    }

    fn send(self, worker: &Rc<Worker>) {
        let Elsewhere { expect, group, again, from, purpose, resp3 } = self;
        let links = match worker.whole_of(&from.upstream) {
            Some(whole) => again.detour.links(worker, &whole.set(&from.user, from.db), again.slot()),
            None => Ok(from),
        };
        match links.and_then(|links| links.of_purpose(worker, purpose, resp3)) {
            Ok(link) => {
                again.detour.ask(worker, &link);
                if let Some(asker) = expect.asker() {
                    asker.session.wrote_on(&link);
                }
                link.send_on(worker, &again.wire, expect, group, Some(again.detour));
            }
            Err(failure) => replies::failed(worker, expect, failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read_as_redis_writes_them() {
        let parse = |line: &str| Redirect::parse(format!("{line}\r\n").as_bytes(), "asked");
        let to = |host: &str, port| Address { host: host.to_owned(), port };
        let moved = |slot, host: &str, port| Some(Redirect::Moved { slot, to: to(host, port) });
        assert_eq!(parse("-MOVED 3999 127.0.0.1:6381"), moved(3999, "127.0.0.1", 6381));
        assert_eq!(parse("-MOVED 0 ::1:6381"), moved(0, "::1", 6381));
        assert_eq!(parse("-MOVED 0 :6381"), moved(0, "asked", 6381));
        assert_eq!(parse("-MOVED 0 ?:6381"), Some(Redirect::Later));
        assert_eq!(parse("-ASK 16383 a.b:1"), Some(Redirect::Ask { slot: 16_383, to: to("a.b", 1) }));
        assert_eq!(parse("-TRYAGAIN Multiple keys request"), Some(Redirect::Later));
        assert_eq!(parse("-CLUSTERDOWN Hash slot not served"), Some(Redirect::Later));
        for other in ["-MOVED 16384 a:1", "-MOVED x", "-ERR MOVED 1 a:1", "+MOVED 1 a:1", "-MOVED 1 a:70000"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
