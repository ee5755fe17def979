//! A TCP relay in front of Redis that can be cut (connections end, new ones are refused) or frozen (bytes stop and
//! nobody is told), as a network may do it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

const OPEN: u8 = 0;
const CUT: u8 = 1;
const FROZEN: u8 = 2;
const OVER: u8 = 3;

pub struct Relay {
    port: u16,
    state: Arc<AtomicU8>,
}

impl Relay {
    pub fn to(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let relay = Relay { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = relay.state.clone();
        std::thread::spawn(move || accept(listener, port, &state));
        relay
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn cut(&self) {
        self.state.store(CUT, SeqCst);
    }

    pub fn freeze(&self) {
        self.state.store(FROZEN, SeqCst);
    }

    pub fn heal(&self) {
        self.state.store(OPEN, SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.store(OVER, SeqCst);
    }
}

fn accept(listener: TcpListener, target: u16, state: &Arc<AtomicU8>) {
    while state.load(SeqCst) != OVER {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        if state.load(SeqCst) == CUT {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), state.clone());
            std::thread::spawn(move || pass(from, to, &state));
        }
    }
}

/// Passes bytes one way until one end closes or the relay is cut.
fn pass(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    from.set_nonblocking(false).unwrap();
    to.set_nodelay(true).unwrap();
    from.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut piece = vec![0; 65536];
    loop {
        let read = from.read(&mut piece);
        while state.load(SeqCst) == FROZEN {
            std::thread::sleep(Duration::from_millis(1));
        }
        let passed = match read {
            _ if state.load(SeqCst) != OPEN => false,
            Err(e) if e.kind() == ErrorKind::WouldBlock => true,
            Ok(n) if n > 0 => to.write_all(&piece[..n]).is_ok(),
            _ => false,
        };
        if !passed {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
