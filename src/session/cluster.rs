//! Before a cluster: what one connection asks of the whole of it and no node can say: SCAN, WAIT, and CLUSTER, which
//! shows the daemon as the one node that serves every slot, so that cluster-aware clients stay with it.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::oneshot::{self, error::RecvError};

use super::dispatch::{Outgoing, Request, note_pause};
use super::input::Step;
use super::join::{How, Join};
use super::{Park, Session, State, Waits};
use crate::command::{Group, Row, SLOTS};
use crate::resp;
use crate::shared::{Cluster, Topology};
use crate::upstream::{Expect, Failure, Frame, Link, Upstream};
use crate::worker::Worker;

/// A cursor's lowest bits are the lowest slot of the node that it is of.
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

const NOT_ITS_NODE: &str = "ERR CLIENT TRACKING is not available before a cluster: a connection would be told of one node's keys only";

/// Whether no node alone can answer it.
pub(super) fn is_of_the_whole(row: &Row) -> bool {
    matches!(
        row.name,
        "SCAN"
            | "WAIT"
            | "WAITAOF"
            | "CLIENT|PAUSE"
            | "CLIENT|UNPAUSE"
            | "CLIENT|TRACKING"
            | "SCRIPT|KILL"
            | "FUNCTION|KILL"
            | "CLUSTER|SLOTS"
            | "CLUSTER|SHARDS"
            | "CLUSTER|NODES"
            | "CLUSTER|MYID"
    )
}

