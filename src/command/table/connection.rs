//! Rows of connections, transactions and messages.
use super::super::{Effect, Group, Local, Route, Row};
use super::{ALL, FIRST, local, plain, row, via};

pub(super) const ROWS: &[Row] = &[
    local("AUTH", -2, Local::Auth),
    local("HELLO", -1, Local::Hello),
    local("QUIT", -1, Local::Quit),
    local("RESET", 1, Local::Reset),
    local("SELECT", 2, Local::Select),
    plain("ECHO", 2),
    plain("PING", -1),
    // They say how this connection's next commands are taken by a cluster node.
    via("ASKING", 1, Route::LinkState),
    via("READONLY", 1, Route::LinkState),
    via("READWRITE", 1, Route::LinkState),
    plain("CLIENT", -2),
    via("CLIENT|CACHING", 3, Route::LinkState),
    via("CLIENT|CAPA", -3, Route::LinkState),
    local("CLIENT|GETNAME", 2, Local::ClientGetname),
    local("CLIENT|GETREDIR", 2, Local::ClientGetredir),
    local("CLIENT|HELP", 2, Local::ClientHelp),
    local("CLIENT|ID", 2, Local::ClientId),
    via("CLIENT|IMPORT-SOURCE", 3, Route::LinkState),
    local("CLIENT|INFO", 2, Local::ClientInfo),
    local("CLIENT|KILL", -3, Local::ClientKill),
    local("CLIENT|LIST", -2, Local::ClientList),
    local("CLIENT|NO-EVICT", 3, Local::ClientNoEvict),
    via("CLIENT|NO-TOUCH", 3, Route::LinkState),
    via("CLIENT|PAUSE", -3, Route::Fresh),
    local("CLIENT|REPLY", 3, Local::ClientReply),
    local("CLIENT|SETINFO", 4, Local::ClientSetinfo),
    local("CLIENT|SETNAME", 3, Local::ClientSetname),
    via("CLIENT|TRACKING", -3, Route::LinkState),
    local("CLIENT|TRACKINGINFO", 2, Local::ClientTrackinginfo),
    local("CLIENT|UNBLOCK", -3, Local::ClientUnblock),
    via("CLIENT|UNPAUSE", 2, Route::Fresh),
    // Transactions. WATCH counts as a read: before a write of its key that is still under way it would see
    // that write as a foreign one.
    via("DISCARD", 1, Route::Discard),
    via("EXEC", 1, Route::Exec),
    via("MULTI", 1, Route::Multi),
    via("UNWATCH", 1, Route::Unwatch),
    row("WATCH", -2, ALL, Effect::Read, Route::Watch),
    // Messages. Shard channels are no keys, but they have slots as keys do.
    via("PSUBSCRIBE", -2, Route::Subscription),
    plain("PUBLISH", 3).grouped(Group::Pubsub),
    via("PUNSUBSCRIBE", -1, Route::Subscription),
    row("SPUBLISH", 3, FIRST, Effect::None, Route::Shared).grouped(Group::Pubsub),
    row("SSUBSCRIBE", -2, ALL, Effect::None, Route::Subscription),
    via("SUBSCRIBE", -2, Route::Subscription),
    row("SUNSUBSCRIBE", -1, ALL, Effect::None, Route::Subscription),
    via("UNSUBSCRIBE", -1, Route::Subscription),
    pubsub("PUBSUB", -2),
    pubsub("PUBSUB|CHANNELS", -2),
    pubsub("PUBSUB|HELP", 2),
    pubsub("PUBSUB|NUMPAT", 2),
    pubsub("PUBSUB|NUMSUB", -2),
    pubsub("PUBSUB|SHARDCHANNELS", -2),
    pubsub("PUBSUB|SHARDNUMSUB", -2),
];

const fn pubsub(name: &'static str, arity: i16) -> Row {
    plain(name, arity).grouped(Group::Pubsub)
}
