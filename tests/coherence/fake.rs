//! The tools are right: the relay passes, holds, replaces, drops and injects as it says, with a bare client in the
//! daemon's place. A test that fails elsewhere then speaks of the daemon.

use std::time::Duration;

use crate::kit::{bulk, frame_within, show, tracked};
use crate::support::fake_l2::{FakeL2, Links, Side, Way, invalidate, invalidate_all};
use crate::support::{Client, Redis, eventually};

/// A RESP3 connection through the relay, with tracking on, as the daemon's tracked link has it.
fn tracked_link(fake: &FakeL2) -> Client {
    let mut link = Client::connect(fake.port);
    assert!(show(&link.call(&["HELLO", "3"])).starts_with('%'));
    assert_eq!(link.text(&["CLIENT", "TRACKING", "ON"]), "+OK");
    link
}

#[test]
fn the_relay_passes_everything_and_matches_replies_to_requests() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let mut link = Client::connect(fake.port);
    let big = "x".repeat(300_000);
    assert_eq!(link.text(&["SET", "k", &big]), "+OK");
    assert_eq!(link.text(&["GET", "k"]), big);
    assert_eq!(link.text(&["EVAL", "return {1,{2,'three'}}", "0"]), "*2\r\n:1\r\n*2\r\n:2\r\n$5\r\nthree");
    assert_eq!(fake.count(|f| f.side == Side::Request && f.named("get")), 1);
    assert_eq!(fake.count(|f| f.side == Side::Reply && f.is(&["GET", "k"]) && f.bytes == bulk(&big)), 1);
    assert_eq!((fake.open(Links::All), fake.open(Links::Tracked)), (1, 0));
}

#[test]
fn a_held_reply_waits_with_all_that_is_behind_it() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let mut link = tracked_link(&fake);
    redis.client().call(&["SET", "k", "old"]);
    let gate = fake.hold(Side::Reply, tracked(&["GET", "k"]));
    link.send_raw(b"GET k\r\nPTTL k\r\n").unwrap();
    let held = gate.next();
    fake.await_count("PTTL", 1, |frame| frame.side == Side::Request && frame.named("PTTL"));
    redis.client().call(&["SET", "k", "new"]);
    link.expect_silence(Duration::from_millis(20));
    held.pass_between(&invalidate(&["a", "k"]), &invalidate_all());
    let expected =
        [invalidate(&["a", "k"]), bulk("old"), invalidate_all(), b":-1\r\n".to_vec(), invalidate(&["k"])];
    for frame in expected {
        assert_eq!(show(&link.read_frame()), show(&frame));
    }
}

#[test]
fn scripted_answers_keep_their_place_and_dropped_pushes_stay_away() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let mut link = tracked_link(&fake);
    let _loading = fake.answer(Side::Request, |f| f.is(&["GET", "k"]), b"-LOADING later\r\n");
    let silence = fake.drop_pushes();
    link.send_raw(b"GET other\r\nGET k\r\nPING\r\n").unwrap();
    assert_eq!(show(&link.read_frame()), "_\r\n");
    assert_eq!(show(&link.read_frame()), "-LOADING later\r\n");
    assert_eq!(show(&link.read_frame()), "+PONG\r\n");
    redis.client().call(&["SET", "other", "1"]);
    fake.await_count("the push", 1, |f| f.side == Side::Push);
    drop(silence);
    assert_eq!(link.text(&["PING"]), "+PONG");
    fake.inject(Links::Tracked, &invalidate(&["other"]));
    assert_eq!(link.read_frame(), invalidate(&["other"]));
}

#[test]
fn a_frozen_direction_loses_nothing_and_a_cut_link_ends() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let mut link = tracked_link(&fake);
    fake.freeze(Way::Down, Links::Tracked);
    let mut plain = Client::connect(fake.port);
    link.send(&["SET", "k", "v"]);
    eventually("the request arrives", || plain.text(&["GET", "k"]) == "v");
    assert!(frame_within(&mut link, Duration::from_millis(20)).is_none());
    fake.thaw();
    assert_eq!(show(&link.read_frame()), "+OK\r\n");
    fake.cut(Links::Tracked);
    assert!(link.try_read_frame().is_err(), "the tracked link is cut");
    assert_eq!(plain.text(&["PING"]), "+PONG");
    fake.refuse(true);
    assert!(Client::connect(fake.port).try_read_frame().is_err(), "new links are refused");
}