impl Session {
    /// What is answered for the cluster as a whole; `None`: a node answers.
    pub(super) fn of_the_whole(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cluster: &Cluster,
        request: Request<'_>,
        row: &'static Row,
    ) -> Option<Step> {
        if !row.arity_fits(request.args.len()) {
            return None;
        }
        match row.name {
            "SCAN" => self.scan(worker, st, request, row),
            "WAIT" | "WAITAOF" => Some(self.wait_for_all(worker, st, cluster, request)),
            "CLIENT|PAUSE" | "CLIENT|UNPAUSE" => {
                Some(self.of_every_node(worker, st, request, row, How::Same))
            }
            "SCRIPT|KILL" | "FUNCTION|KILL" => Some(self.of_every_node(worker, st, request, row, How::Done)),
            "CLUSTER|COUNTKEYSINSLOT" | "CLUSTER|GETKEYSINSLOT" => {
                let slot = request.args.get(2).and_then(resp::strict_integer)?;
                let slot = u16::try_from(slot).ok().filter(|slot| *slot < SLOTS)?;
                let step = self.turn_to_slot(worker, st, slot);
                Some(step.unwrap_or_else(|| self.shared(worker, st, request, row)))
            }
            "CLUSTER|SLOTS" | "CLUSTER|SHARDS" | "CLUSTER|NODES" | "CLUSTER|MYID" => {
                Some(self.show_one_node(worker, st, row))
            }
            // There is one address, which decides by itself where reads go.
            "READONLY" | "READWRITE" | "ASKING" => {
                self.reply_here(worker, st, |out| resp::simple(out, "OK"));
                Some(Step::Next)
            }
            "CLIENT|TRACKING" if request.args.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"on")) => {
                Some(self.refuse(worker, st, NOT_ITS_NODE))
            }
            _ => None,
        }
    }

    fn show_one_node(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, row: &Row) -> Step {
        let id = worker.shared.node_id.clone();
        let (host, port) = st.addresses.1.rsplit_once(':').unwrap_or(("127.0.0.1", "0"));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // Who came over a unix socket finds it there again only by itself.
        let host = if host.starts_with('/') { "" } else { host }.to_owned();
        let port: i64 = port.parse().unwrap_or(0);
        let last = i64::from(SLOTS) - 1;
        let resp3 = st.identity.resp3;
        self.reply_here(worker, st, |out| match row.name {
            "CLUSTER|MYID" => resp::bulk(out, id.as_bytes()),
            "CLUSTER|SLOTS" => {
                resp::array_header(out, 1);
                resp::array_header(out, 3);
                resp::integer(out, 0);
                resp::integer(out, last);
                resp::array_header(out, 4);
                resp::bulk(out, host.as_bytes());
                resp::integer(out, port);
                resp::bulk(out, id.as_bytes());
                resp::array_header(out, 0);
            }
            "CLUSTER|SHARDS" => {
                resp::array_header(out, 1);
                resp::map_header(out, 2, resp3);
                resp::bulk(out, b"slots");
                resp::array_header(out, 2);
                resp::integer(out, 0);
                resp::integer(out, last);
                resp::bulk(out, b"nodes");
                resp::array_header(out, 1);
                resp::map_header(out, 7, resp3);
                for (name, value) in [("id", id.as_str()), ("ip", &host), ("endpoint", &host)] {
                    resp::bulk(out, name.as_bytes());
                    resp::bulk(out, value.as_bytes());
                }
                resp::bulk(out, b"port");
                resp::integer(out, port);
                resp::bulk(out, b"role");
                resp::bulk(out, b"master");
                resp::bulk(out, b"replication-offset");
                resp::integer(out, 0);
                resp::bulk(out, b"health");
                resp::bulk(out, b"online");
            }
            _ => {
                let line = format!("{id} {host}:{port}@0 myself,master - 0 0 1 connected 0-{last}\n");
                resp::verbatim(out, line.as_bytes(), resp3);
            }
        });
        Step::Next
    }

    // SCAN goes from node to node, in the order of their lowest slots.

    fn scan(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Option<Step> {
        if st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        let cursor: u64 = std::str::from_utf8(request.args.get(1)?).ok()?.parse().ok()?;
        let slot = (cursor & u64::from(SLOTS - 1)) as u16;
        if let Some(step) = self.turn_to_slot(worker, st, slot) {
            return Some(step);
        }
        let own = (cursor >> SLOT_BITS).to_string();
        let mut words: Vec<&[u8]> = request.args.iter().collect();
        words[1] = own.as_bytes();
        let wire = resp::encode_request(&words);
        Some(
            self.send_plain(worker, st, Outgoing::new(&wire, row.group()), |asker| {
                Expect::Scanned(asker, slot)
            }),
        )
    }

    // WAIT is about every node that the session has written to.

    fn wait_for_all(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cluster: &Cluster,
        request: Request<'_>,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let nodes = st.lanes.written_to();
        // What was written to a node that serves nothing any more, or left the session, may be lost.
        let serves = |node: &Rc<Upstream>| cluster.topology().serves(&node.remote);
        if st.lanes.take_lost() || !nodes.iter().all(serves) {
            self.fail_here(worker, st, &Failure::Unknown);
            return Step::Next;
        }
        self.ask_each_alone(worker, st, nodes, request, How::Least)
    }

    /// What may hold back what stands on other links, or must get through where these wait.
    fn of_every_node(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
        how: How,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        note_pause(worker, row, &request.args);
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        let nodes = worker.nodes_of(&whole.upstream);
        self.ask_each_alone(worker, st, nodes, request, how)
    }

    /// Over links that stand behind nobody else's requests; one node, where none is named.
    fn ask_each_alone(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        mut nodes: Vec<Rc<Upstream>>,
        request: Request<'_>,
        how: How,
    ) -> Step {
        if nodes.is_empty() {
            let whole = worker.links_of(&st.identity.user, st.identity.db);
            match worker.any_node_of(&whole.upstream) {
                Ok(node) => nodes.push(node),
                Err(failure) => {
                    self.fail_here(worker, st, &failure);
                    return Step::Next;
                }
            }
        }
        let mut asked = Vec::with_capacity(nodes.len());
        for node in nodes {
            let links = node.set(&st.identity.user, 0);
            let link = match how == How::Done {
                true => links.fresh(worker, false),
                false => links.pinned(worker, false),
            };
            let link = match link {
                Ok(link) => link,
                // Others may be what this one is not needed for.
                Err(_) if how == How::Done => continue,
                Err(failure) => {
                    asked.into_iter().for_each(|link: Rc<Link>| link.set.give_back(&link));
                    self.fail_here(worker, st, &failure);
                    return Step::Next;
                }
            };
            asked.push(link);
        }
        let seq = st.take_place(Waits::Reply);
        let (session, worker, wire) = (self.clone(), worker.clone(), request.wire.to_vec());
        tokio::task::spawn_local(async move {
            let answers = join_all(asked.iter().map(|link| ask_alone(&worker, link, &wire))).await;
            asked.iter().for_each(|link| link.set.give_back(link));
            let answers = answers.into_iter().filter(|answer| answer.is_ok() || how != How::Done);
            match answers.collect::<Result<Vec<_>, _>>() {
                // None was reached, or a link was lost before it answered.
                Ok(replies) if replies.is_empty() => session.fail(&worker, seq, Failure::Unknown),
                Ok(replies) => {
                    session.answer(&worker, seq, Frame::Owned(Join::of_all(how, replies).into()));
                }
                Err(_) => session.fail(&worker, seq, Failure::Unknown),
            }
        });
        Step::Wait(Park::Until(seq + 1))
    }
}

async fn ask_alone(worker: &Rc<Worker>, link: &Rc<Link>, wire: &[u8]) -> Result<Bytes, RecvError> {
    let (to, answer) = oneshot::channel();
    // A round trip gives this connection the replication offset of the writes before it.
    link.send(worker, link.set.user.sign_of_life(), Expect::Nobody, Group::Other);
    link.send(worker, wire, Expect::Internal(to), Group::Blocking);
    answer.await
}

/// SCAN's reply of one node, with the cursor that leads on: at its end, to the node with the next slots.
pub fn scanned(topology: &Topology, slot: u16, frame: &[u8]) -> Option<Vec<u8>> {
    let [cursor, keys] = resp::array_fixed::<2>(frame)?;
    let cursor: u64 = std::str::from_utf8(resp::bulk_text(cursor)?).ok()?.parse().ok()?;
    let next = match cursor {
        0 => {
            let firsts = topology.nodes.iter().filter_map(|node| topology.first_slot(node));
            firsts.filter(|first| *first > slot).min().map_or(0, u64::from)
        }
        cursor => cursor << SLOT_BITS | u64::from(slot),
    };
    let mut out = Vec::with_capacity(frame.len() + 16);
    resp::array_header(&mut out, 2);
    resp::bulk(&mut out, next.to_string().as_bytes());
    out.extend_from_slice(keys);
    Some(out)
}
