//! The composition root: builds what the configuration asks for, wires it, runs it, reloads it, drains it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::admin;
use crate::command::{ROWS, lookup_name};
use crate::config::{self, Config, Endpoint, Kind, Source, live_changes};
use crate::l2;
use crate::logging;
use crate::memory::Engine;
use crate::rules::Rules;
use crate::server::{self, Dealer, Listener, Speech};
use crate::shared::{Live, MAILBOX_LEN_MAX, Mail, Place, Remote, Shared};
use crate::tls;
use crate::worker::Worker;

/// Why the daemon cannot run; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Listen(#[from] server::Error),
    #[error(transparent)]
    Masters(#[from] l2::Unfit),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

impl Live {
    pub fn new(config: Config) -> Live {
        let mut denied = vec![false; ROWS.len()];
        for name in &config.server.deny_commands {
            let Some(row) = lookup_name(name) else { continue };
            denied[usize::from(row.index())] = true;
            // A container's name stands for all its subcommands.
            for sub in ROWS
                .iter()
                .filter(|r| r.name.strip_prefix(row.name).is_some_and(|rest| rest.starts_with('|')))
            {
                denied[usize::from(sub.index())] = true;
            }
        }
        Live { rules: Rules::new(&config), denied, config }
    }
}

/// Runs until SIGTERM or SIGINT. `source` is read again at SIGHUP.
pub fn run(config: Config, source: Source) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control(config, source))
}

/// The control thread: everything that is no client's command.
async fn control(config: Config, source: Source) -> Result<(), Error> {
    let residences = config.residences()?;
    let workers = config.server.workers;
    let certificates = tls::InForce::of(tls::Loaded::read(&config)?);
    raise_file_limit(&config);
    let listeners = listen(&config)?;
    let admin_listener = admin::listen(&config).await?;
    let (mailboxes, receivers): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::channel::<Mail>(MAILBOX_LEN_MAX)).unzip();
    let shared = Arc::new(Shared::new(Live::new(config), residences, certificates, mailboxes));
    l2::meet_masters(&shared).await?;
    let mut threads = Vec::new();
    for (id, mailbox) in receivers.into_iter().enumerate() {
        let shared = shared.clone();
        let thread = std::thread::Builder::new().name(format!("worker-{id}"));
        threads.push(thread.spawn(move || work(id as u16, shared, mailbox))?);
    }
    if let Some(listener) = admin_listener {
        tokio::spawn(admin::serve(listener, shared.clone()));
    }
    for engine in shared.engine.iter().chain(&shared.beside) {
        tokio::spawn(upkeep(engine.clone()));
    }
    let l2 = shared.engine.is_none().then_some(&shared.l2);
    for remote in l2.into_iter().chain(&shared.places.own) {
        match remote.cluster {
            Some(_) => tokio::spawn(l2::follow_topology(shared.clone(), remote.clone())),
            None => tokio::spawn(l2::watch(shared.clone(), remote.clone())),
        };
        if remote.is_elected() {
            tokio::spawn(l2::follow_leader(shared.clone(), remote.clone()));
        }
    }
    tokio::spawn(l2::watch_masters(shared.clone()));
    tokio::spawn(l2::listen(shared.clone()));
    tokio::spawn(watch_certificates(shared.clone()));
    l2::know_nodes(&shared).await;
    let dealer = Arc::new(Dealer::default());
    let accepting: Vec<_> = (listeners.into_iter())
        .map(|listener| tokio::spawn(server::accept(listener, shared.clone(), dealer.clone())))
        .collect();
    tell_of_places(&shared);
    tracing::info!(workers, upstream = %shared.l2.target.endpoint, l1 = shared.cache.is_some(), "ready to accept connections");
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    until_ended(&shared, &source).await?;
    for task in accepting {
        task.abort();
    }
    drain(&shared).await;
    Ok(())
}

fn work(id: u16, shared: Arc<Shared>, mailbox: mpsc::Receiver<Mail>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a worker could not start"),
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async move { Worker::new(id, shared).run(mailbox).await });
}

/// Kinds of shared state that are not with the cache's keys.
fn tell_of_places(shared: &Shared) {
    for kind in Kind::ALL {
        let name = kind.name();
        match shared.places.of(kind) {
            Place::Shared => {}
            Place::Nowhere => tracing::info!("{name} is disabled"),
            Place::Beside => tracing::info!(
                "{name} is node-local: kept in this process alone, lost when it ends, and other daemons do not see it"
            ),
            Place::Masters => tell_of_masters(shared),
            Place::Own(at) => {
                let target = &shared.places.own[at].target;
                tracing::info!(redis = %target.endpoint, db = target.db, "{name} has a Redis of its own");
            }
        }
    }
}

