//! Whether a Redis can be reached: what follows when a link comes up or cannot be opened, and the way back.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::handshake::{self, Refusal, Step};
use super::{Failure, Link, MayTrack, Purpose, TRACKED_PAUSE_MAX, UNTRACKED_PAUSE, Upstream};
use crate::clock::Moment;
use crate::shared::Leader;
use crate::worker::Worker;

/// First and longest pause between attempts. A Redis is found again within a second of its return.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(600);

impl Upstream {
    pub fn link_came_up(&self, worker: &Rc<Worker>, link: &Rc<Link>) {
        self.heard(Moment::now());
        link.set.tracked_pause.set(Duration::ZERO);
        self.note_reachable(worker, true);
    }

    /// Gives how it was before.
    fn note_reachable(&self, worker: &Worker, reachable: bool) -> bool {
        if let Some(cache) = worker.shared.cache.as_ref().filter(|_| self.remote.is_l2) {
            cache.set_l2_down(!reachable);
        }
        self.remote.is_reachable.swap(reachable, Relaxed)
    }

    /// Decides what those who wait for a link are told that could not be opened.
    pub fn link_was_refused(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        link: &Rc<Link>,
        refusal: Refusal,
    ) -> Failure {
        match refusal {
            Refusal::Unreachable(reason) => {
                let place = self.remote.place();
                let failure = Failure::NotSent(format!("cannot reach Redis at {place}: {reason}").into());
                self.remote.leader.doubt();
                self.begin_failing(worker, failure.clone());
                failure
            }
            Refusal::NoLeader(reason) => {
                let failure = Failure::NotSent((*reason).into());
                self.begin_failing(worker, failure.clone());
                failure
            }
            // A long script keeps L2 busy: it is no farther away than that.
            Refusal::NotReady(line) if line.starts_with(b"-BUSY") => Failure::Refused(line),
            Refusal::NotReady(line) => {
                self.begin_failing(worker, Failure::Refused(line.clone()));
                Failure::Refused(line)
            }
            Refusal::Refused { step, line } => {
                if link.purpose == Purpose::Tracked {
                    // A login may work again at any time; a right that is missing is missing for longer.
                    let pause = if step == Step::Hello { TRACKED_PAUSE_MAX } else { UNTRACKED_PAUSE };
                    link.set.untracked_until.set(Moment::now().after(pause));
                    if !link.set.user.is_own() {
                        link.set.may_track.set(MayTrack::NotAsked);
                    }
                    tracing::info!(
                        user = link.set.user.name(),
                        "no tracked link for this user: its reads are not cached"
                    );
                    return Failure::Refused(line);
                }
                let login = step == Step::Hello && !line.starts_with(b"-NOAUTH");
                if login && !link.set.user.is_own() {
                    worker.close_sessions_of(link.set.user.id);
                    return Failure::Unknown;
                }
                if login {
                    let text = String::from_utf8_lossy(&line[1..]).trim_end().to_string();
                    let setting = self.remote.setting();
                    tracing::error!("Redis refuses the daemon's login: {text}: check {setting}");
                    return Failure::NotSent(format!("Redis refuses the daemon's login: {text}").into());
                }
                Failure::Refused(line)
            }
        }
    }

    fn begin_failing(self: &Rc<Self>, worker: &Rc<Worker>, failure: Failure) {
        if self.failing.borrow_mut().replace(failure.clone()).is_some() {
            return;
        }
        if self.note_reachable(worker, false) {
            tracing::warn!(?failure, "{} is away", self.remote);
        }
        tokio::task::spawn_local(recover(self.clone(), worker.clone()));
    }
}

/// Tries to reach it until it answers; then requests are let through again. Where another server leads from now on, it is
/// tried at once.
async fn recover(upstream: Rc<Upstream>, worker: Rc<Worker>) {
    let mut pause = PAUSE_FIRST;
    let mut changes = upstream.remote.leader.changes();
    loop {
        tokio::select! {
            () = tokio::time::sleep(worker.jitter(pause)) => pause = (pause * 2).min(PAUSE_MAX),
            _ = changes.changed() => pause = PAUSE_FIRST,
        }
        let Leader::Known(target) = upstream.remote.leader.now() else { continue };
        let login = handshake::Login {
            credentials: upstream.own_user.credentials.as_ref(),
            db: 0,
            chooser: None,
            resp3: false,
            tracked: false,
            verified: false,
            pinned: false,
            leads: upstream.remote.is_elected(),
        };
        let limit = Duration::from_millis(worker.shared.live.load().config.upstream.connect_timeout_ms)
            .min(PAUSE_MAX);
        let tls = worker.shared.tls.connector(&target);
        let connecting = handshake::connect(&target.endpoint, tls.as_ref(), &login);
        let attempt = tokio::time::timeout(limit, connecting).await;
        if !matches!(attempt, Err(_) | Ok(Err(Refusal::Unreachable(_) | Refusal::NotReady(_)))) {
            break;
        }
    }
    *upstream.failing.borrow_mut() = None;
    if !upstream.note_reachable(&worker, true) {
        tracing::info!("{} is back", upstream.remote);
    }
}
