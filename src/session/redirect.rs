//! CLIENT TRACKING with REDIRECT: clients name each other by the daemon's ids, L2 knows the links of their own. The one
//! that is to be told gets a link of its own, and the ids are exchanged on the way.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::dispatch::Request;
use super::input::Step;
use super::pin::PinnedReply;
use super::{Park, Session, State, Waits};
use crate::cache::StripeSet;
use crate::command::{Group, Row};
use crate::resp;
use crate::upstream::{Expect, Link, Phase, PinnedExpect};
use crate::worker::Worker;

/// Which of L2's ids stands for which of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub(super) remote: i64,
    pub(super) own: u64,
}

impl Redirect {
    /// A reply of L2 with our id in the place of its own.
    pub(super) fn translate(self, frame: &[u8]) -> Vec<u8> {
        let (remote, own) = (format!(":{}\r\n", self.remote), format!(":{}\r\n", self.own));
        match memchr::memmem::find(frame, remote.as_bytes()) {
            Some(at) => [&frame[..at], own.as_bytes(), &frame[at + remote.len()..]].concat(),
            None => frame.to_vec(),
        }
    }
}

/// No connection of L2 has this id: it says so itself.
const NOBODY: i64 = i64::MAX;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Where the id stands in a request that redirects.
fn id_at(request: &Request<'_>) -> Option<usize> {
    let mut words = request.args.iter().enumerate().skip(3);
    words.find(|(_, word)| word.eq_ignore_ascii_case(b"redirect")).map(|(at, _)| at + 1)
}

pub(super) fn redirects(row: &Row, request: &Request<'_>) -> bool {
    row.name == "CLIENT|TRACKING" && own_id(request).is_some()
}

/// The id of ours that the request names; where it names none, L2 says what is wrong.
fn own_id(request: &Request<'_>) -> Option<u64> {
    let text = std::str::from_utf8(request.args.get(id_at(request)?)?).ok()?;
    text.parse().ok().filter(|id| *id > 0 && *id < NOBODY as u64)
}

impl Session {
    pub(super) fn redirect(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        if st.pin.as_ref().is_some_and(|pin| pin.in_multi) {
            return self.refuse(worker, st, "ERR CLIENT TRACKING with REDIRECT is not possible inside MULTI");
        }
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let Some(id) = own_id(&request) else { return Step::Again(Park::No) };
        let args: Vec<Vec<u8>> = request.args.iter().map(<[u8]>::to_vec).collect();
        let place = id_at(&request).unwrap_or_default();
        let seq = st.take_place(Waits::Reply);
        let find = move |there: &Rc<Worker>| there.session(id).map(|told| told.lend_link(there));
        self.on_all_workers(worker, find, move |here, session, found| {
            let found = found.into_iter().flatten().next();
            let here = here.clone();
            tokio::task::spawn_local(async move {
                let remote = match found {
                    Some(link) => link.await.unwrap_or(NOBODY),
                    None => NOBODY,
                };
                session.track(&here, seq, args, place, Redirect { remote, own: id });
            });
        });
        Step::Wait(Park::Turn)
    }

    /// Gives this session a link of its own, for what others' tracking tells it; answers with L2's id of it.
    fn lend_link(self: &Rc<Self>, worker: &Rc<Worker>) -> oneshot::Receiver<i64> {
        let (tell, told) = oneshot::channel();
        let (session, worker) = (self.clone(), worker.clone());
        tokio::task::spawn_local(async move {
            if let Some(link) = session.own_link_when_idle(&worker).await {
                while link.phase() == Phase::Connecting {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                // The one who asked may have gone.
                let _ = tell.send(if link.is_usable() { link.remote_id.get() } else { NOBODY });
            }
        });
        told
    }

    async fn own_link_when_idle(self: &Rc<Self>, worker: &Rc<Worker>) -> Option<Rc<Link>> {
        loop {
            {
                let mut st = self.state.borrow_mut();
                if st.closed {
                    return None;
                }
                if st.pin.is_some() || !st.is_waiting() || st.park == Park::Turn {
                    self.pin(worker, &mut st, false).ok()?;
                    let pin = st.pin.as_mut()?;
                    pin.stays = true;
                    return Some(pin.link.clone());
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn track(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        seq: u64,
        mut args: Vec<Vec<u8>>,
        place: usize,
        redirect: Redirect,
    ) {
        let mut st = self.state.borrow_mut();
        if st.closed {
            return;
        }
        if let Err(failure) = self.pin(worker, &mut st, false) {
            return self.fail_place(worker, &mut st, seq, &failure);
        }
        args[place] = redirect.remote.to_string().into_bytes();
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let on = args.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"on"));
        if let Some(pin) = &mut st.pin {
            pin.redirect = on.then_some(redirect);
            let meaning = PinnedReply::Tracking { on };
            let expect = PinnedExpect::one(StripeSet::None, meaning);
            pin.link.send(
                worker,
                &resp::encode_request(&args),
                Expect::Pinned(self.asker(seq), Box::new(expect)),
                Group::Other,
            );
        }
        self.go_on(worker, &mut st);
    }
}
