//! Takes away what has expired: when somebody looks at it, and a part of the rest at each upkeep.

use super::keyspace::Keyspace;

/// Keys looked at per round in one database.
const SAMPLE: usize = 20;
/// Rounds go on in a database while more than 1 / this of its sample had expired.
const WORTHWHILE: usize = 10;

impl Keyspace {
    /// An expired key goes; that is a change for who watches it.
    pub(super) fn expire(&mut self, db: u32, at: usize, key: &[u8]) {
        self.remove_at(db, at);
        self.stats.expired += 1;
        self.note_change(db, key);
    }

    /// Looks at up to `keys_max` random keys with a deadline, and takes away those that have expired: few where few
    /// have, many where many have. To be called about ten times a second.
    pub fn expire_some(&mut self, now_ms: u64, keys_max: usize) {
        let mut looked_at = 0;
        for _ in 0..self.databases.len() {
            let db = self.expiring;
            while looked_at < keys_max {
                let sample = SAMPLE.min(self.databases[db].volatile.len());
                looked_at += sample;
                let expired = (0..sample).filter(|_| self.expire_one(db, now_ms)).count();
                if expired * WORTHWHILE <= sample {
                    break;
                }
            }
            if looked_at >= keys_max {
                return;
            }
            self.expiring = (db + 1) % self.databases.len();
        }
    }

    /// Whether a random key had expired.
    fn expire_one(&mut self, db: usize, now_ms: u64) -> bool {
        let database = &self.databases[db];
        if database.volatile.is_empty() {
            return false;
        }
        let at = database.volatile[self.random.below(database.volatile.len())] as usize;
        if !database.dict.value(at).is_expired(now_ms) {
            return false;
        }
        let key = database.dict.key(at).to_vec();
        self.expire(db as u32, at, &key);
        true
    }

    /// Rebuilds tables that grew or shrank, a bounded part of each.
    pub fn rebuild_some(&mut self, steps: usize) {
        for database in &mut self.databases {
            for _ in 0..steps {
                if !database.dict.is_rebuilding() {
                    break;
                }
                database.dict.rebuild_step();
            }
        }
    }
}