/// What a majority of masters stands on.
fn tell_of_masters(shared: &Shared) {
    let masters: Vec<_> = shared.places.own.iter().filter(|remote| remote.is_master).collect();
    let endpoints: Vec<String> = masters.iter().map(|master| master.target.endpoint.to_string()).collect();
    tracing::info!(masters = endpoints.join(", "), "locks live on several masters");
    if masters.len().is_multiple_of(2) {
        tracing::warn!(
            "lock.redlock names {} masters: one less would outlive as many failures",
            masters.len()
        );
    }
    let host = |master: &&Arc<Remote>| match &master.target.endpoint {
        Endpoint::Tcp { host, .. } => host.clone(),
        _ => String::new(),
    };
    let hosts: std::collections::HashSet<String> = masters.iter().map(host).collect();
    if hosts.len() < masters.len() {
        tracing::warn!("some masters of lock.redlock are on one machine, and will fail together");
    }
}

fn listen(config: &Config) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    let ports = [(config.server.port, Speech::Plain), (config.server.tls_port, Speech::Tls)];
    for (port, speech) in ports.into_iter().filter(|(port, _)| *port != 0) {
        for ip in config.server.addresses()? {
            listeners.push(server::listen_tcp(ip, port as u16, speech)?);
        }
    }
    if config.server.protected_mode && config.server.lets_strangers_in() {
        tracing::warn!(
            "whoever reaches this machine is let in: set server.requirepass, or server.tls_auth_clients = \"yes\""
        );
    }
    if let Some(path) = &config.server.unixsocket {
        listeners.push(server::listen_unix(path.as_ref())?);
    }
    Ok(listeners)
}

/// Each client takes a file, and so do links; the soft limit is raised as far as allowed.
fn raise_file_limit(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let links = config.upstream.links_max + config.upstream.pinned_links_max;
    let wanted = (config.server.clients_max + links + 64) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |max| max.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    if raised.is_err() || current < wanted {
        tracing::warn!(
            current,
            wanted,
            "fewer files may be open than clients and links need: raise `ulimit -n`"
        );
    }
}

async fn until_ended(shared: &Arc<Shared>, source: &Source) -> Result<(), Error> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => reload(shared, source),
        }
    }
}

/// A configuration that is wrong changes nothing.
fn reload(shared: &Arc<Shared>, source: &Source) {
    let new = match source.load() {
        Ok(new) => new,
        Err(error) => return tracing::error!("configuration not reloaded, the old settings stay: {error}"),
    };
    let old = shared.live.load();
    let changes = live_changes(&old.config, &new);
    let config = old.config.reloaded(new);
    match tls::Loaded::read(&config) {
        Ok(certificates) => shared.tls.put(certificates),
        Err(error) => return tracing::error!("configuration not reloaded, the old settings stay: {error}"),
    }
    for key in &changes.needs_restart {
        tracing::warn!("{key} changed: it takes effect at the next start");
    }
    logging::set_level(config.log.level);
    shared.live.store(Arc::new(Live::new(config)));
    for worker in 0..shared.mailboxes.len() {
        let changed: crate::shared::Errand = Box::new(|worker| {
            worker.settings_changed();
            // What was kept by the old rules and policies.
            worker.shared.revoke_leases();
        });
        // A full mailbox is as good as an end: the settings are read again with the next change.
        let _ = shared.mailboxes[worker].try_send(Mail::Errand(changed));
    }
    tracing::info!(applied = ?changes.applied, "configuration reloaded");
}

/// Reads certificates again where a file of theirs has changed: whoever renews them may not know of this process. A pair
/// that is just being written is let alone until it stays the same for a while.
async fn watch_certificates(shared: Arc<Shared>) {
    const PACE: Duration = Duration::from_secs(2);
    let look = || tls::Look::at(&shared.live.load().config);
    let mut loaded = look();
    let mut before = loaded.clone();
    loop {
        tokio::time::sleep(PACE).await;
        let now = look();
        if now != loaded && now == before {
            match tls::Loaded::read(&shared.live.load().config) {
                Ok(certificates) => {
                    shared.tls.put(certificates);
                    tracing::info!("certificates read again: their files have changed");
                }
                Err(error) => tracing::error!("certificates not read again, the old ones stay: {error}"),
            }
            loaded = now.clone();
        }
        before = now;
    }
}

/// The embedded engine's clock: what expires, and waits whose time is up.
async fn upkeep(engine: Engine) {
    const PACE: Duration = Duration::from_millis(50);
    const PACE_OF_WAITS: Duration = Duration::from_millis(5);
    loop {
        let waits = engine.next_deadline_ms().is_some();
        tokio::time::sleep(if waits { PACE_OF_WAITS } else { PACE }).await;
        engine.upkeep();
    }
}

/// What was read is answered; then connections close.
async fn drain(shared: &Arc<Shared>) {
    tracing::info!("draining");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    shared.draining.store(true, Relaxed);
    for mailbox in &shared.mailboxes {
        let drain: crate::shared::Errand = Box::new(|worker| worker.drain());
        let _ = mailbox.send(Mail::Errand(drain)).await;
    }
    let limit = Duration::from_secs(shared.live.load().config.server.drain_seconds);
    let end = tokio::time::Instant::now() + limit;
    while shared.clients.load(Relaxed) > 0 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = shared.clients.load(Relaxed);
    if left > 0 {
        tracing::warn!(left, "connections were still busy after server.drain_seconds");
    }
}
