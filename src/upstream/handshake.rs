//! Opens a connection to L2 and puts it into the state that its link needs. Nothing of a client is sent before every
//! step has been answered, so no command runs as the wrong user or in the wrong database.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::User;
use crate::clock::Moment;
use crate::config::Endpoint;
use crate::net::{Incoming, Side, Stream};
use crate::resp::{self, ReplyScan, ReplyScanner, Value};
use crate::tls::{self, Connector};

/// So many links of a worker are opened at the same time; further ones wait. A thousand at once would overflow the queue
/// in which L2 accepts connections, and look as if L2 were away.
const CONNECTING_MAX: usize = 64;
/// What one read takes; a chain of certificates must fit.
const ROOM_BYTES: usize = 64 * 1024;

/// Places for the links of a worker that are being opened.
pub struct Connecting(Semaphore);

impl Default for Connecting {
    fn default() -> Self {
        Connecting(Semaphore::new(CONNECTING_MAX))
    }
}

impl Connecting {
    /// A place among the links that are being opened; the link's own time begins only then.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.acquire().await.ok()
    }
}

/// Whom a link acts as in L2.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: String,
}

/// The state to put a connection into.
pub struct Login<'a> {
    pub credentials: Option<&'a Credentials>,
    pub db: u32,
    /// Who chooses the database, if not the user itself.
    pub chooser: Option<&'a User>,
    pub resp3: bool,
    pub tracked: bool,
    /// L2 is asked whether tracking came on, which needs one more right.
    pub verified: bool,
    pub pinned: bool,
    /// Only a master will do.
    pub leads: bool,
}

/// Why a link could not be opened.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody there, or no answer.
    Unreachable(String),
    /// Nobody to connect to, and why.
    NoLeader(Arc<str>),
    /// L2 refused a step with this error line.
    Refused { step: Step, line: Bytes },
    /// L2 says that it is not ready (LOADING, BUSY, MASTERDOWN): like away, but with its own words.
    NotReady(Bytes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Hello,
    Tracking,
    Select,
}

/// What L2 told while the link was opened.
pub struct Welcome {
    /// L2's id of the connection.
    pub client_id: i64,
    /// It is no node of a cluster.
    pub is_standalone: bool,
    /// When the last step was sent.
    pub began: Moment,
}

/// Connects to one node. `tls` says how, where the target that it belongs to is reached by TLS; its certificate must be of
/// the endpoint's host, unless another name is set.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Option<&Connector>,
    login: &Login<'_>,
) -> Result<(Stream, Incoming, Welcome), Refusal> {
    let unreachable = |e: io::Error| Refusal::Unreachable(e.to_string());
    let (stream, mut incoming) = match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(10));
            socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(unreachable)?;
            match tls {
                None => Stream::of_tcp(stream),
                Some(tls) => {
                    let name = tls.name(host).map_err(Refusal::Unreachable)?;
                    let side = Side::client(tls.config.clone(), name).map_err(unreachable)?;
                    Stream::of_tls(stream, side)
                }
            }
        }
        Endpoint::Cluster { .. } => {
            return Err(Refusal::Unreachable("a cluster is reached by its nodes".into()));
        }
        Endpoint::Sentinel(_) => {
            return Err(Refusal::Unreachable("a sentinel executes no commands".into()));
        }
        Endpoint::Memory => {
            return Err(Refusal::Unreachable("there is no Redis, but the embedded engine".into()));
        }
        Endpoint::Unix { path } => Stream::of_unix(UnixStream::connect(path).await.map_err(unreachable)?),
    };
    let mut room = vec![0; ROOM_BYTES];
    incoming.handshake(&mut room).await.map_err(unreachable)?;
    let welcome = greet(&stream, &mut incoming, &mut room, login).await?;
    Ok((stream, incoming, welcome))
}

