//! OAuth 2.0 as data: what a token endpoint is asked, and what its response means (RFC 6749 4.4, 5, 6; RFC
//! 6750), and how a login is granted to a machine without a browser (RFC 8628); over the least of HTTP/1.1
//! that this takes (RFC 9110, RFC 9112).
//!
//! One request, one response, and the connection is over: [`request()`] makes the octets of the first,
//! [`Response`] takes those of the second as they come, [`Grant::judge`] says what they mean. Pure: no
//! socket, clock or file; TLS is below. Everything has a bound, and what may be a secret lies in memory that
//! is wiped.
//!
//! Absent on purpose: other methods and schemes, redirections, cookies, compressed content, kept connections.
//! The client's secret goes in the body, as Google and Microsoft document it, instead of in a field (RFC 6749
//! 2.3.1 has both).
mod device;
mod grant;
pub mod json;
mod request;
mod response;
mod url;

pub use device::{Code, DEVICE_GRANT, DeviceCode, Poll};
pub use grant::{Denial, Description, Grant};
pub use request::request;
pub use response::{BODY_OCTETS_MAX, HEAD_OCTETS_MAX, Malformed, Response};
pub use url::{URL_OCTETS_MAX, Url};
