//! All databases, and what is known of their keys beyond the values: deadlines, bytes, who watches and who waits.
//! Handlers use it through `Keys`; here are the parts that concern all databases. Performs no I/O, reads no clock.

use super::compact::{Compact, INLINE_LEN_MAX};
use super::dict::Dict;
use super::eviction::Policy;
use super::keys::Keys;
use super::object::{NOWHERE, Object};
use super::random::Random;

/// How the keyspace is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys are evicted, or writes refused, above this; 0: no limit.
    pub bytes_max: u64,
    pub policy: Policy,
    pub databases: u32,
    /// Keys that begin with one of these are never evicted.
    pub protected: Vec<Vec<u8>>,
    pub lfu: super::eviction::Lfu,
}

impl Default for Settings {
    fn default() -> Settings {
        let protected =
            ["lock:", "session:", "presence:", "ratelimit:", "x:{lock:", "x:presence:{", "x:session:{"];
        Settings {
            bytes_max: 0,
            policy: Policy::NoEviction,
            databases: 16,
            protected: protected.map(|prefix| prefix.as_bytes().to_vec()).to_vec(),
            lfu: Default::default(),
        }
    }
}

/// What INFO counts.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub evicted: u64,
}

pub struct Keyspace {
    pub(super) databases: Vec<Database>,
    pub(super) settings: Settings,
    pub(super) bytes: usize,
    /// Counts every change; what watchers compare.
    changes: u64,
    pub stats: Stats,
    pub random: Random,
    /// Keys that changed while somebody waits for them.
    ready: Vec<(u32, Compact)>,
    /// Emptied tables, for the host to drop when nobody waits for it.
    garbage: Vec<Dict<Object>>,
    /// The database where eviction goes on.
    pub(super) evicting: usize,
    /// The database where active expiry goes on.
    pub(super) expiring: usize,
}

#[derive(Default)]
pub(super) struct Database {
    pub(super) dict: Dict<Object>,
    /// Positions in `dict` of the keys with a deadline, in no order, so that they can be sampled.
    pub(super) volatile: Vec<u32>,
    interests: Dict<Interest>,
    pub(super) bytes: usize,
    /// How many keys are protected from eviction, and how many of these have a deadline.
    pub(super) protected: usize,
    pub(super) protected_volatile: usize,
    /// Where eviction looks next when sampling finds nothing.
    pub(super) hand: usize,
}

/// That somebody wants to know of a key's changes.
#[derive(Default)]
struct Interest {
    watches: u32,
    waits: u32,
    /// `changes` at its last change.
    version: u64,
}

impl Keyspace {
    pub fn new(settings: Settings) -> Keyspace {
        let databases = (0..settings.databases.max(1)).map(|_| Database::default()).collect();
        Keyspace {
            databases,
            settings,
            bytes: 0,
            changes: 0,
            stats: Stats::default(),
            random: Random::new(),
            ready: Vec::new(),
            garbage: Vec::new(),
            evicting: 0,
            expiring: 0,
        }
    }

