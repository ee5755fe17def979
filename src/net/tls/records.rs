//! What rustls asks for between the records: answered here, for a server's and a client's connection alike. Touches no socket.

use std::io;

use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

/// What is sealed.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    Bytes(&'a [u8]),
    /// That nothing more comes.
    End,
}

/// What follows from one look at what rustls wants.
pub enum Next {
    /// Another look.
    Again,
    /// The peer has said that nothing more comes; another look.
    Ended,
    /// More has to come.
    Read,
}

/// Does what rustls asks for while records are opened: how many bytes of them are done with, how much plaintext came.
pub fn look<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    held: &mut Vec<u8>,
    into: &mut [u8],
) -> (usize, Result<(usize, Next), rustls::Error>) {
    let mut discard = status.discard;
    let mut filled = 0;
    let next = match status.state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok((filled, Next::Again)),
                Some(Ok(record)) => {
                    into[filled..filled + record.payload.len()].copy_from_slice(record.payload);
                    filled += record.payload.len();
                    discard += record.discard;
                }
                Some(Err(error)) => break Err(error),
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => {
            hold(data, held);
            Ok((0, Next::Again))
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok((0, Next::Again))
        }
        Ok(ConnectionState::PeerClosed) => Ok((0, Next::Ended)),
        Ok(_) => Ok((0, Next::Read)),
        Err(error) => Err(error),
    };
    (discard, next)
}

/// Appends what rustls wants to be sent.
fn hold<Data>(mut data: EncodeTlsData<'_, Data>, held: &mut Vec<u8>) {
    let from = held.len();
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else { return };
    held.resize(from + size.required_size, 0);
    let encoded = data.encode(&mut held[from..]);
    debug_assert!(encoded.is_ok(), "it has the size that it asked for");
}

/// How far one step of sealing came.
pub enum Sealed {
    /// So many bytes had to go before it.
    More(usize),
    All(usize),
}

/// Does what rustls asks for until it takes the content.
pub fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    content: Content<'_>,
    into: &mut [u8],
) -> (usize, io::Result<Sealed>) {
    let sealed = match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match content {
            Content::Bytes(bytes) => traffic.encrypt(bytes, into),
            Content::End => traffic.queue_close_notify(into),
        }
        .map(Sealed::All)
        .map_err(io::Error::other),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            data.encode(into).map(Sealed::More).map_err(io::Error::other)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Sealed::More(0))
        }
        Ok(ConnectionState::PeerClosed) => Ok(Sealed::More(0)),
        Ok(_) => Err(io::Error::other("TLS takes no more bytes")),
        Err(error) => Err(io::Error::other(error)),
    };
    (status.discard, sealed)
}