/// The other end has gone.
fn is_loss(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

const SPEAKS_TLS: &str = "it speaks TLS: write rediss://, or name its port for plain text";

/// HELLO says who, which protocol, and the link's name: other commands may need rights that a user does not have, and
/// each refusal would stand in L2's ACL LOG.
fn steps(login: &Login<'_>) -> (Vec<Step>, Vec<u8>) {
    let mut steps = Vec::new();
    let mut wire = Vec::new();
    let mut add = |step, args: &[&[u8]]| {
        steps.push(step);
        resp::append_request(&mut wire, args);
    };
    let db = login.db.to_string();
    let select: [&[u8]; 2] = [b"SELECT", db.as_bytes()];
    // Whoever becomes another user stays in its database, also if that user may not choose one.
    let chooser = login.chooser.filter(|_| login.db != 0);
    if let Some(chooser) = chooser {
        if let Some(own) = &chooser.credentials {
            add(Step::Select, &[b"AUTH", chooser.name().as_bytes(), own.password.as_bytes()]);
        }
        add(Step::Select, &select);
    }
    let mut hello: Vec<&[u8]> = vec![b"HELLO", if login.resp3 { b"3" } else { b"2" }];
    if let Some(Credentials { user, password }) = login.credentials {
        let user = user.as_deref().unwrap_or("default");
        hello.extend([&b"AUTH"[..], user.as_bytes(), password.as_bytes()]);
    }
    if !login.pinned {
        hello.extend([&b"SETNAME"[..], b"madcache"]);
    }
    add(Step::Hello, &hello);
    if login.tracked {
        add(Step::Tracking, &[b"CLIENT", b"TRACKING", b"ON"]);
        if login.verified {
            add(Step::Tracking, &[b"CLIENT", b"TRACKINGINFO"]);
        }
    }
    if login.db != 0 && chooser.is_none() {
        add(Step::Select, &select);
    }
    (steps, wire)
}

async fn greet(
    stream: &Stream,
    incoming: &mut Incoming,
    room: &mut [u8],
    login: &Login<'_>,
) -> Result<Welcome, Refusal> {
    let unreachable = |e: io::Error| Refusal::Unreachable(e.to_string());
    let (steps, wire) = steps(login);
    let mut welcome = Welcome { client_id: 0, is_standalone: false, began: Moment::now() };
    // Whoever has refused this end may have said why before it closed.
    stream.write_all(&wire).await.or_else(|e| if is_loss(&e) { Ok(()) } else { Err(unreachable(e)) })?;
    let mut input = Vec::new();
    let mut scanner = ReplyScanner::default();
    for step in steps {
        let len = loop {
            match scanner.scan(&input) {
                ReplyScan::Complete(frame) => break frame.len,
                ReplyScan::Malformed if input.starts_with(TLS_ALERT) => {
                    return Err(Refusal::Unreachable(SPEAKS_TLS.into()));
                }
                ReplyScan::Malformed => {
                    return Err(Refusal::Unreachable("it does not speak the Redis protocol".into()));
                }
                ReplyScan::Incomplete => {}
            }
            let read = match poll_fn(|cx| incoming.poll_read(cx, room)).await {
                Err(error) if is_loss(&error) => 0,
                read => read.map_err(unreachable)?,
            };
            if read == 0 {
                let by_tls = matches!(stream, Stream::Tls(_));
                return Err(Refusal::Unreachable(tls::closed_at_once(by_tls).into()));
            }
            input.extend_from_slice(&room[..read]);
        };
        check(step, login, &input[..len], &mut welcome)?;
        input.drain(..len);
    }
    if !input.is_empty() {
        return Err(Refusal::Unreachable("it sent more than was asked for".into()));
    }
    Ok(welcome)
}

/// How TLS answers what is no TLS.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

fn check(step: Step, login: &Login<'_>, frame: &[u8], welcome: &mut Welcome) -> Result<(), Refusal> {
    if frame.starts_with(b"-") {
        let line = Bytes::copy_from_slice(frame);
        let not_ready = [&b"-LOADING"[..], b"-BUSY", b"-MASTERDOWN", b"-ERR max number of clients"];
        if not_ready.iter().any(|start| frame.starts_with(start)) {
            return Err(Refusal::NotReady(line));
        }
        // Without authentication the links still show clients L2's own NOAUTH; in RESP3 L2 refuses the protocol.
        if frame.starts_with(b"-NOAUTH") && !login.resp3 {
            return Ok(());
        }
        return Err(Refusal::Refused { step, line });
    }
    match step {
        Step::Hello => {
            let hello = resp::parse(frame);
            let field = |name| hello.as_ref().and_then(|hello| hello.field(name));
            welcome.client_id = field("id").and_then(Value::int).unwrap_or_default();
            welcome.is_standalone = field("mode").and_then(Value::text) == Some(b"standalone");
            // What ROLE says too; but not every user may ask that.
            if login.leads && field("role").and_then(Value::text).is_some_and(|role| role != b"master") {
                return Err(Refusal::Unreachable("it is a replica".into()));
            }
        }
        Step::Tracking if !frame.starts_with(b"+") => {
            let flags = resp::parse(frame).and_then(|info| info.field("flags").cloned());
            let is_on =
                |flags: &Value| flags.elements().is_some_and(|f| f.iter().any(|f| f.text() == Some(b"on")));
            if !flags.as_ref().is_some_and(is_on) {
                let line = Bytes::from_static(b"-ERR CLIENT TRACKING did not come on\r\n");
                return Err(Refusal::Refused { step, line });
            }
        }
        _ => {}
    }
    Ok(())
}