    /// Bytes of all keys and values, about.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many changes there were.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// CONFIG SET maxmemory.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.settings.bytes_max = bytes_max;
    }

    /// CONFIG SET maxmemory-policy. When each key was used is forgotten if it was noted in another way.
    pub fn set_policy(&mut self, policy: Policy, now_ms: u64) {
        let renoted = policy.counts_uses() != self.settings.policy.counts_uses();
        self.settings.policy = policy;
        if renoted {
            let access = self.first_access(now_ms);
            for dict in self.databases.iter_mut().map(|database| &mut database.dict) {
                (0..dict.len()).for_each(|at| dict.value_mut(at).access = access);
            }
        }
    }

    pub fn databases(&self) -> u32 {
        self.databases.len() as u32
    }

    /// Keys of a database, expired ones that nobody looked at among them.
    pub fn len(&self, db: u32) -> usize {
        self.databases[db as usize].dict.len()
    }

    /// How many of them have a deadline.
    pub fn volatile_len(&self, db: u32) -> usize {
        self.databases[db as usize].volatile.len()
    }

    // Who watches and who waits.

    /// Notes a change of the key: for watchers, for those who wait, for INFO.
    #[inline]
    pub(super) fn note_change(&mut self, db: u32, key: &[u8]) {
        self.changes += 1;
        let interests = &mut self.databases[db as usize].interests;
        if !interests.is_empty()
            && let Some(interest) = interests.get_mut(key)
        {
            interest.version = self.changes;
            if interest.waits > 0 {
                self.ready.push((db, Compact::from(key)));
            }
        }
    }

    /// Begins to watch a key and gives its version; see `Keys::watch`.
    pub(super) fn watch(&mut self, db: u32, key: &[u8]) -> u64 {
        let interest = self.databases[db as usize].interests.get_or_insert_with(key, Interest::default);
        interest.watches += 1;
        if interest.version == 0 {
            interest.version = self.changes;
        }
        interest.version
    }

    /// Ends what `Keys::watch` began.
    pub fn unwatch(&mut self, db: u32, key: &[u8]) {
        self.lose_interest(db, key, |interest| interest.watches -= 1);
    }

    /// The version of a watched key; it differs from the one at WATCH if the key was changed.
    pub(super) fn version(&self, db: u32, key: &[u8]) -> u64 {
        self.databases[db as usize].interests.get(key).map_or(0, |interest| interest.version)
    }

    /// A caller waits for the key: its changes are listed in `take_ready`, until as many `stop_waiting`.
    pub fn wait_for(&mut self, db: u32, key: &[u8]) {
        self.databases[db as usize].interests.get_or_insert_with(key, Interest::default).waits += 1;
    }

    pub fn stop_waiting(&mut self, db: u32, key: &[u8]) {
        self.lose_interest(db, key, |interest| interest.waits -= 1);
    }

    fn lose_interest(&mut self, db: u32, key: &[u8], lose: impl FnOnce(&mut Interest)) {
        let interests = &mut self.databases[db as usize].interests;
        let interest = interests.get_mut(key).expect("only begun interests end");
        lose(interest);
        if interest.watches == 0 && interest.waits == 0 {
            interests.remove(key);
        }
    }

    /// The keys that somebody waits for and that changed since the last call, in order; a key may come twice.
    pub fn take_ready(&mut self) -> Vec<(u32, Compact)> {
        std::mem::take(&mut self.ready)
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What FLUSHALL and FLUSHDB emptied: dropping it takes long, so best after the lock was released.
    pub fn take_garbage(&mut self) -> Vec<impl Send + use<>> {
        std::mem::take(&mut self.garbage)
    }

    // Whole databases.

    pub fn flush_all(&mut self) {
        (0..self.databases()).for_each(|db| self.flush(db));
    }

    pub fn flush(&mut self, db: u32) {
        self.note_changes_of_interest(db, db);
        let database = &mut self.databases[db as usize];
        self.changes += database.dict.len() as u64;
        self.bytes -= database.bytes;
        let interests = std::mem::take(&mut database.interests);
        let emptied = std::mem::replace(database, Database { interests, ..Database::default() });
        if !emptied.dict.is_empty() {
            self.garbage.push(emptied.dict);
        }
    }

    /// Who watches or waits keeps looking at the same number, where there are other keys now.
    pub fn swap(&mut self, first: u32, second: u32, now_ms: u64) {
        if first == second {
            return;
        }
        self.expire_of_interest(first, second, now_ms);
        self.expire_of_interest(second, first, now_ms);
        self.note_changes_of_interest(first, second);
        self.note_changes_of_interest(second, first);
        self.databases.swap(first as usize, second as usize);
        let interests = std::mem::take(&mut self.databases[first as usize].interests);
        let others = std::mem::replace(&mut self.databases[second as usize].interests, interests);
        self.databases[first as usize].interests = others;
        self.changes += 1;
    }

    /// To those who watch or wait in `db`, a key that has expired in `coming` does not come.
    fn expire_of_interest(&mut self, db: u32, coming: u32, now_ms: u64) {
        let interests = self.databases[db as usize].interests.iter();
        let keys: Vec<Compact> = interests.map(|(key, _)| Compact::from(key)).collect();
        for key in keys {
            Keys { keyspace: self, db: coming, now_ms }.locate(&key);
        }
    }

    /// Every key of interest in `db` that is there, or is in `coming`, counts as changed.
    fn note_changes_of_interest(&mut self, db: u32, coming: u32) {
        let [own, other] = [db, coming].map(|db| &self.databases[db as usize]);
        let keys: Vec<Compact> = own
            .interests
            .iter()
            .filter(|(key, _)| own.dict.contains(key) || other.dict.contains(key))
            .map(|(key, _)| Compact::from(key))
            .collect();
        keys.iter().for_each(|key| self.note_change(db, key));
    }

    // Single objects. Positions are those of the database's dict.

    pub(super) fn is_protected(&self, key: &[u8]) -> bool {
        self.settings.protected.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Adds an object under a key that is not there, with its deadline.
    pub(super) fn add(&mut self, db: u32, hash: u32, key: &[u8], mut object: Object) -> usize {
        let is_protected = self.is_protected(key);
        let database = &mut self.databases[db as usize];
        let deadline = object.deadline();
        (object.charged, object.volatile_at) = (0, NOWHERE);
        let at = database.dict.add(hash, key, object);
        database.protected += usize::from(is_protected);
        if deadline.is_some() {
            self.set_deadline(db, at, deadline);
        }
        self.charge(db, at);
        at
    }

    /// Removes an object; another one may then stand at its position.
    pub(super) fn remove_at(&mut self, db: u32, at: usize) -> Object {
        let deadline = self.databases[db as usize].dict.value(at).deadline();
        self.set_deadline(db, at, None);
        let is_protected = self.is_protected(self.databases[db as usize].dict.key(at));
        let database = &mut self.databases[db as usize];
        let (_, mut object) = database.dict.remove_at(at);
        database.bytes -= object.charged;
        database.protected -= usize::from(is_protected);
        self.bytes -= object.charged;
        object.set_deadline(deadline);
        if at < database.dict.len() {
            let listed = database.dict.value(at).volatile_at;
            if listed != NOWHERE {
                database.volatile[listed as usize] = at as u32;
            }
        }
        object
    }

    /// Sets, changes or takes away a deadline, and keeps the list of those who have one.
    pub(super) fn set_deadline(&mut self, db: u32, at: usize, deadline: Option<u64>) {
        let database = &mut self.databases[db as usize];
        let object = database.dict.value_mut(at);
        object.set_deadline(deadline);
        let listed = object.volatile_at;
        match (deadline, listed) {
            (Some(_), NOWHERE) => {
                object.volatile_at = database.volatile.len() as u32;
                database.volatile.push(at as u32);
            }
            (None, listed) if listed != NOWHERE => {
                object.volatile_at = NOWHERE;
                database.volatile.swap_remove(listed as usize);
                if let Some(&moved) = database.volatile.get(listed as usize) {
                    database.dict.value_mut(moved as usize).volatile_at = listed;
                }
            }
            _ => return,
        }
        let is_protected = self.is_protected(self.databases[db as usize].dict.key(at));
        let database = &mut self.databases[db as usize];
        match deadline {
            Some(_) => database.protected_volatile += usize::from(is_protected),
            None => database.protected_volatile -= usize::from(is_protected),
        }
    }

    /// Counts the object's bytes anew.
    #[inline]
    pub(super) fn charge(&mut self, db: u32, at: usize) {
        let database = &mut self.databases[db as usize];
        let key_len = database.dict.key(at).len();
        let key_bytes = if key_len > INLINE_LEN_MAX { key_len } else { 0 };
        let object = database.dict.value_mut(at);
        let bytes = Dict::<Object>::ENTRY_BYTES + key_bytes + object.value.bytes();
        let before = std::mem::replace(&mut object.charged, bytes);
        database.bytes = database.bytes + bytes - before;
        self.bytes = self.bytes + bytes - before;
    }
}

#[cfg(test)]
mod tests;
