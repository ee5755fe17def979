//! How each shared-state command is executed: by one script, by several, or by none. Sends nothing.

use super::away::Limited;
use super::redlock::{self, Sets};
use super::scripted::{Runner, random};
use crate::config::{Config, Driver, SessionKeyMode};
use crate::state::{self, Call, Fault, Naming, lock, presence, ratelimit, session};
use crate::worker::{Home, Worker};

/// How a command is executed.
pub(super) enum Plan {
    /// By one script, like any other request.
    One(Call, Then),
    /// By several, one after the other.
    Steps(Steps),
    /// By none.
    Answered(Vec<u8>),
}

/// What follows from a script's reply.
pub(super) enum Then {
    Nothing,
    Limited(Limited),
    Released(lock::Release),
    Validated(session::Validate),
    Left(presence::Entry),
}

pub(super) enum Steps {
    Acquire(lock::Acquire),
    /// Any other LOCK command, where a majority of masters answers.
    ByMajority(Sets, lock::Command),
    Join(presence::Join),
    LeaveAll {
        connection: Vec<u8>,
    },
    Channels {
        user: Vec<u8>,
    },
    Heartbeat {
        entries: Vec<presence::Entry>,
    },
    Multi(Vec<ratelimit::Resolved>),
}

pub(super) fn presence_ttl_ms(worker: &Worker) -> u64 {
    worker.live().config.presence.ttl_seconds.saturating_mul(1000)
}

/// Whether the keys have the same names, and the command one plan, where L2 is a cluster. So has a check: it is answered
/// without L2 too, which then cannot be asked what it is.
pub(super) fn same_in_a_cluster(command: &state::Command) -> bool {
    match command {
        state::Command::Ratelimit(command) => !matches!(command, ratelimit::Command::Multi(_)),
        state::Command::Throttle(_) => true,
        _ => false,
    }
}

pub(super) fn plan(runner: &Runner, command: state::Command) -> Result<Plan, Fault> {
    let live = runner.worker.live_now();
    let config = &live.config;
    let enabled = |driver: Driver, kind: &str| match driver {
        Driver::None => Err(Fault::from(format!("ERR {kind} is disabled"))),
        _ => Ok(()),
    };
    Ok(match command {
        state::Command::Lock(command) => {
            enabled(config.lock.driver, "lock")?;
            if let Home::Masters(sets) = &runner.home {
                return majority_plan(runner, sets, command);
            }
            lock_plan(&runner.naming, command)
        }
        state::Command::Session(command) => {
            enabled(config.session.driver, "session")?;
            session_plan(runner, command)
        }
        state::Command::Presence(command) => {
            enabled(config.presence.driver, "presence")?;
            runner.worker.presence_is_used(runner.home.db());
            presence_plan(&runner.naming, command)
        }
        state::Command::Ratelimit(command) => limit_plan(runner, config, command)?,
        state::Command::Throttle(throttle) if config.ratelimit.driver == Driver::None => {
            Plan::Answered(throttle.unasked(false))
        }
        state::Command::Throttle(throttle) => {
            Plan::One(throttle.call(&runner.naming), Then::Limited(Limited::Throttle(throttle)))
        }
    })
}

fn lock_plan(naming: &Naming, command: lock::Command) -> Plan {
    match command {
        lock::Command::Acquire(acquire) => Plan::Steps(Steps::Acquire(acquire)),
        lock::Command::Extend(extend) => Plan::One(extend.call(naming), Then::Nothing),
        lock::Command::Release(release) => Plan::One(release.call(naming), Then::Released(release)),
        lock::Command::Check(check) => Plan::One(check.call(naming), Then::Nothing),
        lock::Command::Info(info) => Plan::One(info.call(naming), Then::Nothing),
        lock::Command::Force(force) => Plan::One(force.call(naming), Then::Nothing),
    }
}

fn majority_plan(runner: &Runner, sets: &Sets, command: lock::Command) -> Result<Plan, Fault> {
    if let Some(fault) = redlock::fault_of(runner, &command) {
        return Err(fault);
    }
    Ok(Plan::Steps(match command {
        lock::Command::Acquire(acquire) => Steps::Acquire(acquire),
        other => Steps::ByMajority(sets.clone(), other),
    }))
}

