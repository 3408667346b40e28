//! The address of an endpoint: `https://HOST[:PORT]/PATH` and nothing else (RFC 9110 4.2.2).
//!
//! Invariant: what is here can stand in a request as it is. Whether the host is a name or an address is for
//! whoever connects to it.

/// Octets of the longest address that is taken.
pub const URL_OCTETS_MAX: usize = 512;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The path with its query, beginning with `/`.
    pub path: String,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is no address; \"https://HOST/PATH\" is allowed";
        if text.len() > URL_OCTETS_MAX {
            return Err("is longer than 512 octets");
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err("is not https://, and a secret goes over nothing else");
        }
        if !rest.bytes().all(|octet| octet.is_ascii_graphic()) || rest.contains('#') {
            return Err("has an octet that stands in no address of an endpoint");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let slash = if path.starts_with('/') { "" } else { "/" };
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => literal.split_once(']').ok_or(FORM)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port {
            "" => 443,
            port => port.strip_prefix(':').and_then(|digits| digits.parse().ok()).ok_or(FORM)?,
        };
        if host.is_empty() || port == 0 || host.contains(['@', '[', ']']) {
            return Err(FORM);
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, path: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, u16, String) {
        let Url { host, port, path } = Url::parse(text).expect(text);
        (host, port, path)
    }

    #[test]
    fn host_port_and_path_are_told_apart() {
        for (text, host, port, path) in [
            ("https://login.example.com/tenant/token", "login.example.com", 443, "/tenant/token"),
            ("HTTPS://Login.Example.com", "login.example.com", 443, "/"),
            ("https://a:8443/x?y=z&a=1", "a", 8443, "/x?y=z&a=1"),
            ("https://192.0.2.1?y", "192.0.2.1", 443, "/?y"),
            ("https://[2001:db8::1]:444/x", "2001:db8::1", 444, "/x"),
            ("https://[2001:db8::1]", "2001:db8::1", 443, "/"),
        ] {
            assert_eq!(parsed(text), (host.to_owned(), port, path.to_owned()));
        }
    }

    #[test]
    fn nothing_but_https_and_no_octet_that_breaks_a_request() {
        for text in [
            "",
            "login.example.com/token",
            "http://login.example.com/token",
            "ftp://a/",
            "https://",
            "https:///token",
            "https://a b/",
            "https://a/\r\nHost: b",
            "https://a/\u{e4}",
            "https://a/#b",
            "https://user@a/",
            "https://a:/",
            "https://a:0/",
            "https://a:65536/",
            "https://a:b/",
            "https://[::1/",
            "https://[::1]x/",
            "https://::1/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
        assert!(Url::parse(&format!("https://a/{}", "x".repeat(URL_OCTETS_MAX - 10))).is_ok());
        assert!(Url::parse(&format!("https://a/{}", "x".repeat(URL_OCTETS_MAX - 9))).is_err());
    }
}
