//! The socket that carries one question: a datagram each way, or a connection where the reply is too long for
//! that.
//!
//! Each question has a socket of its own, bound to a port that the kernel picks at random, and connected, so
//! that the kernel drops what comes from elsewhere and tells at once when nobody listens there.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use super::packet::Query;
use super::resolution::{Ask, Transport};

/// Octets of the longest reply; a longer one is the server's failure. Room for a hundred addresses.
pub(super) const REPLY_OCTETS_MAX: usize = 4096;
/// Octets of the length before a message on a connection.
const LENGTH_OCTETS: usize = 2;
/// Datagrams and pieces that are read at one event; a server that sends more is no help.
const READS_MAX: usize = 64;

/// Where a reply is waited for.
#[derive(Debug)]
pub(super) enum Line {
    Closed,
    Datagram(UdpSocket),
    /// On the heap, for the seconds that it is needed: only long replies come this way.
    Stream(Box<Stream>),
}

#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    server: SocketAddr,
    query: Query,
    written: usize,
    input: [u8; LENGTH_OCTETS + REPLY_OCTETS_MAX],
    filled: usize,
}

impl Line {
    /// Asks. An error means that the server can't be reached.
    pub(super) fn open(registry: &Registry, token: Token, ask: &Ask) -> Result<Self, Error> {
        match ask.transport {
            Transport::Udp => {
                let any = match ask.server {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let mut socket = UdpSocket::bind(any)?;
                socket.connect(ask.server)?;
                registry.register(&mut socket, token, Interest::READABLE)?;
                socket.send(ask.query.as_slice())?;
                Ok(Self::Datagram(socket))
            }
            Transport::Tcp => {
                let mut socket = TcpStream::connect(ask.server)?;
                registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(Self::Stream(Box::new(Stream {
                    socket,
                    server: ask.server,
                    query: ask.query.clone(),
                    written: 0,
                    input: [0; LENGTH_OCTETS + REPLY_OCTETS_MAX],
                    filled: 0,
                })))
            }
        }
    }

    /// Calls `visit` with each message that came and where it came from, until that returns false. An error
    /// means that no further one will come.
    pub(super) fn read(&mut self, mut visit: impl FnMut(SocketAddr, &[u8]) -> bool) -> Result<(), Error> {
        match self {
            Self::Closed => Ok(()),
            Self::Datagram(socket) => {
                let mut octets = [0; REPLY_OCTETS_MAX];
                for _ in 0..READS_MAX {
                    match socket.recv_from(&mut octets) {
                        Ok((count, from)) if visit(from, &octets[..count]) => {}
                        Ok(_) => return Ok(()),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(ErrorKind::InvalidData.into())
            }
            Self::Stream(stream) => {
                if stream.is_written()? && stream.is_read()? {
                    visit(stream.server, &stream.input[LENGTH_OCTETS..stream.filled]);
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(())
            }
        }
    }
}

impl Stream {
    /// Writes the question; true when all of it is written.
    fn is_written(&mut self) -> Result<bool, Error> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        let mut message = [0; LENGTH_OCTETS + size_of::<Query>()];
        let query = self.query.as_slice();
        message[..LENGTH_OCTETS].copy_from_slice(&(query.len() as u16).to_be_bytes());
        message[LENGTH_OCTETS..][..query.len()].copy_from_slice(query);
        let message = &message[..LENGTH_OCTETS + query.len()];
        while self.written < message.len() {
            match self.socket.write(&message[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads the reply; true when all of it is there. An error where the connection ends before, or the reply
    /// is too long.
    fn is_read(&mut self) -> Result<bool, Error> {
        for _ in 0..READS_MAX {
            let end = match self.input[..self.filled].first_chunk() {
                None => LENGTH_OCTETS,
                Some(length) => LENGTH_OCTETS + usize::from(u16::from_be_bytes(*length)),
            };
            if end > self.input.len() {
                return Err(ErrorKind::InvalidData.into());
            }
            if end > LENGTH_OCTETS && self.filled == end {
                return Ok(true);
            }
            match self.socket.read(&mut self.input[self.filled..end]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::InvalidData.into())
    }
}
