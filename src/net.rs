//! A byte stream to a client or to L2: TCP, TLS over it, or a unix socket, never blocking, and the bytes that wait to go out
//! on it. It is split: one task reads, everybody who holds the other half writes.

mod tls;

pub use tls::Side;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// From here on a piece is handed on by reference instead of being copied into a buffer.
pub const BIG_PIECE_BYTES: usize = 16 * 1024;

/// A buffer that has grown to this is one of the pieces from then on.
const TAIL_BYTES_MAX: usize = 128 * 1024;

/// Capacity that an empty buffer may keep for its next use.
const KEPT_BYTES: usize = 256 * 1024;

/// The half that is written to.
pub enum Stream {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    Tls(Rc<tls::Tls>),
}

/// The half that is read.
pub enum Incoming {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    Tls(Box<tls::Reader>),
}

impl Incoming {
    /// Makes the handshake, where there is one. `room` is for what the peer sends.
    pub async fn handshake(&mut self, room: &mut [u8]) -> io::Result<()> {
        match self {
            Incoming::Tls(reader) => poll_fn(|cx| reader.poll_handshake(cx, room)).await,
            Incoming::Tcp(_) | Incoming::Unix(_) => Ok(()),
        }
    }

    /// Reads what is there; 0 bytes: the end. Less than asked for was all there is, which spares the call that would
    /// only say so.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(into);
        ready!(match self {
            Incoming::Tcp(half) => Pin::new(half).poll_read(cx, &mut into),
            Incoming::Unix(half) => Pin::new(half).poll_read(cx, &mut into),
            Incoming::Tls(reader) => {
                return reader.poll_read(cx, into.initialize_unfilled(), Incoming::poll_read);
            }
        })?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// The same until there is nothing more: what comes in while a read is looked at is read with it, so that batches are
    /// large where one stream carries much.
    pub fn poll_read_on(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let read = match self {
                Incoming::Tcp(half) => {
                    ready!(half.as_ref().poll_read_ready(cx))?;
                    half.try_read(into)
                }
                Incoming::Unix(half) => {
                    ready!(half.as_ref().poll_read_ready(cx))?;
                    half.try_read(into)
                }
                Incoming::Tls(reader) => return reader.poll_read(cx, into, Incoming::poll_read_on),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $body:expr, $tls:ident => $sealed:expr) => {
        match $self {
            Stream::Tcp($stream) => $body,
            Stream::Unix($stream) => $body,
            Stream::Tls($tls) => $sealed,
        }
    };
}

impl Stream {
    pub fn of_tcp(stream: TcpStream) -> (Stream, Incoming) {
        let (incoming, stream) = stream.into_split();
        (Stream::Tcp(stream), Incoming::Tcp(incoming))
    }
    pub fn of_unix(stream: UnixStream) -> (Stream, Incoming) {
        let (incoming, stream) = stream.into_split();
        (Stream::Unix(stream), Incoming::Unix(incoming))
    }

    /// The same, encrypted; the handshake is made while it is read.
    pub fn of_tls(stream: TcpStream, side: Side) -> (Stream, Incoming) {
        let (tls, reader) = tls::halves(Stream::of_tcp(stream), side);
        (Stream::Tls(tls), Incoming::Tls(Box::new(reader)))
    }

    /// Whether nothing can be said yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.is_handshaking())
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.as_ref().poll_write_ready(cx), tls => tls.poll_write_ready(cx))
    }
    /// Of what stands beneath TLS, too.
    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        each!(self, s => s.try_write(buf), tls => tls.socket().try_write(buf))
    }
    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, s => s.try_write_vectored(pieces), tls => tls.socket().try_write_vectored(pieces))
    }

    /// Writes all of it.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = OutBuf::default();
        out.push_slice(bytes);
        loop {
            out.write_to(self, &mut BufferPool::default())?;
            if out.is_empty() {
                return Ok(());
            }
            poll_fn(|cx| self.poll_write_ready(cx)).await?;
        }
    }

    /// Ends both directions; whoever reads it sees its end.
    pub fn shutdown(&self) {
        let fd = each!(self, s => s.as_ref().as_fd(), tls => return tls.shutdown());
        // It fails only where the peer has gone already.
        let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
    }

    /// "ip:port" or "path:0" of the peer and of this end, as CLIENT LIST shows them.
    pub fn addresses(&self) -> (String, String) {
        match self {
            Stream::Tcp(s) => {
                let text = |a: io::Result<std::net::SocketAddr>| a.map(|a| a.to_string()).unwrap_or_default();
                (text(s.peer_addr()), text(s.local_addr()))
            }
            Stream::Unix(s) => {
                let path = s.local_addr().ok().and_then(|a| Some(a.as_pathname()?.display().to_string()));
                let text = format!("{}:0", path.unwrap_or_default());
                (text.clone(), text)
            }
            Stream::Tls(tls) => tls.socket().addresses(),
        }
    }
}

