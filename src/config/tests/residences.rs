//! Where each kind of shared state lives, by its driver and its URLs.
use super::*;

#[test]
fn each_kind_lives_where_its_driver_and_its_url_say() {
    let own = |url: &str| {
        let name = Kind::Lock.url_override();
        Residence::Own(target::parse(name, &Secret::new(url)).unwrap())
    };
    let cases = [
        ("", &[URL][..], Residence::Shared),
        ("driver = 'redis'", &[URL], Residence::Shared),
        ("driver = 'memory'", &[URL], Residence::Memory),
        ("driver = 'none'", &[URL], Residence::Nowhere),
        ("url_override = 'redis://ann:pw@h:1/2'", &[URL], own("redis://ann:pw@h:1/2")),
        ("driver = 'redis'\nurl_override = 'unix:///r.sock'", &[URL], own("unix:///r.sock")),
        ("driver = 'none'\nurl_override = 'redis://h'", &[URL], Residence::Nowhere),
        ("", &[], Residence::Shared),
        ("driver = 'memory'", &[], Residence::Shared),
        ("driver = 'none'", &[], Residence::Nowhere),
        ("driver = 'redis'\nurl_override = 'redis://h'", &[], own("redis://h")),
        ("driver = 'redis-sentinel'", &[SENTINEL], Residence::Shared),
        (
            "driver = 'redis-sentinel'\nurl_override = 'redis-sentinel://h,i/m/2'",
            &[],
            own("redis-sentinel://h,i/m/2"),
        ),
        ("url_override = 'redis-sentinel://h,i/m'", &[URL], own("redis-sentinel://h,i/m")),
    ];
    for kind in Kind::ALL {
        for (text, variables, expected) in &cases {
            let section = format!("[{}]\n{text}", kind.name());
            let config = Setup::new(&section).load(variables).unwrap_or_else(|e| panic!("{section}: {e}"));
            let residences = config.residences().unwrap();
            assert_eq!(residences.of(kind), expected, "{section}");
            for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
                assert_eq!(residences.of(other), &Residence::Shared, "{section}");
            }
        }
    }
}

#[test]
fn locks_may_live_on_several_masters_whose_passwords_nobody_sees() {
    let urls = ["redis://:hunter2@a", "redis://ann:hunter2@b:1/3", "unix:///c.sock"];
    let target = |url: &str| target::parse("", &Secret::new(url)).unwrap();
    let expected = Residence::Masters(urls.iter().map(|url| target(url)).collect());
    let in_file = Setup::new(&format!("[lock]\nredlock = {urls:?}"));
    let all = urls.join(", ");
    let variables = [URL, ("MADCACHE_LOCK_REDLOCK", all.as_str())];
    for config in [in_file.load(&[]).unwrap(), Setup::new("").load(&variables).unwrap()] {
        assert_eq!(config.residences().unwrap().of(Kind::Lock), &expected);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    for broken in [
        "[lock]\nredlock = ['redis://:hunter2@a:x', 'redis://b', 'redis://c']",
        "[lock]\nredlock = 'hunter2'",
    ] {
        assert!(!Setup::new(broken).error(&[URL]).contains("hunter2"), "{broken}");
    }
    let off = Setup::new("[lock]\ndriver = 'none'\nredlock = ['redis://a']").load(&[URL]).unwrap();
    assert_eq!(off.residences().unwrap().of(Kind::Lock), &Residence::Nowhere);
}
