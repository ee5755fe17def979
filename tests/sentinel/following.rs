//! What a client without a daemon has to do: a writer that follows the sentinels by itself, or goes through HAProxy. The daemon
//! is measured by it, and what it writes must be read through the daemon.

use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::load::Confirmed;
use crate::support::sentinel::{SERVICE, text};
use crate::support::{Client, encode};
use madcache::resp::parse;

/// Between looks at the sentinels. Clients with a subscription are about as quick.
const LOOK: Duration = Duration::from_millis(50);
/// The key that it writes.
pub const KEY: &str = "direct";

/// Where it finds Redis.
pub enum Way {
    Sentinels(Vec<u16>),
    Address(u16),
}

#[derive(Default)]
pub struct Direct {
    /// When each write was confirmed by a replica, and its number.
    pub writes: Mutex<Vec<(Instant, u64)>>,
    pub confirmed: Confirmed,
    master: Mutex<Option<u16>>,
    stream: Mutex<Option<TcpStream>>,
}

impl Direct {
    /// Looks where the master is, and ends the connection when it is elsewhere.
    pub fn look(&self, way: &Way, over: &AtomicBool) {
        while !over.load(Relaxed) {
            let named = match way {
                Way::Address(port) => Some(*port),
                Way::Sentinels(ports) => ports.iter().find_map(|port| master_by(*port)),
            };
            let mut master = self.master.lock().unwrap();
            if named.is_some() && *master != named {
                *master = named;
                if let Some(stream) = self.stream.lock().unwrap().take() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            drop(master);
            std::thread::sleep(LOOK);
        }
    }

    /// Writes growing numbers, each confirmed by WAIT.
    pub fn write(&self, over: &AtomicBool) {
        let mut number = 0;
        while !over.load(Relaxed) {
            let port = *self.master.lock().unwrap();
            if let Some(client) = port.and_then(|port| self.connect(port)) {
                self.write_on(client, &mut number, over);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn connect(&self, port: u16) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        *self.stream.lock().unwrap() = stream.try_clone().ok();
        let mut client = Client::over(stream);
        client.send_raw(b"*1\r\n$4\r\nROLE\r\n").ok()?;
        let role = parse(&client.try_read_frame().ok()?)?;
        let is_master = role.elements()?.first().and_then(text)? == "master";
        // It may have been replaced while we connected.
        (is_master && *self.master.lock().unwrap() == Some(port)).then_some(client)
    }

    fn write_on(&self, mut client: Client, number: &mut u64, over: &AtomicBool) {
        while !over.load(Relaxed) {
            *number += 1;
            let wire = [encode(&["SET", KEY, &number.to_string()]), encode(&["WAIT", "1", "500"])].concat();
            let replies = client
                .send_raw(&wire)
                .and_then(|()| Ok([client.try_read_frame()?, client.try_read_frame()?]));
            match replies {
                Ok([set, wait]) if set == b"+OK\r\n" => {
                    if wait != b":0\r\n" {
                        self.confirmed.note(*number);
                        self.writes.lock().unwrap().push((Instant::now(), *number));
                    }
                }
                _ => return,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn master_by(sentinel: u16) -> Option<u16> {
    let stream = TcpStream::connect(("127.0.0.1", sentinel)).ok()?;
    let mut client = Client::over(stream);
    client.send_raw(&encode(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])).ok()?;
    text(parse(&client.try_read_frame().ok()?)?.elements()?.get(1)?)?.parse().ok()
}
