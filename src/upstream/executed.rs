//! EXEC of a transaction that (un)subscribes. Such a command puts as many frames as it has names into the place of one
//! element, so the reply is no frame: it is gathered by what was queued, and handed over as one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::link::Link;
use super::pending::{Expect, Pending};
use super::pinned::{Frames, Subscribed, is_confirmation, is_message};

/// What EXEC answers for one queued command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Frame,
    /// One confirmation per name; without names one for each subscription that there is, at least one.
    Confirmations {
        kind: Subscribed,
        names: Option<usize>,
    },
}

/// A reply that is being gathered.
#[derive(Debug)]
pub struct Gathering {
    left: VecDeque<Element>,
    parts: Vec<u8>,
    /// Confirmations of the present element.
    got: usize,
}

impl Gathering {
    pub fn new(elements: Vec<Element>) -> Gathering {
        Gathering { left: elements.into(), parts: Vec::new(), got: 0 }
    }

    fn has_begun(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether the present element is whole with this frame. `left` subscriptions of its kind remain.
    fn completes(&mut self, confirms: bool, left: impl Fn(Subscribed) -> usize) -> bool {
        match self.left.front() {
            Some(Element::Confirmations { kind, names }) if confirms => {
                self.got += 1;
                names.map_or_else(|| left(*kind) == 0, |names| self.got >= names)
            }
            // L2 ended a subscription by itself.
            Some(Element::Frame) if confirms => false,
            _ => true,
        }
    }
}

/// What stands at the start of a link's input.
pub enum Header {
    /// Something else.
    No,
    /// Too little to tell.
    Incomplete,
    Taken,
}

impl Link {
    fn with_gathering<R>(&self, look: impl FnOnce(&mut Gathering) -> R) -> Option<R> {
        self.with_first_pending(|pending| match &mut pending.expect {
            Expect::Pinned(_, expect) => match &mut expect.frames {
                Frames::Gathered(gathering) => Some(look(gathering)),
                _ => None,
            },
            _ => None,
        })
        .flatten()
    }

    /// Takes the first line of an EXEC reply that must be gathered.
    pub fn take_exec_header(&self, input: &mut BytesMut) -> Header {
        let expected = self.with_gathering(|g| (!g.has_begun()).then_some(g.left.len())).flatten();
        let Some(expected) = expected.filter(|_| input.first().is_none_or(|first| *first == b'*')) else {
            return Header::No;
        };
        let Some(line_end) = memchr::memchr(b'\n', input).map(|end| end + 1) else {
            return Header::Incomplete;
        };
        if input[..line_end] != *format!("*{expected}\r\n").as_bytes() {
            return Header::No;
        }
        if self.pinned.subscriptions() > 0 {
            // A message may have come before it.
            let rest = &input[line_end..];
            let messages = [&b"$7\r\nmessage\r\n"[..], b"$8\r\npmessage\r\n", b"$8\r\nsmessage\r\n"];
            if messages.iter().any(|message| rest.starts_with(message)) {
                return Header::No;
            }
            if messages.iter().any(|message| message.starts_with(rest)) {
                return Header::Incomplete;
            }
        }
        let header = input.split_to(line_end);
        self.with_gathering(|g| g.parts.extend_from_slice(&header));
        Header::Taken
    }

    /// Adds a frame to the reply that is being gathered; gives that back when it is whole. `Err`: none is, the frame
    /// stands for itself.
    pub fn gather(&self, bytes: Bytes, kind: u8) -> Result<Option<(Pending, Bytes)>, Bytes> {
        if self.with_gathering(|g| g.has_begun()) != Some(true) {
            return Err(bytes);
        }
        let confirms = is_confirmation(&bytes);
        if confirms {
            self.note_confirmation(&bytes);
        }
        let counts = self.pinned.subscription_counts();
        let passes = !confirms && (kind == b'>' || counts != [0; 3] && is_message(&bytes));
        let whole = self.with_gathering(|g| {
            g.parts.extend_from_slice(&bytes);
            if !passes && g.completes(confirms, |kind| counts[kind as usize]) {
                g.left.pop_front();
                g.got = 0;
            }
            g.left.is_empty().then(|| std::mem::take(&mut g.parts))
        });
        let Some(parts) = whole.flatten() else { return Ok(None) };
        Ok(self.pop_pending().map(|pending| (pending, parts.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_ends_with_its_last_confirmation() {
        let subscribe = Element::Confirmations { kind: Subscribed::Channel, names: Some(2) };
        let mut gathering = Gathering::new(vec![subscribe]);
        assert!(!gathering.completes(true, |_| 1));
        assert!(gathering.completes(true, |_| 2));
    }

    #[test]
    fn an_unsubscription_from_all_ends_when_none_is_left() {
        let unsubscribe = Element::Confirmations { kind: Subscribed::Pattern, names: None };
        let mut gathering = Gathering::new(vec![unsubscribe]);
        assert!(!gathering.completes(true, |kind| usize::from(kind == Subscribed::Pattern)));
        assert!(gathering.completes(true, |_| 0));
    }

    #[test]
    fn an_error_stands_for_the_whole_element() {
        let mut gathering =
            Gathering::new(vec![Element::Confirmations { kind: Subscribed::Channel, names: Some(2) }]);
        assert!(gathering.completes(false, |_| 0));
    }
}
