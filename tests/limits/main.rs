//! Each limit does what the table of limits says, and nobody else notices: a bystander is served throughout and the
//! daemon's memory stays bounded. Where Redis has the same limit, its own answer is asked for and must be met.

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod bombs;
mod buffers;
mod counts;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use support::{Client, Daemon, PATIENCE, Redis};

pub const MIB: u64 = 1 << 20;

/// A client that does nothing wrong and must not be harmed by those that do.
pub struct Bystander {
    client: Client,
}

impl Bystander {
    pub fn of(daemon: &Daemon) -> Bystander {
        let mut client = daemon.client();
        assert_eq!(client.text(&["SET", "bystander", "fine"]), "+OK");
        Bystander { client }
    }

    pub fn is_fine(&mut self) {
        assert_eq!(self.client.text(&["PING"]), "+PONG");
        assert_eq!(self.client.text(&["GET", "bystander"]), "fine");
    }
}

/// Fails if the daemon holds more than this much memory beyond what it held before.
pub fn assert_memory_below(daemon: &Daemon, before: u64, more: u64, what: &str) {
    let now = daemon.process.rss_bytes();
    assert!(now <= before + more, "{what}: from {} to {} MiB", before / MIB, now / MIB);
}

/// Whether the peer has closed within `PATIENCE`; what it sent before is thrown away.
pub fn closes(client: &Client) -> bool {
    let mut piece = vec![0; 1 << 20];
    loop {
        match client.stream().read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// A client whose kernel holds little that it has not read yet.
pub fn connect_with_small_window(port: u16) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    Client::over(socket.into())
}

/// Writes without reading until all is written, the peer has closed, or it takes no more for a moment: what was taken.
pub fn write_unread(client: &Client, bytes: &[u8], moment: Duration) -> std::io::Result<usize> {
    client.stream().set_write_timeout(Some(moment)).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        match client.stream().write(&bytes[at..]) {
            Ok(n) => at += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    client.stream().set_write_timeout(Some(PATIENCE)).unwrap();
    Ok(at)
}

/// Puts a value of this size at the key, straight into Redis.
pub fn put_big(redis: &Redis, key: &str, len: usize) -> Vec<u8> {
    let value: Vec<u8> = (0..len).map(|n| b'a' + (n % 23) as u8).collect();
    assert_eq!(redis.client().call(&[b"SET", key.as_bytes(), &value]), b"+OK\r\n");
    value
}
