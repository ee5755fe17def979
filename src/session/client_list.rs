//! How sessions look in CLIENT LIST and CLIENT INFO: Redis's fields, over the daemon's own table.

use std::rc::Rc;

use super::clients::client_type;
use super::{Session, State};
use crate::resp::{Args, strict_integer};
use crate::worker::Worker;

/// Which sessions CLIENT LIST shows.
#[derive(Default, Clone)]
pub struct Filter {
    kind: Option<&'static str>,
    ids: Option<Vec<u64>>,
}

impl Filter {
    pub(super) fn parse(args: &Args<'_>) -> Result<Filter, String> {
        let mut filter = Filter::default();
        let Some(option) = args.get(2) else { return Ok(filter) };
        if option.eq_ignore_ascii_case(b"TYPE") && args.len() == 4 {
            let name = args.get(3).unwrap_or_default();
            let unknown = || format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name));
            filter.kind = Some(client_type(name).ok_or_else(unknown)?);
        } else if option.eq_ignore_ascii_case(b"ID") && args.len() > 3 {
            let ids: Option<Vec<i64>> = args.iter().skip(3).map(strict_integer).collect();
            let ids = ids.ok_or("ERR Invalid client ID")?;
            filter.ids = Some(ids.into_iter().filter_map(|id| u64::try_from(id).ok()).collect());
        } else {
            return Err("ERR syntax error".into());
        }
        Ok(filter)
    }

    pub(super) fn admits(&self, id: u64, kind: &str) -> bool {
        self.kind.is_none_or(|k| k == kind) && self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }
}

impl Worker {
    /// Lines of this worker's sessions, but for the one that asks.
    pub(super) fn describe_sessions(self: &Rc<Self>, filter: &Filter, me: u64) -> Vec<(u64, String)> {
        let sessions: Vec<_> = self.sessions.borrow().values().filter(|s| s.id != me).cloned().collect();
        let mut lines = Vec::new();
        for session in sessions {
            let st = session.state.borrow();
            if filter.admits(session.id, session.kind(&st)) {
                lines.push((session.id, session.describe(self, &st, 0)));
            }
        }
        lines
    }
}

impl Session {
    fn flags(&self, st: &State) -> String {
        let mut flags = String::new();
        if let Some(pin) = &st.pin {
            let marks = [
                (pin.link.pinned.monitoring.get(), 'O'),
                (pin.link.pinned.subscriptions() > 0, 'P'),
                (pin.in_multi, 'x'),
                (pin.is_blocked(), 'b'),
                (pin.tracks, 't'),
            ];
            flags.extend(marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark));
        }
        if st.multi_waits() {
            flags.push('x');
        }
        if let Some(embedded) = &st.embedded {
            let caller = &embedded.caller;
            let marks = [
                (caller.is_subscriber(), 'P'),
                (caller.is_in_transaction(), 'x'),
                (st.waits_in_engine(), 'b'),
            ];
            flags.extend(marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark));
        }
        if st.identity.no_evict {
            flags.push('e');
        }
        if flags.is_empty() {
            flags.push('N');
        }
        flags
    }

    /// `asking` bytes are those of the request that is being looked at.
    pub(super) fn describe(&self, worker: &Worker, st: &State, asking: usize) -> String {
        let now = worker.now();
        let [sub, psub, ssub] = st.pin.as_ref().map_or([0; 3], |pin| pin.link.pinned.subscription_counts());
        let (sub, psub, ssub, queued) = match &st.embedded {
            Some(e) => {
                (e.caller.channels(), e.caller.patterns(), e.caller.shard_channels(), e.caller.queued())
            }
            None => (sub, psub, ssub, if st.multi_waits() { 0 } else { -1 }),
        };
        let multi = st.pin.as_ref().filter(|pin| pin.in_multi).map_or(queued, |pin| pin.queued_len() as i64);
        let id = &st.identity;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut line = format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={} db={} sub={sub} psub={psub} ssub={ssub} multi={multi} \
             qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem=0 tot-mem=0 events=r cmd={} user={} \
             redir=-1 resp={}",
            self.id,
            st.addresses.0,
            st.addresses.1,
            text(&id.name),
            now.since(st.began).as_secs(),
            now.since(st.last_use).as_secs(),
            self.flags(st),
            id.db,
            asking + st.input.len(),
            st.out.len(),
            st.last_command.to_ascii_lowercase(),
            id.user.name(),
            if id.resp3 { 3 } else { 2 },
        );
        if id.library.iter().any(|l| !l.is_empty()) {
            line.push_str(&format!(" lib-name={} lib-ver={}", text(&id.library[0]), text(&id.library[1])));
        }
        line.push('\n');
        line
    }
}
