//! Listening sockets: addresses, or interfaces whose addresses may come and go.

use std::io::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listen;

/// Clients that the kernel holds for us while we are busy. Small backlogs stall bursts of clients for a
/// second; in a full one, a crowd that only wants our time would shut all others out. The kernel may hold
/// fewer.
const BACKLOG: i32 = 4096;
const _: () = assert!(BACKLOG >= 128);

/// Sockets that can be listened on at once; an interface takes two.
pub(super) const LISTENERS_MAX: usize = 16;

/// Opens what `listen` names. An interface is bound to by its device, on all its addresses of both families.
///
/// # Errors
/// The address is in use, not ours, or not permitted; the interface does not exist.
pub(super) fn open(listen: &Listen) -> Result<heapless::Vec<TcpListener, 2>, Error> {
    let mut listeners = heapless::Vec::new();
    match listen {
        Listen::Address(address) => {
            let _ = listeners.push(bind(*address, None)?);
        }
        Listen::Interface { name, port } => {
            let wildcards =
                [SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)), (Ipv6Addr::UNSPECIFIED, *port).into()];
            for address in wildcards {
                match bind(address, Some(name)) {
                    Ok(listener) => {
                        let _ = listeners.push(listener);
                    }
                    // A kernel without IPv6.
                    Err(error)
                        if address.is_ipv6()
                            && error.raw_os_error()
                                == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, interface: Option<&str>) -> Result<TcpListener, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}
