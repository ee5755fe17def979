//! TLS on a byte stream, by rustls' connections without buffers: records are opened where they were read and sealed where they
//! are written from, in one place per thread. So an idle connection holds no buffer, one with a record that is not whole
//! holds that record, and one whose peer does not read holds at most `SCRATCH_BYTES`. Knows no certificate.

mod records;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};

use super::{Incoming, OutBuf, Stream};
use crate::tls::{self, Peer};
use records::{Content, Next, Sealed, look, seal};

/// Plaintext of one record at most.
const RECORD_BYTES: usize = 16 * 1024;
/// More than sealing adds to a record, with a change of keys before it.
const SEAL_BYTES: usize = 256;
const SCRATCH_BYTES: usize = 4 * (RECORD_BYTES + SEAL_BYTES);
/// What is kept of a message of the handshake that is not whole: nobody knows yet who sends it.
const STRANGER_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    /// Where this thread opens and seals records; nothing stays here between two calls.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::default();
}

fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(SCRATCH_BYTES, 0);
        work(scratch)
    })
}

/// Which end of the connection this is.
pub enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Side {
    pub fn server(config: Arc<ServerConfig>) -> io::Result<Side> {
        UnbufferedServerConnection::new(config).map(Side::Server).map_err(io::Error::other)
    }

    /// Only a certificate of that name will do.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Side> {
        UnbufferedClientConnection::new(config, name).map(Side::Client).map_err(io::Error::other)
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Side::Server(side) => side.is_handshaking(),
            Side::Client(side) => side.is_handshaking(),
        }
    }

    fn peer(&self) -> Peer {
        match self {
            Side::Server(_) => Peer::Client,
            Side::Client(_) => Peer::Redis,
        }
    }
}

