//! MGET and EXISTS over the tracked link: one read, the PTTL of each key behind it, an entry for each element.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::link::Link;
use super::pending::Asker;
use super::pending::Frame;
use crate::cache::{Entry, Flight, Terms};
use crate::clock::Moment;
use crate::command::Shape;
use crate::resp;
use crate::worker::Worker;

pub struct FillEach {
    pub asker: Asker,
    pub of: Each,
    pub resp3: bool,
    /// The request, to be sent again if the link is lost.
    pub wire: Box<[u8]>,
    /// One per key; `None` where another read of that key is under way, which alone may fill.
    pub flights: Vec<Option<Arc<Flight>>>,
    pub incarnation: u64,
    pub sent: Moment,
    pub reply: Option<Bytes>,
    pub ttls: Vec<Option<i64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    Mget,
    Exists,
}

impl FillEach {
    /// Takes the reply or one of the PTTLs; returns itself while more are to come.
    pub fn frame(
        mut self: Box<Self>,
        worker: &Rc<Worker>,
        link: &Rc<Link>,
        frame: &[u8],
    ) -> Option<Box<Self>> {
        if self.reply.is_none() {
            self.reply = Some(Bytes::copy_from_slice(frame));
        } else {
            self.ttls.push(resp::parse_integer(frame));
        }
        if self.ttls.len() < self.flights.len() {
            return Some(self);
        }
        self.done(worker, link);
        None
    }

    fn done(self, worker: &Rc<Worker>, link: &Rc<Link>) {
        let reply = self.reply.clone().unwrap_or_default();
        let elements = resp::array_elements(&reply).unwrap_or_default();
        for (at, flight) in self.flights.iter().enumerate() {
            let Some(flight) = flight else { continue };
            let ttl = self.ttls[at];
            let element = match self.of {
                Each::Mget => self.mget_element(elements.get(at).copied(), ttl),
                Each::Exists => {
                    ttl.map(|ttl| if ttl == -2 { b":0\r\n".to_vec() } else { b":1\r\n".to_vec() })
                }
            };
            let element = element.filter(|_| !reply.starts_with(b"-"));
            if let (Some(element), Some(ttl)) = (&element, ttl) {
                self.fill(worker, link, flight, element, ttl);
            }
            worker.land(flight, element.as_deref());
        }
        let mut converted = Vec::new();
        let answer = if self.resp3 || reply.starts_with(b"-") {
            Frame::Owned(reply)
        } else {
            match resp::resp3_to_resp2(&reply, Shape::Plain, &mut converted) {
                Ok(()) => Frame::Owned(converted.into()),
                Err(_) => Frame::Owned(reply),
            }
        };
        self.asker.session.answer(worker, self.asker.seq, answer);
    }

    /// The element as the session's protocol writes it; `None` if that cannot be told (a key of another type).
    fn mget_element(&self, element: Option<&[u8]>, ttl: Option<i64>) -> Option<Vec<u8>> {
        match element? {
            b"_\r\n" if ttl != Some(-2) => None,
            b"_\r\n" if !self.resp3 => Some(b"$-1\r\n".to_vec()),
            value => Some(value.to_vec()),
        }
    }

    fn fill(&self, worker: &Rc<Worker>, link: &Rc<Link>, flight: &Arc<Flight>, reply: &[u8], ttl: i64) {
        let (Some(cache), Some(lease)) = (&worker.shared.cache, &link.lease) else { return };
        let id = flight.id();
        let Some(life) = worker.life_of(&id, reply, ttl) else { return };
        let terms = Terms {
            stamp: flight.stamp,
            incarnation: self.incarnation,
            lease: lease.clone(),
            deadline: self.sent.after(life.time),
            stale_ms_max: life.stale_ms_max,
        };
        let entry = Entry::new(&id, reply, terms);
        worker.store(cache, flight, entry);
    }

    /// The link was lost: the read is sent again over a plain one.
    pub fn failed(self, worker: &Rc<Worker>) {
        for flight in self.flights.iter().flatten() {
            worker.land(flight, None);
        }
        self.asker.session.read_again(worker, self.asker.seq, &self.wire);
    }
}
