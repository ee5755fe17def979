//! Shared-state commands of kinds that live elsewhere than the session's other keys (`Places::is_apart`): who may run
//! them, and that they keep their turn among the session's other commands.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use super::input::Step;
use super::plans::Then;
use super::scripted::Runner;
use super::{Park, Session, State, Turn, Waits};
use crate::command::{Group, lookup_name};
use crate::config::Kind;
use crate::resp;
use crate::state::Call;
use crate::upstream::Expect;
use crate::worker::{Asked, Home, Right, Worker};

const MAY_NOT: &str = "NOPERM the user may run no scripts in Redis, and so no command of shared state";

impl Session {
    /// What stands before a command of such a kind; `None`: it may run now.
    pub(super) fn goes_apart(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        kind: Kind,
        home: &Home,
        in_multi: bool,
    ) -> Option<Step> {
        let name = kind.name();
        if in_multi {
            let text = format!(
                "ERR {name} commands are not allowed inside MULTI: the configuration has {name} live apart from the other keys"
            );
            return Some(self.refuse(worker, st, &text));
        }
        // On two ways the later one could be executed first, and a lock be released before the write that it protects.
        if st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        if let Home::Engine { db, .. } = home
            && u64::from(*db) >= worker.live().config.memory.databases
        {
            let text = format!(
                "ERR {name} lives in this process, which has not so many databases: raise memory.databases"
            );
            return Some(self.refuse(worker, st, &text));
        }
        self.asks_whether_it_may(worker, st)
    }

    /// Where these commands run nobody knows the session's user. So L2 is asked whether he may run a script there.
    fn asks_whether_it_may(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) -> Option<Step> {
        let shared = &worker.shared;
        if shared.engine.is_some() {
            return None;
        }
        // One answer stands for all these commands.
        let row = lookup_name("EVAL_RO").expect("EVAL_RO has a row");
        let version = shared.rights_version.load(Relaxed);
        let asked = Asked { user: st.identity.user.id, row: row.index(), db: 0, version };
        match worker.rights.known(asked, worker.now()) {
            Right::Granted => None,
            Right::Denied => Some(self.refuse(worker, st, MAY_NOT)),
            Right::NotKnown => {
                let link = st.lanes.links().plain(worker, st.identity.resp3).ok()?;
                let ask = resp::encode_request(&[b"EVAL_RO", b"return 1", b"0"]);
                let expect = Expect::Turn(self.asker(u64::MAX), Box::new(Turn::Scripts(asked)));
                link.send(worker, &ask, expect, Group::Other);
                Some(Step::Again(Park::Turn))
            }
        }
    }

    /// A command of one script. The session waits for it: what it sends later goes another way.
    pub(super) fn script_apart(&self, st: &mut State, runner: Runner, call: Call, then: Then) -> Step {
        let seq = st.take_place(Waits::Reply);
        tokio::task::spawn_local(runner.alone(seq, call, then));
        Step::Wait(Park::Until(seq + 1))
    }
}
