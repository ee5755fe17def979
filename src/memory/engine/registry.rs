//! Who listens to which channel. Makes the messages; delivers nothing itself.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::super::caller::{Caller, Subscribed};
use super::super::glob;
use crate::resp;

/// Three kinds of names that are listened to apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    fn names_of(self, subscribed: &mut Subscribed) -> &mut std::collections::BTreeSet<Vec<u8>> {
        match self {
            Kind::Channel => &mut subscribed.channels,
            Kind::Pattern => &mut subscribed.patterns,
            Kind::Shard => &mut subscribed.shard_channels,
        }
    }

    /// What the caller listens to with this kind in it: shard channels are counted apart.
    pub fn count(self, subscribed: &Subscribed) -> usize {
        match self {
            Kind::Shard => subscribed.shard_channels.len(),
            _ => subscribed.len(),
        }
    }

    pub fn names(self, subscribed: &Subscribed) -> Vec<Vec<u8>> {
        match self {
            Kind::Channel => subscribed.channels.iter().cloned().collect(),
            Kind::Pattern => subscribed.patterns.iter().cloned().collect(),
            Kind::Shard => subscribed.shard_channels.iter().cloned().collect(),
        }
    }
}

#[derive(Default)]
pub(super) struct Registry {
    channels: BTreeMap<Vec<u8>, Vec<u64>>,
    patterns: BTreeMap<Vec<u8>, Vec<u64>>,
    shards: BTreeMap<Vec<u8>, Vec<u64>>,
    /// Whether a listening caller speaks RESP3.
    resp3: HashMap<u64, bool>,
}

impl Registry {
    fn table(&mut self, kind: Kind) -> &mut BTreeMap<Vec<u8>, Vec<u64>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    pub fn subscribe(&mut self, caller: &mut Caller, kind: Kind, name: &[u8]) {
        if kind.names_of(&mut caller.subscribed).insert(name.to_vec()) {
            self.resp3.insert(caller.id, caller.resp3);
            self.table(kind).entry(name.to_vec()).or_default().push(caller.id);
        }
    }

    pub fn unsubscribe(&mut self, caller: &mut Caller, kind: Kind, name: &[u8]) {
        if !kind.names_of(&mut caller.subscribed).remove(name) {
            return;
        }
        let table = self.table(kind);
        if let Some(listeners) = table.get_mut(name) {
            listeners.retain(|id| *id != caller.id);
            if listeners.is_empty() {
                table.remove(name);
            }
        }
        if caller.subscribed.is_empty() {
            self.resp3.remove(&caller.id);
        }
    }

    /// Ends all that the caller listens to.
    pub fn forget(&mut self, caller: &mut Caller) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in kind.names(&caller.subscribed) {
                self.unsubscribe(caller, kind, &name);
            }
        }
    }

    pub fn speak(&mut self, caller: u64, resp3: bool) {
        self.resp3.insert(caller, resp3);
    }

    /// Hands each listener its message; gives how many there were. Who listens by several patterns gets several.
    pub fn publish(
        &self,
        kind: Kind,
        channel: &[u8],
        message: &[u8],
        mut to: impl FnMut(u64, Bytes),
    ) -> usize {
        let (table, word) = match kind {
            Kind::Shard => (&self.shards, "smessage"),
            _ => (&self.channels, "message"),
        };
        let mut count = 0;
        let mut tell = |listeners: &[u64], words: &[&[u8]]| {
            let mut frames = [None, None];
            for id in listeners {
                let resp3 = self.resp3.get(id).copied().unwrap_or(false);
                let frame = frames[usize::from(resp3)].get_or_insert_with(|| frame_of(words, resp3));
                to(*id, frame.clone());
                count += 1;
            }
        };
        if let Some(listeners) = table.get(channel) {
            tell(listeners, &[word.as_bytes(), channel, message]);
        }
        if kind == Kind::Channel {
            for (pattern, listeners) in &self.patterns {
                if glob::matches(pattern, channel) {
                    tell(listeners, &[b"pmessage", pattern, channel, message]);
                }
            }
        }
        count
    }

    /// Names that somebody listens to, of those that fit the pattern.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<&[u8]> {
        let table = if kind == Kind::Shard { &self.shards } else { &self.channels };
        let names = table.keys().map(Vec::as_slice);
        names.filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name))).collect()
    }

    pub fn listeners(&self, kind: Kind, name: &[u8]) -> usize {
        let table = if kind == Kind::Shard { &self.shards } else { &self.channels };
        table.get(name).map_or(0, Vec::len)
    }

    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }
}

fn frame_of(words: &[&[u8]], resp3: bool) -> Bytes {
    let mut frame = Vec::with_capacity(words.iter().map(|word| word.len() + 16).sum::<usize>() + 8);
    resp::push_header(&mut frame, words.len(), resp3);
    for word in words {
        resp::bulk(&mut frame, word);
    }
    Bytes::from(frame)
}