/// Bytes on their way out: small ones gathered in one buffer, big ones passed on by reference.
#[derive(Default)]
pub struct OutBuf {
    whole: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// How much of the first piece has been written.
    written: usize,
    len: usize,
    /// What is encrypted already and waits in the stream.
    held: usize,
}

impl OutBuf {
    pub fn len(&self) -> usize {
        self.len + self.held
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn push_slice(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= TAIL_BYTES_MAX {
            self.close_piece();
        }
    }

    /// What waits for long is kept in pieces: one that grew on would be copied again and again, and lie in memory twice.
    #[cold]
    fn close_piece(&mut self) {
        self.whole.push_back(Bytes::from(std::mem::take(&mut self.tail)));
    }

    pub fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < BIG_PIECE_BYTES {
            return self.push_slice(&bytes);
        }
        self.len += bytes.len();
        if !self.tail.is_empty() {
            self.close_piece();
        }
        self.whole.push_back(bytes);
    }

    /// Appends what `encode` writes.
    pub fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        encode(&mut self.tail);
        self.len += self.tail.len() - before;
        if self.tail.len() >= TAIL_BYTES_MAX {
            self.close_piece();
        }
    }

    pub fn clear(&mut self) {
        *self = OutBuf::default();
    }

    /// Lends a buffer to write into, if there is none yet.
    pub fn lend(&mut self, pool: &mut BufferPool) {
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        }
    }

    /// Writes as much as the stream takes now. Returns the number of bytes written; when everything went
    /// out, the buffer goes back to the pool. What an encrypted stream has taken counts as written, and is here still until it
    /// went out.
    pub fn write_to(&mut self, stream: &Stream, pool: &mut BufferPool) -> io::Result<usize> {
        let mut total = 0;
        if let Stream::Tls(tls) = stream {
            total = tls.write(self)?;
            self.held = tls.held();
            if self.len > 0 {
                return Ok(total);
            }
        }
        while self.len > 0 {
            let result = if self.whole.is_empty() {
                stream.try_write(&self.tail[self.written..])
            } else {
                let mut pieces = [IoSlice::new(&[]); 16];
                let mut count = 0;
                let bodies = self.whole.iter().map(|b| &b[..]).chain([&self.tail[..]]);
                for (piece, body) in pieces.iter_mut().zip(bodies) {
                    *piece = IoSlice::new(if count == 0 { &body[self.written..] } else { body });
                    count += 1;
                }
                stream.try_write_vectored(&pieces[..count])
            };
            match result {
                Ok(n) => {
                    total += n;
                    self.advance(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(total),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.written = 0;
        self.tail.clear();
        pool.give(std::mem::take(&mut self.tail));
        Ok(total)
    }

    /// The piece that is written next.
    fn front(&self) -> &[u8] {
        let piece = self.whole.front().map_or(&self.tail[..], |piece| &piece[..]);
        &piece[self.written..]
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(first) = self.whole.front() {
            let left = first.len() - self.written;
            if n < left {
                self.written += n;
                return;
            }
            n -= left;
            self.written = 0;
            self.whole.pop_front();
        }
        self.written += n;
    }
}

/// Empty buffers of one worker, so that idle connections hold none.
#[derive(Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
}

impl BufferPool {
    const BUFFERS_MAX: usize = 256;

    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(4096))
    }

    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_BYTES || self.free.len() >= Self::BUFFERS_MAX {
            return;
        }
        buffer.clear();
        self.free.push(buffer);
    }
}
