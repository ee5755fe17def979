//! A client that shows the very bytes of each reply, over TLS; and one that does the records by hand.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::pki::{Authority, Pair};
use crate::support::{PATIENCE, encode, frame_len, text_of};

/// Whom a client trusts, and what it shows. Nothing of an earlier connection is used again.
pub fn trusting(authority: &Authority, own: Option<&Pair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// The same for who speaks nothing newer than TLS 1.2.
pub fn only_tls12(authority: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The end of a connection that has not begun its handshake.
pub fn connection(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap()
}

pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16, config: Arc<ClientConfig>) -> io::Result<Client> {
        Client::over(TcpStream::connect(("127.0.0.1", port))?, config)
    }

    /// Makes the handshake.
    pub fn over(mut socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Client> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut connection = connection(config);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Client { stream: StreamOwned::new(connection, socket), buffer: Vec::new() })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }

    /// What the other end has shown.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_raw(&encode(args)).expect("send");
    }

    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(args);
        self.read_frame()
    }

    /// The reply as lossy text: of a bulk string its payload, otherwise the frame as it is.
    pub fn text<A: AsRef<[u8]>>(&mut self, args: &[A]) -> String {
        text_of(&self.call(args))
    }

    pub fn read_frame(&mut self) -> Vec<u8> {
        self.try_read_frame().expect("read a reply")
    }

    pub fn try_read_frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(len) = frame_len(&self.buffer) {
                return Ok(self.buffer.drain(..len).collect());
            }
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// Everything until the peer says that nothing more comes; an error where it closes without saying so.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut all = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut all)?;
        Ok(all)
    }

    /// Goes on with new keys, and asks the other end to do so.
    pub fn change_keys(&mut self) {
        self.stream.conn.refresh_traffic_keys().unwrap();
    }

    /// Says that nothing more comes.
    pub fn say_farewell(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
    }
}
