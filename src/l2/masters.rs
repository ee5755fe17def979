//! Looks at the masters of locks: which process each is, whether it is independent of the others, and when one that
//! started lately, and may have lost what it knew, may vote again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult};

use crate::config::Kind;
use crate::shared::{Masters, Remote, Shared, Voter};
use crate::state::lock::masters::{Standing, Told, admit, floor, standing};
use crate::state::{Call, Known, Naming};

const PAUSE: Duration = Duration::from_millis(500);
/// At least so long between two looks, however many masters are not as they were known.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// A Redis that is no independent master.
#[derive(Debug, thiserror::Error)]
#[error("{master} cannot be one of lock.redlock, {reason}: name independent masters")]
pub struct Unfit {
    master: String,
    reason: &'static str,
}

/// Looks at all masters before anybody is served. One that does not answer is looked at later.
pub async fn meet_masters(shared: &Arc<Shared>) -> Result<(), Unfit> {
    let Some(mut looks) = Looks::new(shared) else { return Ok(()) };
    looks.look().await;
    match looks.unfit.iter().enumerate().find_map(|(at, unfit)| Some((at, (*unfit)?))) {
        Some((at, reason)) => Err(Unfit { master: looks.remotes[at].to_string(), reason }),
        None => Ok(()),
    }
}

/// Looks at them as long as the daemon runs.
pub async fn watch_masters(shared: Arc<Shared>) {
    let Some(mut looks) = Looks::new(&shared) else { return };
    loop {
        looks.look().await;
        tokio::time::sleep(PAUSE_MIN).await;
        let _ = tokio::time::timeout(PAUSE, looks.masters().changed.notified()).await;
    }
}

struct Looks {
    shared: Arc<Shared>,
    remotes: Vec<Arc<Remote>>,
    connections: Vec<Option<MultiplexedConnection>>,
    naming: Naming,
    window_ms: u64,
    /// Why a master cannot be one; each is logged when it begins.
    unfit: Vec<Option<&'static str>>,
}

impl Looks {
    fn new(shared: &Arc<Shared>) -> Option<Looks> {
        let masters = shared.places.masters.as_ref()?;
        let remotes: Vec<_> = masters.places().map(|at| shared.places.own[at].clone()).collect();
        let live = shared.live.load();
        Some(Looks {
            connections: remotes.iter().map(|_| None).collect(),
            unfit: vec![None; remotes.len()],
            naming: Naming { prefix: live.config.prefix(Kind::Lock).into(), tagged: false },
            window_ms: live.config.lock.redlock_ttl_max_ms,
            remotes,
            shared: shared.clone(),
        })
    }

    fn masters(&self) -> &Masters {
        self.shared.places.masters.as_ref().expect("there are none without masters")
    }

    async fn look(&mut self) {
        let mut standings = self.ask().await;
        let window_ms =
            standings.iter().flatten().map(|s| s.window_ms).max().unwrap_or(0).max(self.window_ms);
        // Asked again behind the probation of those that count from now on: what they must know is known by then.
        let floor = match standings.iter().flatten().any(|s| !s.is_ready && s.is_over_probation()) {
            true => floor(self.masters().quorum(), &self.ask().await),
            false => None,
        };
        for (at, standing) in standings.iter_mut().enumerate() {
            let Some(standing) = standing.as_mut().filter(|s| !s.is_ready || s.window_ms < window_ms) else {
                continue;
            };
            let is_over = standing.is_over_probation();
            let admitted: Option<i64> =
                self.run(at, &admit(&self.naming, window_ms, floor.filter(|_| is_over))).await;
            if admitted == Some(1) && !standing.is_ready {
                tracing::info!("{} counts from now on", self.remotes[at]);
                standing.is_ready = true;
            }
        }
        self.tell(&standings);
    }

    /// What workers are to know of them. Of one that does not answer they know what they knew.
    fn tell(&self, standings: &[Option<Standing>]) {
        let mut voters = self.masters().voters();
        for (at, voter) in voters.iter_mut().enumerate() {
            *voter = match (&standings[at], self.unfit[at]) {
                (_, Some(_)) => Voter::Unfit,
                (None, None) => continue,
                (Some(standing), None) => {
                    Voter::Known { run_id: standing.run_id.as_slice().into(), is_ready: standing.is_ready }
                }
            };
        }
        self.masters().set_voters(voters);
    }

    /// What each says of itself. None: it does not answer, or is unfit.
    async fn ask(&mut self) -> Vec<Option<Standing>> {
        let call = standing(&self.naming);
        let mut told: Vec<Option<Standing>> = Vec::with_capacity(self.remotes.len());
        let asked = self.remotes.iter().zip(self.connections.iter_mut());
        let asked: Vec<_> = asked
            .map(|(remote, connection)| ask_one::<Told>(&self.shared, remote, connection, &call))
            .collect();
        for answer in futures_util::future::join_all(asked).await {
            told.push(answer.map(Standing::of));
        }
        let mut met: HashSet<Vec<u8>> = HashSet::new();
        for (at, told) in told.iter_mut().enumerate() {
            let Some(standing) = told.as_ref() else { continue };
            let is_new = met.insert(standing.run_id.clone());
            let unfit = standing.unfit.or((!is_new).then_some("it is another one under a second address"));
            if let Some(reason) = unfit {
                *told = None;
                if self.unfit[at].is_none() {
                    tracing::error!("{} does not count: {reason}", self.remotes[at]);
                }
            }
            self.unfit[at] = unfit;
        }
        told
    }

    async fn run<T: FromRedisValue>(&mut self, at: usize, call: &Call) -> Option<T> {
        ask_one(&self.shared, &self.remotes[at], &mut self.connections[at], call).await
    }
}

/// None: no answer, or none that is understood.
async fn ask_one<T: FromRedisValue>(
    shared: &Shared,
    remote: &Remote,
    connection: &mut Option<MultiplexedConnection>,
    call: &Call,
) -> Option<T> {
    let answer = try_one(shared, remote, connection, call).await;
    if let Err(error) = &answer {
        tracing::debug!(%error, "{remote} did not say how it is");
        *connection = None;
    }
    answer.ok()
}

async fn try_one<T: FromRedisValue>(
    shared: &Shared,
    remote: &Remote,
    connection: &mut Option<MultiplexedConnection>,
    call: &Call,
) -> RedisResult<T> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let mut fresh = super::dial::connection(&remote.target, shared).await?;
            if remote.target.db != 0 {
                redis::cmd("SELECT").arg(remote.target.db).exec_async(&mut fresh).await?;
            }
            connection.insert(fresh)
        }
    };
    let mut command = redis::Cmd::new();
    call.with_argv(Known::No, |argv| {
        command.arg(argv);
    });
    command.query_async(connection).await
}