/// How an encrypted stream reads its socket.
pub type Read = fn(&mut Incoming, &mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>>;

/// The half that is written to, and what both halves share.
pub struct Tls {
    socket: Stream,
    connection: RefCell<Connection>,
}

/// The half that is read. It also makes the handshake, and writes what that needs.
pub struct Reader {
    socket: Incoming,
    tls: Rc<Tls>,
}

struct Connection {
    side: Side,
    /// The beginning of a record, or of a message of the handshake, that has not come as a whole.
    partial: Vec<u8>,
    /// Records that the socket has not taken, from `held_from` on.
    held: Vec<u8>,
    held_from: usize,
    /// Something has come.
    heard: bool,
    established: bool,
    /// Nothing more will come.
    ended: bool,
    /// Shut down from this side.
    shut: bool,
    /// Waits until more can be written.
    writer: Option<Waker>,
}

pub fn halves((socket, incoming): (Stream, Incoming), side: Side) -> (Rc<Tls>, Reader) {
    let connection = Connection {
        side,
        partial: Vec::new(),
        held: Vec::new(),
        held_from: 0,
        heard: false,
        established: false,
        ended: false,
        shut: false,
        writer: None,
    };
    let tls = Rc::new(Tls { socket, connection: RefCell::new(connection) });
    (tls.clone(), Reader { socket: incoming, tls })
}

impl Reader {
    /// Reads what is there; 0 bytes: the end. `into` gets all plaintext of what was read, so there is never any left that
    /// no readiness of the socket would tell of.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
        read: Read,
    ) -> Poll<io::Result<usize>> {
        loop {
            self.poll_flush(cx)?;
            if self.tls.connection.borrow().ended {
                return Poll::Ready(Ok(0));
            }
            let n = ready!(self.poll_open(cx, into, read))?;
            if n > 0 {
                // An error shows again at the next read; what has come before it counts.
                let _ = self.poll_flush(cx);
                return Poll::Ready(Ok(n));
            }
        }
    }

    /// Makes the handshake. `room` is for what the peer sends.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<()>> {
        // Who connects begins.
        self.tls.connection.borrow_mut().open(&mut [], &mut [])?;
        loop {
            self.poll_flush(cx)?;
            let established = {
                let connection = self.tls.connection.borrow();
                connection.established && connection.held.is_empty()
            };
            if established {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_open(cx, room, Incoming::poll_read))? > 0 {
                return Poll::Ready(Err(io::Error::other("it sent more than was asked for")));
            }
        }
    }

    /// Reads once and opens what has come; gives the length of the plaintext.
    fn poll_open(&mut self, cx: &mut Context<'_>, into: &mut [u8], read: Read) -> Poll<io::Result<usize>> {
        let opened = with_scratch(|scratch| {
            let had = self.tls.connection.borrow().partial.len();
            let room = scratch.len().min(into.len());
            if had >= room {
                return Poll::Ready(Err(too_long()));
            }
            let n = ready!(read(&mut self.socket, cx, &mut scratch[had..room]))?;
            let mut connection = self.tls.connection.borrow_mut();
            if n == 0 {
                return Poll::Ready(connection.end().map(|()| 0));
            }
            scratch[..had].copy_from_slice(&connection.partial);
            Poll::Ready(connection.open(&mut scratch[..had + n], into))
        });
        if matches!(opened, Poll::Ready(Err(_))) {
            // The peer is told why, if it still listens.
            let _ = self.tls.flush();
        }
        opened
    }

    /// Writes what the handshake left to be written. Where somebody waits to write, that one does it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.tls.flush()? {
            if self.tls.connection.borrow().writer.is_some() {
                return Ok(());
            }
            match self.tls.socket.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Tls {
    pub fn socket(&self) -> &Stream {
        &self.socket
    }

    pub fn is_handshaking(&self) -> bool {
        !self.connection.borrow().established
    }

    /// Bytes that were sealed and wait for the socket.
    pub fn held(&self) -> usize {
        let connection = self.connection.borrow();
        connection.held.len() - connection.held_from
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut connection = self.connection.borrow_mut();
        let ready = match &*connection {
            Connection { shut: true, .. } => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Connection { established: false, .. } => Poll::Pending,
            _ => self.socket.poll_write_ready(cx),
        };
        connection.writer = ready.is_pending().then(|| cx.waker().clone());
        ready
    }

    /// Seals and writes as much as the socket takes; gives how many bytes of `out` are done with.
    pub fn write(&self, out: &mut OutBuf) -> io::Result<usize> {
        let mut total = 0;
        while self.flush()? && out.len > 0 && !self.is_handshaking() {
            total += self.seal_and_write(out)?;
        }
        Ok(total)
    }

    fn seal_and_write(&self, out: &mut OutBuf) -> io::Result<usize> {
        with_scratch(|scratch| {
            let mut connection = self.connection.borrow_mut();
            let (mut filled, mut taken) = (0, 0);
            while out.len > 0 {
                let piece = out.front();
                let piece = &piece[..piece.len().min(RECORD_BYTES)];
                if scratch.len() - filled < piece.len() + SEAL_BYTES {
                    break;
                }
                filled += connection.seal(Content::Bytes(piece), &mut scratch[filled..])?;
                let len = piece.len();
                taken += len;
                out.advance(len);
            }
            let written = self.push(&scratch[..filled])?;
            connection.held.extend_from_slice(&scratch[written..filled]);
            Ok(taken)
        })
    }

    /// Whether nothing is held any more.
    fn flush(&self) -> io::Result<bool> {
        let mut connection = self.connection.borrow_mut();
        if connection.held.is_empty() {
            return Ok(true);
        }
        connection.held_from += self.push(&connection.held[connection.held_from..])?;
        if connection.held_from < connection.held.len() {
            return Ok(false);
        }
        connection.held = Vec::new();
        connection.held_from = 0;
        Ok(true)
    }

    /// Gives how much the socket took.
    fn push(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.try_write(&bytes[written..]) {
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }

    /// Ends both directions. The peer learns that nothing was cut off, if the socket takes that at once.
    pub fn shutdown(&self) {
        let mut connection = self.connection.borrow_mut();
        if !connection.shut && connection.established && connection.held.is_empty() {
            let mut farewell = [0; SEAL_BYTES];
            let sealed = connection.seal(Content::End, &mut farewell);
            // It fails only where the peer has gone already.
            let _ = sealed.and_then(|len| self.push(&farewell[..len]));
        }
        connection.shut = true;
        if let Some(writer) = connection.writer.take() {
            writer.wake();
        }
        self.socket.shutdown();
    }
}

impl Connection {
    /// Nothing more comes, and nobody said so: requests and replies tell by themselves whether they are whole.
    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        match (self.established, self.heard) {
            (true, _) => Ok(()),
            // Somebody looked whether the port is open.
            (false, false) if self.side.peer() == Peer::Client => Ok(()),
            (false, _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, tls::went_away(self.side.peer()))),
        }
    }

    /// Opens the records that are whole; the rest is kept. What is to be sent is held.
    fn open(&mut self, records: &mut [u8], into: &mut [u8]) -> io::Result<usize> {
        if let Some(first) = records.first().filter(|_| !self.heard) {
            if !is_record(*first) {
                return Err(self.not_tls());
            }
            self.heard = true;
        }
        let (mut at, mut filled) = (0, 0);
        loop {
            let (held, into) = (&mut self.held, &mut into[filled..]);
            let (discard, next) = match &mut self.side {
                Side::Server(side) => look(side.process_tls_records(&mut records[at..]), held, into),
                Side::Client(side) => look(side.process_tls_records(&mut records[at..]), held, into),
            };
            at += discard;
            match next {
                Ok((len, Next::Again)) => filled += len,
                Ok((_, Next::Ended)) => self.ended = true,
                Ok((_, Next::Read)) => break,
                Err(error) => {
                    self.take_alert(&mut records[at..]);
                    let reason = tls::reason(&error, self.side.peer());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
            }
        }
        self.keep(&records[at..])?;
        if !self.established && !self.side.is_handshaking() {
            self.established = true;
            if let Some(writer) = self.writer.take() {
                writer.wake();
            }
        }
        Ok(filled)
    }

    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.is_empty() || self.ended {
            self.partial = Vec::new();
            return Ok(());
        }
        if rest.len() > STRANGER_BYTES_MAX && self.side.is_handshaking() {
            return Err(too_long());
        }
        self.partial.clear();
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// What rustls has to say to the peer about an error.
    fn take_alert(&mut self, records: &mut [u8]) {
        let held = &mut self.held;
        let alert = match &mut self.side {
            Side::Server(side) => look(side.process_tls_records(records), held, &mut []),
            Side::Client(side) => look(side.process_tls_records(records), held, &mut []),
        };
        // The error itself is known; it comes again behind the alert.
        drop(alert);
    }

    /// A client that speaks plain text is answered so.
    fn not_tls(&mut self) -> io::Error {
        let reason = tls::not_tls(self.side.peer());
        if self.side.peer() == Peer::Client {
            self.held.extend_from_slice(
                b"-ERR this port speaks TLS: connect with TLS (rediss://, redis-cli --tls)\r\n",
            );
        }
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Seals one record into `into`, behind those that rustls has to send before it; gives the length.
    fn seal(&mut self, content: Content<'_>, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let into = &mut into[filled..];
            let (discard, sealed) = match &mut self.side {
                Side::Server(side) => seal(side.process_tls_records(&mut self.partial), content, into),
                Side::Client(side) => seal(side.process_tls_records(&mut self.partial), content, into),
            };
            self.partial.drain(..discard);
            match sealed? {
                Sealed::More(len) => filled += len,
                Sealed::All(len) => return Ok(filled + len),
            }
        }
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message of its TLS handshake is too long")
}

/// The first byte of a record of TLS: change of ciphers, alert, handshake, bytes.
fn is_record(first: u8) -> bool {
    (0x14..=0x17).contains(&first)
}
