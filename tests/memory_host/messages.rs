//! Publishing and subscribing.

use super::both::in_both_protocols;

#[test]
fn messages_arrive_and_are_confirmed_as_in_redis() {
    in_both_protocols(|both| {
        for request in ["SUBSCRIBE one two one", "PSUBSCRIBE o* t[wx]o", "SSUBSCRIBE one", "PING", "PING hi"]
        {
            both.say_as("s", request);
        }
        both.say_as("t", "SUBSCRIBE one");
        for request in [
            "PUBLISH one hello",
            "PUBLISH two x",
            "PUBLISH nobody x",
            "SPUBLISH one shard",
            "SPUBLISH two x",
            "PUBSUB CHANNELS o*",
            "PUBSUB NUMSUB",
            "PUBSUB NUMSUB one two three",
            "PUBSUB NUMPAT",
            "PUBSUB SHARDCHANNELS",
            "PUBSUB SHARDNUMSUB one x",
            "PUBSUB CHANNELS a b",
            "PUBSUB",
            "PUBSUB NOSUCH",
            "PUBLISH x",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE",
            "UNSUBSCRIBE x y",
            "PUNSUBSCRIBE x",
        ] {
            both.say(request);
        }
        (0..5).for_each(|_| both.receive("s"));
        both.receive("t");
        for request in
            ["UNSUBSCRIBE one", "UNSUBSCRIBE one", "PUNSUBSCRIBE", "SUNSUBSCRIBE one", "UNSUBSCRIBE", "GET a"]
        {
            both.say_as("s", request);
        }
    });
}

#[test]
fn subscribers_may_ask_for_little_in_resp2_and_for_all_in_resp3() {
    in_both_protocols(|both| {
        both.say("SUBSCRIBE c");
        for request in
            ["GET a", "CONFIG GET maxmemory", "MULTI", "PING", "NOSUCH", "GET", "PUBLISH x y", "ECHO a"]
        {
            both.say(request);
        }
        both.say("UNSUBSCRIBE");
        both.say("GET a");
    });
}

#[test]
fn a_message_of_ones_own_comes_before_the_reply_that_counts_it() {
    let mut both = super::both::Both::start(true);
    both.say("SUBSCRIBE c");
    both.say("PUBLISH c hello");
    both.eval("return redis.call('publish', 'c', 'from a script')");
    both.finish();
}
