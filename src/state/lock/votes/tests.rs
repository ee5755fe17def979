//! Tables of answers, and what follows from them; and for all answers: two majorities never exclude each other.
use proptest::prelude::*;

use super::*;

const GRANT: &[u8] = b"*4\r\n:1\r\n$1\r\nt\r\n:70\r\n:1000\r\n";
const LARGER: &[u8] = b"*4\r\n:1\r\n$1\r\nt\r\n:90\r\n:1000\r\n";
const DENIAL: &[u8] = b"*4\r\n:0\r\n$-1\r\n:55\r\n:300\r\n";
const LATER: &[u8] = b"*4\r\n:0\r\n$-1\r\n:60\r\n:800\r\n";
const NEW: &[u8] = b"-NEWMASTER it may have lost what it knew\r\n";
const LOST: &[u8] = b"-LOCKLOST the lock is not held with this token\r\n";
const WRONG: &[u8] = b"-WRONGTYPE Operation against a key\r\n";

fn five() -> Quorum {
    Quorum::of(5)
}

fn five_of(frames: &[&'static [u8]]) -> Vec<Frame<'static>> {
    let answered = frames.iter().copied().map(Some);
    answered.chain(std::iter::repeat(None)).take(5).collect()
}

fn line(verdict: &Verdict) -> String {
    String::from_utf8(verdict.line()).expect("text")
}

#[test]
fn a_majority_is_more_than_half_and_the_rest_cannot_be_one() {
    for (masters, needed, blocking) in [(3, 2, 2), (4, 3, 2), (5, 3, 3), (7, 4, 4)] {
        let quorum = Quorum::of(masters);
        assert_eq!((quorum.needed(), quorum.blocking()), (needed, blocking), "{masters}");
    }
}

#[test]
fn what_is_valid_is_the_ttl_less_the_time_that_it_took_and_the_drift() {
    let ms = Duration::from_millis;
    assert_eq!(validity_ms(30_000, ms(0)), Some(29_698));
    assert_eq!(validity_ms(30_000, ms(698)), Some(29_000));
    assert_eq!(validity_ms(30_000, Duration::from_micros(697_001)), Some(29_000));
    assert_eq!(validity_ms(1000, ms(987)), Some(1));
    assert_eq!(validity_ms(1000, ms(988)), None);
    assert_eq!(validity_ms(1, ms(0)), None);
    assert_eq!(validity_ms(u64::MAX, Duration::MAX), None);
}

#[test]
fn an_attempt_is_granted_by_three_of_five_with_the_largest_fence() {
    let attempt = |frames: &[&'static [u8]]| Attempt::of(five(), &five_of(frames));
    assert_eq!(attempt(&[GRANT, LARGER, GRANT]), Attempt::Granted { fence: 90 });
    assert_eq!(attempt(&[GRANT, GRANT, GRANT, DENIAL, NEW]), Attempt::Granted { fence: 70 });
    let denied = |retry_ms, split| Attempt::Denied { fence: Some(60), retry_ms, split };
    assert_eq!(attempt(&[DENIAL, LATER, DENIAL, DENIAL, LATER]), denied(300, false));
    assert_eq!(attempt(&[DENIAL, LATER, LATER]), denied(800, false));
    assert_eq!(attempt(&[GRANT, GRANT, LATER, DENIAL, NEW]), denied(300, true));
    assert_eq!(attempt(&[WRONG; 5]), Attempt::Failed(Verdict::Refused(WRONG[1..WRONG.len() - 2].to_vec())));
}

#[test]
fn what_lacks_is_told() {
    let told = |frames: &[&'static [u8]]| match Attempt::of(five(), &five_of(frames)) {
        Attempt::Failed(verdict) => line(&verdict),
        other => panic!("{other:?}"),
    };
    let start = "NOQUORUM 3 of the 5 masters of locks must agree: ";
    assert_eq!(told(&[GRANT, GRANT]), format!("{start}3 did not answer in time"));
    let both = "1 did not answer in time, 2 started lately and may not count yet";
    assert_eq!(told(&[GRANT, GRANT, NEW, NEW]), format!("{start}{both}"));
    assert_eq!(told(&[NEW, NEW, NEW, NEW, NEW]), format!("{start}5 started lately and may not count yet"));
    let line = line(&extended(five(), &five_of(&[b":1\r\n", b":1\r\n", LOST, LOST, WRONG])).unwrap_err());
    assert_eq!(line, format!("{start}they say different things, try again"));
}

#[test]
fn a_lock_is_extended_and_released_by_a_majority_and_lost_where_there_can_be_none() {
    let two: &[u8] = b":2\r\n";
    let (one, none): (&[u8], &[u8]) = (b":1\r\n", b":0\r\n");
    let cases = [
        (vec![none, none, none, LOST, LOST], Ok(0)),
        (vec![two, one, one, none], Ok(1)),
        (vec![two, two, none, none, none], Ok(0)),
        (vec![none, none, LOST, LOST, LOST], Err(Verdict::Lost)),
        (vec![LOST, LOST, LOST], Err(Verdict::Lost)),
    ];
    for (frames, expected) in cases {
        assert_eq!(released(five(), &five_of(&frames)), expected, "{frames:?}");
        assert_eq!(extended(five(), &five_of(&frames)).is_ok(), expected.is_ok());
    }
    assert!(released(five(), &five_of(&[none, none, LOST, LOST])).is_err_and(|verdict| verdict.is_lack()));
    assert_eq!(forced(five(), &five_of(&[none, one, none])), Ok(true));
    assert_eq!(forced(five(), &five_of(&[none, none, none, NEW])), Ok(false));
    assert!(forced(five(), &five_of(&[one, one])).is_err_and(|verdict| verdict.is_lack()));
}

#[test]
fn a_check_tells_the_time_that_a_majority_keeps() {
    let held: &[u8] = b"*3\r\n:1\r\n:90\r\n:1000\r\n";
    let longer: &[u8] = b"*3\r\n:1\r\n:90\r\n:2000\r\n";
    let free: &[u8] = b"*3\r\n:0\r\n$-1\r\n:0\r\n";
    let told = |frames: &[&'static [u8]]| {
        checked(five(), &five_of(frames)).map(|frame| String::from_utf8(frame).expect("text"))
    };
    assert_eq!(told(&[held, longer, held, free, free]), Ok("*3\r\n:1\r\n:90\r\n:988\r\n".into()));
    assert_eq!(told(&[held, longer, longer, longer]), Ok("*3\r\n:1\r\n:90\r\n:1978\r\n".into()));
    assert_eq!(told(&[free, free, free, held, held]), Ok("*3\r\n:0\r\n$-1\r\n:0\r\n".into()));
    assert!(told(&[held, held, free, free]).is_err_and(|verdict| verdict.is_lack()));
}

#[test]
fn info_tells_of_the_holder_of_a_majority_alone() {
    let mine: &[u8] = b"*4\r\n$2\r\nme\r\n:90\r\n:1000\r\n:2\r\n";
    let other: &[u8] = b"*4\r\n$-1\r\n:91\r\n:1000\r\n:0\r\n";
    let foreign: &[u8] = b"*4\r\n$-1\r\n$-1\r\n:-1\r\n:0\r\n";
    let nobody: &[u8] = b"$-1\r\n";
    let told = |frames: &[&'static [u8]]| {
        info(five(), &five_of(frames)).map(|frame| String::from_utf8(frame).expect("text"))
    };
    assert_eq!(told(&[other, mine, mine, mine]), Ok("*4\r\n$2\r\nme\r\n:90\r\n:988\r\n:2\r\n".into()));
    assert_eq!(told(&[foreign; 3]), Ok("*4\r\n$-1\r\n$-1\r\n:-1\r\n:0\r\n".into()));
    assert_eq!(told(&[nobody; 3]), Ok("$-1\r\n".into()));
    assert_eq!(told(&[mine, mine, other, other, nobody]), Ok("$-1\r\n".into()));
    assert!(told(&[mine, mine, nobody, nobody]).is_err_and(|verdict| verdict.is_lack()));
    assert!(told(&[nobody, nobody]).is_err_and(|verdict| verdict.is_lack()));
}

proptest! {
    /// Each master grants one of two attempts, or none, or says nothing that counts.
    #[test]
    fn of_two_attempts_at_the_same_masters_one_at_most_is_granted(
        votes in proptest::collection::vec(0..4u8, 3..16)
    ) {
        let quorum = Quorum::of(votes.len());
        let seen_by = |attempt: u8| -> Vec<Frame<'static>> {
            let frame = |vote: &u8| match *vote {
                0 => None,
                1 => Some(NEW),
                granted if granted == attempt => Some(GRANT),
                _ => Some(DENIAL),
            };
            votes.iter().map(frame).collect()
        };
        let granted = |attempt| matches!(Attempt::of(quorum, &seen_by(attempt)), Attempt::Granted { .. });
        prop_assert!(!(granted(2) && granted(3)));
        let counting = votes.iter().filter(|vote| **vote > 1).count();
        let is_lack = matches!(Attempt::of(quorum, &seen_by(2)), Attempt::Failed(_));
        prop_assert_eq!(is_lack, counting < quorum.needed());
        // Who is denied for good by those that have answered is not granted by the others.
        if Attempt::is_decided(quorum, &seen_by(2)) {
            prop_assert!(!granted(2));
        }
    }
}
