//! The transcripts of the shared-state commands: each command with every option, and what is wrong with it. `transcript.rs`
//! says how they are read, `commands.rs` plays them, `coverage.rs` counts them.

/// The policies that they name.
pub const POLICIES: &str = "[ratelimit.policies.free]\nlimit = 3\nwindow_ms = 604800000\n\
    [ratelimit.policies.bursts]\nlimit = 5\nwindow_ms = 604800000\nburst = 2\n";

/// By name.
pub const ALL: [(&str, &str); 4] =
    [("locks", LOCKS), ("limits", LIMITS), ("presence", PRESENCE), ("sessions", SESSIONS)];

const LOCKS: &str = r#"
LOCK.ACQUIRE a 30000 TOKEN t OWNER me => {granted=1 token='t' fence=$f ms=30000}
LOCK.ACQUIRE a 30000 => {granted=0 token=nil fence=$f ms=~30000}
lock.acquire a 30000 token t => {granted=1 token='t' fence=$f ms=30000}
LOCK.ACQUIRE a 30000 TOKEN t REENTRANT => {granted=1 token='t' fence=$f ms=30000}
LOCK.INFO a => {owner='me' fence=$f ttl_ms=~30000 waiters=0}
LOCK.CHECK a t => {held=1 fence=$f ttl_ms=~30000}
LOCK.CHECK a u => {held=0 fence=nil ttl_ms=0}
LOCK.EXTEND a t 60000 => 60000
LOCK.EXTEND a u 60000 => -LOCKLOST the lock is not held with this token
LOCK.RELEASE a u => -LOCKLOST the lock is not held with this token
GET lock:a => 't'
LOCK.RELEASE a t => 1
LOCK.RELEASE a t => 0
LOCK.RELEASE a t => 0
LOCK.INFO a => nil
LOCK.ACQUIRE a 30000 WAIT 50 FAIR RENEW BIND => {granted=1 token=$t fence=$g ms=30000}
LOCK.ACQUIRE a 30000 WAIT 20 FAIR => {granted=0 token=nil fence=$g ms=~30000}
LOCK.ACQUIRE a 30000 WAIT 0 => {granted=0 token=nil fence=$g ms=~30000}
LOCK.CHECK a $t => {held=1 fence=$g ttl_ms=~30000}
LOCK.FORCE a => 1
LOCK.FORCE a => 0
LOCK.EXTEND a $t 1000 => -LOCKLOST the lock is not held with this token
SET lock:b other => +OK
LOCK.ACQUIRE b 30000 => {granted=0 token=nil fence=nil ms=1000}
LOCK.INFO b => {owner=nil fence=nil ttl_ms=-1 waiters=0}
LOCK.RELEASE b other => 0
LOCK.ACQUIRE a => -ERR wrong number of arguments for 'lock.acquire' command
LOCK.ACQUIRE a x => -ERR value is not an integer or out of range
LOCK.ACQUIRE a 0 => -ERR invalid expire time in 'lock.acquire' command
LOCK.ACQUIRE a 1 WAIT x => -ERR timeout is not an integer or out of range
LOCK.ACQUIRE a 1 NOPE => -ERR syntax error
LOCK.ACQUIRE a 1 TOKEN => -ERR syntax error
LOCK.ACQUIRE a{b} 1 => -ERR the name of a lock cannot hold { or }
LOCK.EXTEND a t => -ERR wrong number of arguments for 'lock.extend' command
LOCK.EXTEND a t -5 => -ERR invalid expire time in 'lock.extend' command
LOCK.RELEASE a => -ERR wrong number of arguments for 'lock.release' command
LOCK.CHECK a t u => -ERR wrong number of arguments for 'lock.check' command
LOCK.INFO a b => -ERR wrong number of arguments for 'lock.info' command
LOCK.FORCE => -ERR wrong number of arguments for 'lock.force' command
RPUSH lock:list x => 1
LOCK.ACQUIRE list 1000 => -WRONGTYPE Operation against a key holding the wrong kind of value
EXISTS lock:a => 0
"#;

