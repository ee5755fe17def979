//! Each command with every option, as transcripts: on every stand, one by one, in MULTI and in a pipeline, in both protocols.

use crate::daemon_with_file;
use crate::one_node_cluster;
use crate::stands::{Behind, Running, STANDS};
use crate::support::{Daemon, Redis};
use crate::transcript::{Manner, Run};
use crate::transcripts::{ALL, POLICIES};

/// All transcripts in both protocols. With two daemons each line is sent to either once.
fn play_all(running: &Running, title: &str, manner: Manner) {
    for resp3 in [false, true] {
        for first in 0..running.daemons.len() {
            for (name, transcript) in ALL {
                let mut clients = running.clients(resp3, first);
                let title = format!("{title}: {name}, RESP{}, {manner:?}", if resp3 { 3 } else { 2 });
                Run { clients: &mut clients, resp3, manner, title }.play(transcript);
            }
        }
    }
}

fn play_behind(behind: Behind) {
    for stand in STANDS.iter().filter(|stand| stand.behind == behind) {
        let running = stand.start(POLICIES);
        let title = format!("{stand:?}");
        play_all(&running, &title, Manner::InTurn);
        let in_multi = match behind {
            Behind::Cluster | Behind::Masters => Manner::InMultiOfCluster,
            Behind::Redis | Behind::Sentinel | Behind::Nothing => Manner::InMulti,
        };
        play_all(&running, &title, in_multi);
        // To two daemons at once nothing keeps an order.
        if stand.daemons == 1 {
            play_all(&running, &title, Manner::Pipelined);
        }
    }
}

#[test]
fn through_one_daemon_and_through_two_commands_read_as_specified() {
    play_behind(Behind::Redis);
}

#[test]
fn in_front_of_the_master_that_a_sentinel_names_the_same_commands_give_the_same_answers() {
    play_behind(Behind::Sentinel);
}

#[test]
fn in_front_of_a_cluster_the_same_commands_give_the_same_answers() {
    play_behind(Behind::Cluster);
}

#[test]
fn in_front_of_three_masters_the_same_commands_give_the_same_answers() {
    play_behind(Behind::Masters);
}

#[test]
fn without_a_redis_the_same_commands_give_the_same_answers() {
    play_behind(Behind::Nothing);
}

#[test]
fn limits_in_several_slots_give_back_what_they_used_before_a_denial() {
    let redis = one_node_cluster();
    let daemon = daemon_with_file(&redis, POLICIES);
    let mut clients = [daemon.client()];
    let title = "several slots".to_owned();
    Run { clients: &mut clients, resp3: false, manner: Manner::InTurn, title }.play(
        "RATELIMIT.MULTI 2 user a free 1 user b free 1 => [1 -1 [[1 3 2 -1 #] [1 3 2 -1 #]]]
         RATELIMIT.MULTI 3 user a free 1 user b free 3 user c free 1 => [0 1 [[1 3 1 -1 #] [0 3 2 # #] [1 3 0 -1 0]]]
         RATELIMIT.PEEK user a POLICY free => [1 3 2 -1 #]
         RATELIMIT.PEEK user b POLICY free => [1 3 2 -1 #]
         EXISTS ratelimit:user:c => 0",
    );
}

#[test]
fn a_transaction_executes_scripts_between_other_commands_in_order() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = crate::resp3(&daemon);
    for line in
        ["MULTI", "SET k 1", "LOCK.ACQUIRE a 30000 TOKEN t", "GET lock:a", "LOCK.RELEASE a t", "INCR k"]
    {
        crate::send(&mut client, line);
        client.read_frame();
    }
    let reply = crate::shown(&mut client, "EXEC");
    let fence = reply.split("fence=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a fence");
    assert_eq!(reply, format!("[+OK {{granted=1 token='t' fence={fence} ms=30000}} 't' 0 2]"));
}
