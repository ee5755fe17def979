//! The keys of one database at one moment, as handlers see them: expired keys are gone, uses are noted, and whoever
//! changes something tells so. Every method that changes a key by name notes the change itself; after a change through a
//! reference (`write`, `write_as`, `make_as`) call `changed`, or `recount` if there was none.

use super::compact::Compact;
use super::context::Fault;
use super::keyspace::Keyspace;
use super::object::{Kind, Object, Value};

pub struct Keys<'a> {
    pub keyspace: &'a mut Keyspace,
    pub db: u32,
    /// Unix milliseconds, taken once per command, transaction or script.
    pub now_ms: u64,
}

impl Keys<'_> {
    /// For reading. Counts a hit or a miss and notes the use.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<&Object> {
        match self.locate(key).1 {
            Some(at) => {
                self.keyspace.stats.hits += 1;
                self.note_use(at);
                Some(self.object(at))
            }
            None => {
                self.keyspace.stats.misses += 1;
                None
            }
        }
    }

    /// For looking at what is no use of it (TTL, TYPE, EXISTS). Counts a hit or a miss.
    pub fn read_untouched(&mut self, key: &[u8]) -> Option<&Object> {
        let at = self.locate(key).1;
        match at {
            Some(_) => self.keyspace.stats.hits += 1,
            None => self.keyspace.stats.misses += 1,
        }
        at.map(|at| self.object(at))
    }

    /// For looking without being seen: no hit, no miss, no use (OBJECT).
    pub fn peek(&mut self, key: &[u8]) -> Option<&Object> {
        let at = self.locate(key).1?;
        Some(self.object(at))
    }

    /// The same through a shared reference, so that several can be seen at once.
    pub fn look(&self, key: &[u8]) -> Option<&Object> {
        let object = self.keyspace.databases[self.db as usize].dict.get(key)?;
        (!object.is_expired(self.now_ms)).then_some(object)
    }

    /// For changing it in place; then call `changed` or `recount`.
    #[inline]
    pub fn write(&mut self, key: &[u8]) -> Option<&mut Object> {
        let at = self.locate(key).1?;
        self.note_use(at);
        Some(self.object_mut(at))
    }

    /// What is counted for a key, also for one that has expired and is still there, as in Redis.
    pub fn bytes_of(&self, key: &[u8]) -> Option<usize> {
        self.keyspace.databases[self.db as usize].dict.get(key).map(Object::bytes)
    }

    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.locate(key).1.is_some()
    }

    // By kind. WRONGTYPE where the key holds another one.

    #[inline]
    pub fn read_as<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&T>, Fault> {
        match self.read(key) {
            Some(object) => object.as_kind().map(Some).ok_or(Fault::WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// For changing one that is there; then call `changed` or `recount`.
    pub fn write_as<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Fault> {
        match self.write(key) {
            Some(object) => T::of_mut(&mut object.value).map(Some).ok_or(Fault::WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// For changing one that is made, empty, if there is none; then call `changed` or `recount`, whatever happened.
    pub fn make_as<T: Kind>(&mut self, key: &[u8]) -> Result<&mut T, Fault> {
        let at = match self.locate(key) {
            (_, Some(at)) => {
                self.note_use(at);
                at
            }
            (hash, None) => self.add(hash, key, Object::new(T::default().into())),
        };
        T::of_mut(&mut self.object_mut(at).value).ok_or(Fault::WRONG_TYPE)
    }

    // Changes.

    /// Tells of a change through a reference: bytes are counted anew, an emptied collection is removed, watchers
    /// and waiting callers learn of it.
    pub fn changed(&mut self, key: &[u8]) {
        self.recount(key);
        self.keyspace.note_change(self.db, key);
    }

    /// The same after a reference was taken for a change that turned out to be none: nobody learns of it.
    pub fn recount(&mut self, key: &[u8]) {
        let dict = &self.keyspace.databases[self.db as usize].dict;
        if let Some(at) = dict.find(dict.hash(key), key) {
            if self.object(at).value.is_vacant() {
                self.keyspace.remove_at(self.db, at);
            } else {
                self.keyspace.charge(self.db, at);
            }
        }
    }

    /// Stores a value under the key in place of whatever is there, without a deadline.
    pub fn insert(&mut self, key: &[u8], value: impl Into<Value>) {
        self.store(key, value.into(), None);
    }

    /// Stores a value with a deadline, or with none.
    #[inline]
    pub fn store(&mut self, key: &[u8], value: Value, deadline: Option<u64>) {
        let (hash, found) = self.locate(key);
        self.store_at(hash, found, key, value, deadline);
    }

    /// Stores a value and keeps the deadline that the key has.
    pub fn replace(&mut self, key: &[u8], value: impl Into<Value>) {
        let (hash, found) = self.locate(key);
        let deadline = found.and_then(|at| self.object(at).deadline());
        self.store_at(hash, found, key, value.into(), deadline);
    }

    /// The same where `locate` was called before, and nothing since.
    #[inline]
    pub(super) fn store_at(
        &mut self,
        hash: u32,
        found: Option<usize>,
        key: &[u8],
        value: Value,
        deadline: Option<u64>,
    ) {
        match found {
            Some(at) => {
                self.note_use(at);
                let object = self.object_mut(at);
                object.value = value;
                if object.deadline() != deadline {
                    self.keyspace.set_deadline(self.db, at, deadline);
                }
                self.keyspace.charge(self.db, at);
            }
            None => {
                let mut object = Object::new(value);
                object.set_deadline(deadline);
                self.add(hash, key, object);
            }
        }
        self.keyspace.note_change(self.db, key);
    }

    /// Gives whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.take(key).is_some()
    }

    /// Removes it and gives it with its deadline.
    pub fn take(&mut self, key: &[u8]) -> Option<Object> {
        let at = self.locate(key).1?;
        let object = self.keyspace.remove_at(self.db, at);
        self.keyspace.note_change(self.db, key);
        Some(object)
    }

    /// Stores an object with its deadline in place of whatever is there.
    pub fn put(&mut self, key: &[u8], object: Object) {
        if let (_, Some(at)) = self.locate(key) {
            self.keyspace.remove_at(self.db, at);
        }
        let hash = self.keyspace.databases[self.db as usize].dict.hash(key);
        self.keyspace.add(self.db, hash, key, object);
        self.keyspace.note_change(self.db, key);
    }

    /// Sets the deadline (Unix ms) or takes it away. Gives whether the key is there.
    pub fn expire_at(&mut self, key: &[u8], deadline: Option<u64>) -> bool {
        let Some(at) = self.locate(key).1 else { return false };
        self.keyspace.set_deadline(self.db, at, deadline);
        self.keyspace.note_change(self.db, key);
        true
    }

    /// The same database view of another database.
    pub fn of_database(&mut self, db: u32) -> Keys<'_> {
        Keys { keyspace: self.keyspace, db, now_ms: self.now_ms }
    }

    // All keys.

    /// Those that have not expired, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Object)> {
        let dict = &self.keyspace.databases[self.db as usize].dict;
        dict.iter().filter(|(_, object)| !object.is_expired(self.now_ms))
    }

    /// A step of `Dict::scan`. Expired keys are taken away.
    pub fn scan(&mut self, cursor: u64, f: &mut dyn FnMut(&[u8], &Object)) -> u64 {
        let dict = &self.keyspace.databases[self.db as usize].dict;
        let mut expired: Vec<Compact> = Vec::new();
        let cursor = dict.scan(cursor, &mut |key, object| match object.is_expired(self.now_ms) {
            true => expired.push(Compact::from(key)),
            false => f(key, object),
        });
        expired.iter().for_each(|key| _ = self.exists(key));
        cursor
    }

    /// A random key that has not expired.
    pub fn random(&mut self) -> Option<Compact> {
        loop {
            let dict = &self.keyspace.databases[self.db as usize].dict;
            if dict.is_empty() {
                return None;
            }
            let key = Compact::from(dict.key(self.keyspace.random.below(dict.len())));
            if self.exists(&key) {
                return Some(key);
            }
        }
    }

    // Watching.

    /// Begins to watch a key: it was changed since if `watched_version` gives another number than this.
    /// Ends with `Keyspace::unwatch`.
    pub fn watch(&mut self, key: &[u8]) -> u64 {
        self.locate(key);
        self.keyspace.watch(self.db, key)
    }

    /// Also for a key that expired since, which counts as a change.
    pub fn watched_version(&mut self, key: &[u8]) -> u64 {
        self.locate(key);
        self.keyspace.version(self.db, key)
    }

    // By position.

    /// The hash of the key and where it is, if it is there and not expired.
    #[inline]
    pub(super) fn locate(&mut self, key: &[u8]) -> (u32, Option<usize>) {
        let dict = &mut self.keyspace.databases[self.db as usize].dict;
        dict.rebuild_step();
        let hash = dict.hash(key);
        match dict.find(hash, key) {
            Some(at) if dict.value(at).is_expired(self.now_ms) => {
                self.keyspace.expire(self.db, at, key);
                (hash, None)
            }
            found => (hash, found),
        }
    }

    #[inline]
    pub(super) fn object(&self, at: usize) -> &Object {
        self.keyspace.databases[self.db as usize].dict.value(at)
    }

    #[inline]
    pub(super) fn object_mut(&mut self, at: usize) -> &mut Object {
        self.keyspace.databases[self.db as usize].dict.value_mut(at)
    }

    fn add(&mut self, hash: u32, key: &[u8], mut object: Object) -> usize {
        object.access = self.keyspace.first_access(self.now_ms);
        self.keyspace.add(self.db, hash, key, object)
    }

    #[inline]
    pub(super) fn note_use(&mut self, at: usize) {
        self.keyspace.note_use(self.db, at, self.now_ms);
    }
}