const LIMITS: &str = r#"
RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000 => {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000 COST 2 => {allowed=1 limit=3 remaining=0 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000 => {allowed=0 limit=3 remaining=0 retry_after_ms=# reset_ms=#}
RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000 COST 4 => {allowed=0 limit=3 remaining=0 retry_after_ms=-2 reset_ms=#}
RATELIMIT.PEEK user u LIMIT 3 WINDOW 604800000 => {allowed=0 limit=3 remaining=0 retry_after_ms=# reset_ms=#}
RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000 SHADOW => {allowed=1 limit=3 remaining=0 retry_after_ms=-1 reset_ms=#}
RATELIMIT.REFUND user u 3 LIMIT 3 WINDOW 604800000 => 3
RATELIMIT.PEEK user u LIMIT 3 WINDOW 604800000 => {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user u LIMIT 9 WINDOW 604800000 => {allowed=1 limit=9 remaining=7 retry_after_ms=-1 reset_ms=#}
RATELIMIT.REFUND user u 9 LIMIT 9 WINDOW 604800000 ALGO sliding => 2
RATELIMIT.CHECK user u POLICY free => {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}
RATELIMIT.REFUND user u 1 POLICY free => 1
RATELIMIT.RESET user u => 1
RATELIMIT.RESET user u => 0
RATELIMIT.CHECK user f LIMIT 2 WINDOW 604800000 ALGO fixed COST 2 => {allowed=1 limit=2 remaining=0 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user f LIMIT 2 WINDOW 604800000 ALGO fixed => {allowed=0 limit=2 remaining=0 retry_after_ms=# reset_ms=#}
RATELIMIT.PEEK user f LIMIT 2 WINDOW 604800000 ALGO fixed SHADOW => {allowed=1 limit=2 remaining=0 retry_after_ms=-1 reset_ms=#}
RATELIMIT.PEEK user f LIMIT 2 WINDOW 604800000 ALGO sliding COST 3 => {allowed=0 limit=2 remaining=2 retry_after_ms=-2 reset_ms=0}
RATELIMIT.CHECK user f LIMIT 2 WINDOW 604800000 ALGO sliding COST 0 => {allowed=1 limit=2 remaining=2 retry_after_ms=-1 reset_ms=0}
RATELIMIT.REFUND user f 1 LIMIT 2 WINDOW 604800000 ALGO fixed => 1
RATELIMIT.PEEK user f LIMIT 2 WINDOW 604800000 ALGO fixed => {allowed=1 limit=2 remaining=1 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user f LIMIT 2 WINDOW 604800000 ALGO log => {allowed=1 limit=2 remaining=1 retry_after_ms=-1 reset_ms=~604800000}
RATELIMIT.PEEK user f LIMIT 2 WINDOW 604800000 ALGO log => {allowed=1 limit=2 remaining=1 retry_after_ms=-1 reset_ms=~604800000}
RATELIMIT.REFUND user f 5 LIMIT 2 WINDOW 604800000 ALGO log => 1
RATELIMIT.PEEK user f LIMIT 2 WINDOW 604800000 ALGO log => {allowed=1 limit=2 remaining=2 retry_after_ms=-1 reset_ms=0}
RATELIMIT.CHECK user g POLICY bursts => {allowed=1 limit=2 remaining=1 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user g LIMIT 5 WINDOW 604800000 BURST 2 ALGO GCRA => {allowed=1 limit=2 remaining=0 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user g POLICY bursts => {allowed=0 limit=2 remaining=0 retry_after_ms=# reset_ms=#}
RATELIMIT.PEEK user g LIMIT 5 WINDOW 604800000 BURST 2 ALGO gcra => {allowed=0 limit=2 remaining=0 retry_after_ms=# reset_ms=#}
RATELIMIT.REFUND user g 1 LIMIT 5 WINDOW 604800000 BURST 2 ALGO gcra => 1
RATELIMIT.PEEK user g LIMIT 5 WINDOW 604800000 BURST 2 => {allowed=1 limit=2 remaining=1 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK ip ::ffff:10.0.0.1 POLICY free => {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK ip 10.0.0.1 POLICY free => {allowed=1 limit=3 remaining=1 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK ip 2001:db8::1 POLICY free => {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK ip 2001:db8::2 POLICY free => {allowed=1 limit=3 remaining=1 retry_after_ms=-1 reset_ms=#}
TYPE ratelimit:ip:10.0.0.1 => +hash
RATELIMIT.MULTI 2 user {m}1 free 1 user {m}2 free 1 => {allowed=1 denied=-1 limits=[{allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#} {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}]}
RATELIMIT.MULTI 2 user {m}1 free 1 user {m}2 free 3 => {allowed=0 denied=1 limits=[{allowed=1 limit=3 remaining=# retry_after_ms=-1 reset_ms=#} {allowed=0 limit=3 remaining=2 retry_after_ms=# reset_ms=#}]}
RATELIMIT.PEEK user {m}1 POLICY free => {allowed=1 limit=3 remaining=2 retry_after_ms=-1 reset_ms=#}
RATELIMIT.CHECK user u POLICY nope => -NOPOLICY the configuration has no rate-limit policy 'nope'
RATELIMIT.CHECK user u => -ERR wrong number of arguments for 'ratelimit.check' command
RATELIMIT.CHECK user u LIMIT 3 => -ERR syntax error
RATELIMIT.CHECK user u LIMIT 3 WINDOW 5 POLICY free => -ERR syntax error
RATELIMIT.CHECK user u LIMIT 3 WINDOW 5 ALGO nope => -ERR syntax error
RATELIMIT.CHECK user u LIMIT x WINDOW 5 => -ERR value is not an integer or out of range
RATELIMIT.CHECK user u LIMIT 9007199254740992 WINDOW 2 => -ERR limit (or burst) times window is out of range
RATELIMIT.CHECK us:er u POLICY free => -ERR a scope is made of letters, digits, _ and -
RATELIMIT.REFUND user u 1 POLICY free COST 2 => -ERR syntax error
RATELIMIT.PEEK user u LIMIT 3 WINDOW => -ERR syntax error
RATELIMIT.RESET user => -ERR wrong number of arguments for 'ratelimit.reset' command
RATELIMIT.MULTI 2 user u free 1 => -ERR wrong number of arguments for 'ratelimit.multi' command
RATELIMIT.MULTI 0 => -ERR value is not an integer or out of range
CL.THROTTLE k 2 1 3600 => [0 3 2 -1 3600]
CL.THROTTLE k 2 1 3600 2 => [0 3 0 -1 ~10800]
CL.THROTTLE k 2 1 3600 => [1 3 0 ~3600 ~10800]
CL.THROTTLE k 2 1 3600 0 => [0 3 0 -1 ~10800]
TYPE ratelimit:throttle:k => +hash
CL.THROTTLE k 2 1 => -ERR wrong number of arguments for 'cl.throttle' command
CL.THROTTLE k 2 0 3600 => -ERR value is not an integer or out of range
"#;

const PRESENCE: &str = r#"
PRESENCE.JOIN room ann c1 META "here" => {first=1 users=1 seq=$s}
PRESENCE.JOIN room ann c2 TTL 40000 => {first=0 users=1 seq=$s}
PRESENCE.JOIN room ann c1 META "here" => {first=1 users=1 seq=$s}
PRESENCE.JOIN room bob c3 BIND => {first=1 users=2 seq=$n}
PRESENCE.MEMBERS room => ['ann' 'bob']
PRESENCE.STATE room => {seq=$n members=[{user='ann' connections=2 meta='"here"'} {user='bob' connections=1 meta=nil}]} | [$n ['ann' 2 '"here"'] ['bob' 1 nil]]
PRESENCE.COUNT room => {users=2 connections=3}
PRESENCE.CHANNELS ann => ['room']
PRESENCE.CHANNELS cid => []
PRESENCE.HEARTBEAT c1 room ann room bob => [1 0]
PRESENCE.UPDATE room ann c1 META "away" => #
PRESENCE.UPDATE room ann c9 META "away" => 0
PRESENCE.MEMBERS room WITHMETA => {ann='"away"' bob=nil} | ['ann' '"away"' 'bob' nil]
PRESENCE.LEAVE room ann c1 => {last=0 users=2 seq=#}
PRESENCE.LEAVE room ann c1 => {last=0 users=2 seq=#}
PRESENCE.LEAVE room ann c2 => {last=1 users=1 seq=$l}
PRESENCE.LEAVE room ann c2 => {last=1 users=1 seq=$l}
PRESENCE.CHANNELS ann => []
PRESENCE.LEAVEALL c3 => 1
PRESENCE.LEAVEALL c3 => 0
PRESENCE.COUNT room => {users=0 connections=0}
PRESENCE.MEMBERS room => []
PRESENCE.STATE nowhere => {seq=0 members=[]} | [0]
PRESENCE.JOIN room ann => -ERR wrong number of arguments for 'presence.join' command
PRESENCE.JOIN room ann c1 TTL 0 => -ERR invalid expire time in 'presence.join' command
PRESENCE.JOIN room ann c1 TTL x => -ERR value is not an integer or out of range
PRESENCE.JOIN room ann c1 META {x => -ERR invalid JSON
PRESENCE.JOIN room ann c1 NOPE => -ERR syntax error
PRESENCE.JOIN ro{om ann c1 => -ERR the name of a channel cannot hold { or }
PRESENCE.JOIN room:users ann c1 => -ERR the name of a channel cannot end in :user or :users
PRESENCE.LEAVE room ann => -ERR wrong number of arguments for 'presence.leave' command
PRESENCE.LEAVEALL => -ERR wrong number of arguments for 'presence.leaveall' command
PRESENCE.HEARTBEAT c1 room => -ERR wrong number of arguments for 'presence.heartbeat' command
PRESENCE.UPDATE room ann c1 NOPE 1 => -ERR syntax error
PRESENCE.MEMBERS room NOPE => -ERR syntax error
PRESENCE.STATE => -ERR wrong number of arguments for 'presence.state' command
PRESENCE.COUNT => -ERR wrong number of arguments for 'presence.count' command
PRESENCE.CHANNELS => -ERR wrong number of arguments for 'presence.channels' command
"#;

const SESSIONS: &str = r#"
SESSION.CREATE ann IDLE 60000 ABSOLUTE 120000 DATA "x" DEVICE phone => {token=$t id=$i expires_in_ms=60000}
SESSION.VALIDATE $t => {id=$i user='ann' version=1 idle_left_ms=~60000 absolute_left_ms=~120000 data='"x"'}
SESSION.VALIDATE $t NOTOUCH => {id=$i user='ann' version=1 idle_left_ms=~60000 absolute_left_ms=~120000 data='"x"'}
SESSION.VALIDATE $t STRICT => {id=$i user='ann' version=1 idle_left_ms=~60000 absolute_left_ms=~120000 data='"x"'}
SESSION.TOUCH $t => ~60000
SESSION.SET $t "y" => 2
SESSION.SET $t "z" IFVER 1 => -STALE the session has version 2
SESSION.SET $t "z" IFVER 2 => 3
SESSION.LIST ann => [{id=$i device='phone' created_ms=# used_ms=# expires_ms=#}]
SESSION.COUNT ann => 1
SESSION.ROTATE $t GRACE 20000 => {token=$u id=$i expires_in_ms=~60000}
SESSION.VALIDATE $t => {id=$i user='ann' version=3 idle_left_ms=# absolute_left_ms=~20000 data='"z"'}
SESSION.ROTATE $t => -STALE the token was rotated before
SESSION.VALIDATE $u => {id=$i user='ann' version=3 idle_left_ms=~60000 absolute_left_ms=~120000 data='"z"'}
SESSION.ROTATE $u => {token=$v id=$i expires_in_ms=~60000}
SESSION.VALIDATE $t => nil
SESSION.VALIDATE $u => nil
SESSION.ROTATE $u => -NOSESSION no such session
SESSION.CREATE bob MAX 1 REJECT => {token=$b id=$c expires_in_ms=3600000}
SESSION.DESTROY $b => 1
SESSION.CREATE ann MAX 1 REJECT => -MAXSESSIONS the user has 1 sessions
SESSION.CREATE ann MAX 1 EVICT => {token=$w id=$j expires_in_ms=3600000}
SESSION.VALIDATE $v => nil
SESSION.VALIDATE $w => {id=$j user='ann' version=1 idle_left_ms=~3600000 absolute_left_ms=~2592000000 data=nil}
SESSION.CREATE ann => {token=$x id=$k expires_in_ms=3600000}
SESSION.DESTROYALL ann EXCEPT $x => 1
SESSION.VALIDATE $w => nil
SESSION.REVOKE $k => 1
SESSION.REVOKE $k => 0
SESSION.DESTROY $x => 0
SESSION.TOUCH $x => nil
SESSION.SET $x 1 => -NOSESSION no such session
SESSION.CREATE ann => {token=$y id=$l expires_in_ms=3600000}
SESSION.DESTROY $y => 1
SESSION.LIST ann => []
SESSION.COUNT ann => 0
SESSION.DESTROYALL ann => 0
SESSION.CREATE => -ERR wrong number of arguments for 'session.create' command
SESSION.CREATE ann IDLE 0 => -ERR invalid expire time in 'session.create' command
SESSION.CREATE ann IDLE x => -ERR value is not an integer or out of range
SESSION.CREATE ann DATA {x => -ERR invalid JSON
SESSION.CREATE ann MAX 1 => -ERR syntax error
SESSION.CREATE ann MAX 1 NOPE => -ERR syntax error
SESSION.CREATE ann NOPE => -ERR syntax error
SESSION.VALIDATE => -ERR wrong number of arguments for 'session.validate' command
SESSION.VALIDATE t NOPE => -ERR syntax error
SESSION.TOUCH => -ERR wrong number of arguments for 'session.touch' command
SESSION.SET t => -ERR wrong number of arguments for 'session.set' command
SESSION.SET t 1 IFVER x => -ERR value is not an integer or out of range
SESSION.ROTATE t GRACE => -ERR syntax error
SESSION.DESTROY => -ERR wrong number of arguments for 'session.destroy' command
SESSION.REVOKE => -ERR wrong number of arguments for 'session.revoke' command
SESSION.DESTROYALL ann NOPE => -ERR syntax error
SESSION.LIST => -ERR wrong number of arguments for 'session.list' command
SESSION.COUNT => -ERR wrong number of arguments for 'session.count' command
"#;