pub(super) fn session_settings(runner: &Runner) -> session::Settings {
    let live = runner.worker.live();
    let config = &live.config.session;
    session::Settings {
        naming: runner.naming.clone(),
        key_mode: match config.key_mode {
            SessionKeyMode::Hash => session::KeyMode::Hashed,
            SessionKeyMode::Plain => session::KeyMode::Plain,
        },
        idle_ms: config.ttl_seconds.saturating_mul(1000),
        absolute_ms: config.absolute_ttl_seconds.saturating_mul(1000),
    }
}

fn session_plan(runner: &Runner, command: session::Command) -> Plan {
    let settings = session_settings(runner);
    let call = match command {
        session::Command::Create(create) => create.call(&settings, &random(), &random()),
        session::Command::Validate(validate) => {
            return Plan::One(validate.call(&settings), Then::Validated(validate));
        }
        session::Command::Touch(touch) => touch.call(&settings),
        session::Command::Set(set) => set.call(&settings),
        session::Command::Rotate(rotate) => rotate.call(&settings, &random()),
        session::Command::Destroy(destroy) => destroy.call(&settings),
        session::Command::Revoke(revoke) => revoke.call(&settings),
        session::Command::DestroyAll(all) => all.call(&settings),
        session::Command::List(list) => list.call(&settings),
        session::Command::Count(count) => count.call(&settings),
    };
    Plan::One(call, Then::Nothing)
}

fn presence_plan(naming: &Naming, command: presence::Command) -> Plan {
    let call = match command {
        presence::Command::Join(join) => return Plan::Steps(Steps::Join(join)),
        presence::Command::LeaveAll { connection } => return Plan::Steps(Steps::LeaveAll { connection }),
        presence::Command::Channels { user } => return Plan::Steps(Steps::Channels { user }),
        presence::Command::Heartbeat { entries } => return Plan::Steps(Steps::Heartbeat { entries }),
        presence::Command::Leave(entry) => return Plan::One(entry.call(naming), Then::Left(entry)),
        presence::Command::Update(update) => update.call(naming),
        presence::Command::Members { channel, with_meta } => presence::members(naming, &channel, with_meta),
        presence::Command::State { channel } => presence::state(naming, &channel),
        presence::Command::Count { channel } => presence::count(naming, &channel),
    };
    Plan::One(call, Then::Nothing)
}

fn limit_plan(runner: &Runner, config: &Config, command: ratelimit::Command) -> Result<Plan, Fault> {
    let limits = ratelimit::Limits {
        naming: &runner.naming,
        policies: &config.policies,
        ipv6_prefix_bits: config.ratelimit.ipv6_prefix_bits,
        on_l2_down: config.ratelimit.on_l2_down,
    };
    let open = config.ratelimit.driver == Driver::None;
    let answered = |resolved: &ratelimit::Resolved| {
        let mut reply = Vec::new();
        ratelimit::Outcome::open(resolved).write(runner.resp3, &mut reply);
        Plan::Answered(reply)
    };
    Ok(match command {
        ratelimit::Command::Check(check) => {
            let resolved = check.resolve(&limits)?;
            match open {
                true => answered(&resolved),
                false => Plan::One(resolved.check(), Then::Limited(Limited::Check(resolved))),
            }
        }
        ratelimit::Command::Peek(check) => {
            let resolved = check.resolve(&limits)?;
            match open {
                true => answered(&resolved),
                false => Plan::One(resolved.peek(), Then::Limited(Limited::Peek(resolved))),
            }
        }
        ratelimit::Command::Reset(_) | ratelimit::Command::Refund(_) if open => {
            Plan::Answered(b":0\r\n".to_vec())
        }
        ratelimit::Command::Reset(subject) => Plan::One(subject.reset(&limits), Then::Nothing),
        ratelimit::Command::Refund(refund) => {
            let resolved = refund.resolve(&limits)?;
            Plan::One(resolved.refund(), Then::Limited(Limited::Refund(resolved)))
        }
        ratelimit::Command::Multi(multi) => match multi.plan(&limits)? {
            ratelimit::Plan::Whole(call) if !open => {
                Plan::One(call, Then::Limited(Limited::All(multi.resolve(&limits)?)))
            }
            ratelimit::Plan::OneByOne(items) if !open => Plan::Steps(Steps::Multi(items)),
            _ => {
                let items = multi.resolve(&limits)?;
                let outcomes: Vec<_> = items.iter().map(ratelimit::Outcome::open).collect();
                let mut reply = Vec::new();
                ratelimit::multi_reply(&items, &outcomes, runner.resp3, &mut reply);
                Plan::Answered(reply)
            }
        },
    })
}
