//! Listeners: who may connect, and which worker serves it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::net::{Incoming, Side, Stream};
use crate::shared::{Mail, Shared};

/// A connection on its way to a worker.
pub enum Accepted {
    Tcp(std::net::TcpStream),
    /// With what stood in the files when it was accepted.
    Tls(std::net::TcpStream, Arc<ServerConfig>),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// To be called on the worker that will serve it.
    pub fn into_stream(self) -> io::Result<(Stream, Incoming)> {
        Ok(match self {
            Accepted::Tcp(stream) => Stream::of_tcp(TcpStream::from_std(stream)?),
            Accepted::Tls(stream, config) => {
                Stream::of_tls(TcpStream::from_std(stream)?, Side::server(config)?)
            }
            Accepted::Unix(stream) => Stream::of_unix(UnixStream::from_std(stream)?),
        })
    }
}

/// Why a listener could not be opened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}: {remedy}")]
    Bind { address: String, source: io::Error, remedy: &'static str },
}

pub fn bind_error(address: String, source: io::Error) -> Error {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "something is there already; stop it, or choose another server.port (--port) or server.unixsocket"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023, or a path that this user may write",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; check server.bind",
        _ => "check server.bind, server.port, server.tls_port and server.unixsocket",
    };
    Error::Bind { address, source, remedy }
}

pub enum Listener {
    Tcp(TcpListener, Speech),
    Unix(UnixListener, PathBuf),
}

/// What is spoken on a TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Plain,
    Tls,
}

/// Opens a TCP listener.
pub fn listen_tcp(ip: IpAddr, port: u16, speech: Speech) -> Result<Listener, Error> {
    let address = SocketAddr::new(ip, port);
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(511)?;
        TcpListener::from_std(socket.into())
    };
    open().map(|listener| Listener::Tcp(listener, speech)).map_err(|e| bind_error(address.to_string(), e))
}

/// Opens a unix socket that only this user may use. A socket that nobody listens on any more is replaced.
pub fn listen_unix(path: &Path) -> Result<Listener, Error> {
    let open = || -> io::Result<UnixListener> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        use std::os::unix::fs::FileTypeExt;
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        // Nobody else may connect, not even between bind and chmod.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = open().map_err(|e| bind_error(path.display().to_string(), e))?;
    Ok(Listener::Unix(listener, path.to_path_buf()))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // It may have been removed by somebody else already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Accepts until it is dropped. An error backs off and goes on.
pub async fn accept(listener: Listener, shared: Arc<Shared>, dealer: Arc<Dealer>) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener, speech) => listener.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                keep_alive(&stream, &shared);
                let stream = stream.into_std()?;
                match (speech, shared.tls.server()) {
                    (Speech::Plain, _) => Ok(Accepted::Tcp(stream)),
                    (Speech::Tls, Some(config)) => Ok(Accepted::Tls(stream, config)),
                    (Speech::Tls, None) => {
                        Err(io::Error::other("there is no certificate for server.tls_port"))
                    }
                }
            }),
            Listener::Unix(listener, _) => {
                listener.accept().await.and_then(|(s, _)| Ok(Accepted::Unix(s.into_std()?)))
            }
        };
        match accepted {
            Ok(accepted) => dealer.deal(&shared, accepted).await,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn keep_alive(stream: &TcpStream, shared: &Shared) {
    let seconds = shared.live.load().config.server.tcp_keepalive_seconds;
    if seconds == 0 {
        return;
    }
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(seconds))
        .with_interval(Duration::from_secs((seconds / 3).max(1)));
    // Only a comfort: the connection serves without it.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Deals connections to workers in turn, so that those of one client pool are spread evenly.
#[derive(Default)]
pub struct Dealer {
    next: AtomicUsize,
}

impl Dealer {
    async fn deal(&self, shared: &Shared, accepted: Accepted) {
        if shared.clients.fetch_add(1, Relaxed) >= shared.live.load().config.server.clients_max {
            shared.clients.fetch_sub(1, Relaxed);
            shared.refused_clients.fetch_add(1, Relaxed);
            return refuse(accepted).await;
        }
        let worker = self.next.fetch_add(1, Relaxed) % shared.mailboxes.len();
        if shared.mailboxes[worker].send(Mail::Client(accepted)).await.is_err() {
            shared.clients.fetch_sub(1, Relaxed);
        }
    }
}

async fn refuse(accepted: Accepted) {
    const LINE: &[u8] = b"-ERR max number of clients reached\r\n";
    let sent = match accepted {
        Accepted::Tcp(stream) => match TcpStream::from_std(stream) {
            Ok(mut stream) => stream.write_all(LINE).await,
            Err(error) => Err(error),
        },
        Accepted::Unix(stream) => match UnixStream::from_std(stream) {
            Ok(mut stream) => stream.write_all(LINE).await,
            Err(error) => Err(error),
        },
        // Nothing can be said before a handshake, which is more work than a client is worth that is too many.
        Accepted::Tls(..) => Ok(()),
    };
    // The client may be gone already.
    drop(sent);
}
