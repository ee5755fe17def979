//! What a failed handshake means and what to do about it: rustls and the alerts say what was found, in one word.

use rustls::{AlertDescription, CertificateError, Error};

/// Whom the other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at `server.tls_port`.
    Client,
    /// What `upstream.url`, or a kind's `url_override`, names.
    Redis,
}

/// One line for the log and, from L2, for clients.
pub fn reason(error: &Error, peer: Peer) -> String {
    match error {
        Error::InvalidCertificate(wrong) => certificate(wrong, peer),
        Error::NoCertificatesPresented => {
            "it showed no certificate, and server.tls_auth_clients = \"yes\" asks for one".into()
        }
        Error::AlertReceived(alert) => told(*alert, peer),
        Error::InvalidMessage(_) => not_tls(peer).into(),
        Error::PeerIncompatible(what) => {
            format!(
                "it has no version (1.2 or 1.3) or no cipher of TLS in common with this daemon ({what:?})"
            )
        }
        error => format!("TLS failed: {error}"),
    }
}

/// Something else than TLS was said.
pub fn not_tls(peer: Peer) -> &'static str {
    match peer {
        Peer::Client => "it does not speak TLS to server.tls_port: use server.port for plain text",
        Peer::Redis => "it does not speak TLS: name Redis's tls-port, or write redis:// for plain text",
    }
}

/// The connection ended before the handshake did.
pub fn went_away(peer: Peer) -> &'static str {
    match peer {
        Peer::Client => "it went away during the handshake; it may not trust server.tls_cert_file",
        Peer::Redis => {
            "it closed the connection during the TLS handshake: does it speak TLS on this port, and does it ask for a \
             certificate (upstream.tls_cert_file)?"
        }
    }
}

/// It closed at the first request, and may have wanted something that it cannot say: Redis looks at certificates behind the
/// end of the handshake, and its last word may be lost.
pub fn closed_at_once(by_tls: bool) -> &'static str {
    match by_tls {
        true => "it closed the connection: does it ask for a client certificate (upstream.tls_cert_file)?",
        false => "it closed the connection: does it speak TLS? then write rediss://",
    }
}

fn certificate(wrong: &CertificateError, peer: Peer) -> String {
    use CertificateError as Wrong;
    let (cert, ca) = match peer {
        Peer::Client => ("the client's certificate", "server.tls_ca_file"),
        Peer::Redis => ("its certificate", "upstream.tls_ca_file"),
    };
    match wrong {
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            format!("{cert} has expired: renew it, or set this machine's clock")
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            format!("{cert} is not valid yet: set the clock of this machine or of the one that signed it")
        }
        Wrong::UnknownIssuer => {
            format!("{cert} is not signed by an authority that is trusted here: name its authority in {ca}")
        }
        Wrong::NotValidForName => format!("{cert} is for another host: {BY_NAME}"),
        Wrong::NotValidForNameContext { expected, presented } => {
            let presented = presented.join(", ");
            format!("{cert} is for {presented}, and not for {}: {BY_NAME}", expected.to_str())
        }
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            format!("{cert} was made for another purpose (extended key usage): have one made for this end")
        }
        Wrong::Revoked => format!("{cert} has been revoked: have a new one made"),
        // webpki's own errors have no variant here.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => format!(
            "{cert} is an authority's (CA:TRUE): sign one with it for this end, and name the authority in {ca}"
        ),
        other => format!("{cert} is not accepted: {other}"),
    }
}

const BY_NAME: &str = "name the host as its certificate does, or set upstream.tls_server_name";

/// What the other end said of us.
fn told(alert: AlertDescription, peer: Peer) -> String {
    use AlertDescription as Alert;
    match (alert, peer) {
        (Alert::CertificateRequired, Peer::Redis) => {
            "it asks for a client certificate: set upstream.tls_cert_file and upstream.tls_key_file".into()
        }
        (Alert::HandshakeFailure, Peer::Redis) => {
            "it broke the handshake off: it may ask for a client certificate (upstream.tls_cert_file), or have no cipher of TLS \
             in common with this daemon"
                .into()
        }
        (Alert::ProtocolVersion, _) => "it speaks neither TLS 1.2 nor 1.3".into(),
        (Alert::CertificateExpired, Peer::Redis) => {
            "it says that this daemon's certificate (upstream.tls_cert_file) has expired: renew it".into()
        }
        (Alert::CertificateExpired, Peer::Client) => {
            "it says that server.tls_cert_file has expired: renew it".into()
        }
        (alert, Peer::Redis) if is_of_certificate(alert) => format!(
            "it does not accept this daemon's certificate (upstream.tls_cert_file; {alert:?}): Redis's tls-ca-cert-file must \
             hold its authority"
        ),
        (alert, Peer::Client) if is_of_certificate(alert) => format!(
            "it does not accept server.tls_cert_file ({alert:?}): give it the authority of that certificate, and a host \
             that the certificate names"
        ),
        (alert, _) => format!("it broke TLS off ({alert:?})"),
    }
}

fn is_of_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::AccessDenied
            | Alert::DecryptError
    )
}
