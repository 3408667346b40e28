//! A connected socket of either kind: TCP, or of this machine.

use std::io::{Error, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

/// A socket that sends without delay.
#[derive(Debug)]
pub(super) enum Wire {
    /// To a client or smarthost in the network.
    Tcp(TcpStream),
    /// To a program of this machine.
    Unix(UnixStream),
}

impl Wire {
    /// What is sent goes out at once. One that can't be told so is slower, no more.
    pub(super) fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
        }
    }

    /// Nothing more will be sent.
    pub(super) fn end(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> Result<usize, Error> {
        match self {
            Self::Tcp(stream) => stream.write(octets),
            Self::Unix(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Source for Wire {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> Result<(), Error> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> Result<(), Error> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interest),
            Self::Unix(stream) => stream.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> Result<(), Error> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}
