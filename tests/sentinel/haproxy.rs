//! HAProxy with the very file that is shipped, before the servers of a `Service`.

use std::process::{Command, Stdio};

use crate::support::sentinel::{SERVICE, Service};
use crate::support::{Process, free_port};

pub struct HAProxy {
    pub port: u16,
    _process: Process,
}

/// Whether there is a HAProxy to be started.
pub fn is_installed() -> bool {
    Command::new("haproxy").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

impl HAProxy {
    pub fn before(service: &Service) -> HAProxy {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("haproxy/state-pillar.cfg");
        let (port, unused) = (free_port(), || free_port().to_string());
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("REDIS_BIND", format!("127.0.0.1:{port}")).env("SENTINEL_MASTER_NAME", SERVICE);
        command.env("VERDICT_SOCKET", format!("abns@madcache-test-{port}"));
        for name in ["POSTGRES_PRIMARY_BIND", "POSTGRES_REPLICAS_BIND", "STATS_BIND"] {
            command.env(name, format!("127.0.0.1:{}", unused()));
        }
        for (at, (node, sentinel)) in service.nodes.iter().zip(&service.sentinels).enumerate() {
            let number = at + 1;
            command.env(format!("STATE_{number}_HOST"), "127.0.0.1");
            command.env(format!("REDIS_{number}_PORT"), node.port.to_string());
            command.env(format!("SENTINEL_{number}_PORT"), sentinel.port.to_string());
            command.env(format!("POSTGRES_{number}_PORT"), unused());
            command.env(format!("PATRONI_{number}_PORT"), unused());
        }
        HAProxy { port, _process: Process::spawn(&mut command) }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
