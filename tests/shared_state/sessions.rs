//! User sessions between daemons: a logout is seen everywhere, and a login needs none of them in particular.

use crate::support::{Daemon, Redis, eventually};
use crate::{fields, shown};

#[test]
fn a_logout_through_one_daemon_is_seen_by_the_other() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let (mut one, mut other) = (here.client(), there.client());
    for logout in ["DESTROY", "REVOKE", "DESTROYALL", "ROTATE"] {
        let login = fields(&mut one, "SESSION.CREATE ann");
        let (token, id) = (&login[0], &login[1]);
        let validate = format!("SESSION.VALIDATE {token}");
        for _ in 0..5 {
            assert_eq!(fields(&mut other, &validate)[0], *id);
        }
        let subject = match logout {
            "REVOKE" => id,
            "DESTROYALL" => "ann",
            _ => token,
        };
        assert!(!shown(&mut one, &format!("SESSION.{logout} {subject}")).starts_with('-'));
        assert_eq!(shown(&mut other, &format!("{validate} STRICT")), "nil", "{logout}");
        eventually("the session is over", || shown(&mut other, &validate) == "nil");
        assert_eq!(shown(&mut one, &validate), "nil", "{logout}");
    }
}

#[test]
fn a_session_survives_its_daemon() {
    let redis = Redis::start();
    let mut first = Daemon::start(&redis);
    let login = fields(&mut first.client(), "SESSION.CREATE ann DATA 1 DEVICE phone");
    let (token, id) = (&login[0], &login[1]);
    first.process.signal("KILL");
    first.process.wait();
    let second = Daemon::start(&redis);
    let mut client = second.client();
    let session = fields(&mut client, &format!("SESSION.VALIDATE {token}"));
    assert_eq!((&session[0], session[1].as_str(), session[5].as_str()), (id, "ann", "1"));
    assert_eq!(shown(&mut client, &format!("SESSION.SET {token} 2 IFVER 1")), "2");
    let rotated = fields(&mut client, &format!("SESSION.ROTATE {token}"));
    assert_eq!(rotated[1], *id);
    drop(second);
    let third = Daemon::start(&redis);
    let session = fields(&mut third.client(), &format!("SESSION.VALIDATE {}", rotated[0]));
    assert_eq!((session[2].as_str(), session[5].as_str()), ("2", "2"));
    assert_eq!(shown(&mut third.client(), &format!("SESSION.VALIDATE {token}")), "nil");
}

#[test]
fn logins_racing_a_logout_of_all_are_either_ended_by_it_or_counted() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let mut logins = here.client();
    for _ in 0..40 {
        crate::send(&mut logins, "SESSION.CREATE ann");
    }
    let mut other = there.client();
    let ended: usize = shown(&mut other, "SESSION.DESTROYALL ann").parse().unwrap();
    let tokens: Vec<String> = (0..40)
        .map(|_| {
            let text = crate::transcript::shown(&logins.read_frame());
            text.split('\'').nth(1).unwrap().to_owned()
        })
        .collect();
    let alive =
        tokens.iter().filter(|t| shown(&mut other, &format!("SESSION.VALIDATE {t}")) != "nil").count();
    assert_eq!(alive + ended, 40);
    assert_eq!(shown(&mut other, "SESSION.COUNT ann"), alive.to_string());
}

#[test]
fn with_plain_keys_a_reader_that_knows_the_token_finds_the_session() {
    let file = "[session]\nkey_mode = \"plain\"\n";
    let redis = Redis::start();
    for daemon in [crate::daemon_with_file(&redis, file), crate::stands::embedded_with_file(file)] {
        let mut client = daemon.client();
        let login = fields(&mut client, "SESSION.CREATE ann DATA 1");
        let (token, id) = (&login[0], &login[1]);
        assert_eq!(shown(&mut client, &format!("HGET session:{token} user")), "'ann'");
        let list = shown(&mut client, "SESSION.LIST ann");
        assert!(list.contains(id.as_str()) && !list.contains(token.as_str()), "{list}");
        let next = fields(&mut client, &format!("SESSION.ROTATE {token}"))[0].clone();
        assert_eq!(shown(&mut client, &format!("EXISTS session:{token}")), "0");
        assert_eq!(fields(&mut client, &format!("SESSION.VALIDATE {next}"))[0], *id);
        // What is no token stands for none of another kind of key.
        assert_eq!(shown(&mut client, "SESSION.VALIDATE ../x"), "nil");
        assert_eq!(shown(&mut client, &format!("SESSION.REVOKE {id}")), "1");
        assert_eq!(shown(&mut client, &format!("EXISTS session:{next}")), "0");
    }
}
