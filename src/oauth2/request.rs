//! A POST with a form in it, the whole request (RFC 9112 3; the form: RFC 6749 appendix B).

use zeroize::Zeroizing;

use super::Url;

const PRODUCT: &str = concat!("postern/", env!("CARGO_PKG_VERSION"));

/// The request to `url` with the fields `form`; wiped when dropped, and made without a copy that would stay.
pub fn request(url: &Url, form: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let body_octets = form.iter().map(|(name, value)| name.len() + 2 + encoded_octets(value)).sum::<usize>();
    let body_octets = body_octets.saturating_sub(1);
    let (left, right) = if url.host.contains(':') { ("[", "]") } else { ("", "") };
    let port = if url.port == 443 { String::new() } else { format!(":{}", url.port) };
    let head = format!(
        "POST {} HTTP/1.1\r\n\
         Host: {left}{}{right}{port}\r\n\
         User-Agent: {PRODUCT}\r\n\
         Accept: application/json\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {body_octets}\r\n\
         Connection: close\r\n\r\n",
        url.path, url.host
    );
    let mut octets = Zeroizing::new(Vec::with_capacity(head.len() + body_octets));
    octets.extend_from_slice(head.as_bytes());
    for (place, (name, value)) in form.iter().enumerate() {
        if place > 0 {
            octets.push(b'&');
        }
        octets.extend_from_slice(name.as_bytes());
        octets.push(b'=');
        encode(value, &mut octets);
    }
    octets
}

/// What a form has for itself; all else is written by its number.
const fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'*' | b'-' | b'.' | b'_')
}

fn encoded_octets(value: &[u8]) -> usize {
    value.iter().map(|octet| if is_plain(*octet) || *octet == b' ' { 1 } else { 3 }).sum()
}

fn encode(value: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for octet in value {
        match octet {
            b' ' => into.push(b'+'),
            octet if is_plain(*octet) => into.push(*octet),
            octet => {
                let (high, low) = (usize::from(octet >> 4), usize::from(octet & 15));
                into.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(url: &str, form: &[(&str, &[u8])]) -> String {
        let url = Url::parse(url).expect(url);
        String::from_utf8(request(&url, form).to_vec()).expect("a request is ASCII")
    }

    #[test]
    fn a_form_says_how_long_it_is_and_nothing_breaks_out_of_it() {
        let form: [(&str, &[u8]); 3] =
            [("grant_type", b"refresh_token"), ("secret", b"a b&c=d\r\n%+~\xff"), ("scope", b"")];
        let text = text("https://login.example.com/t?x=1", &form);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let encoded = "a+b%26c%3Dd%0D%0A%25%2B%7E%FF";
        assert_eq!(body, format!("grant_type=refresh_token&secret={encoded}&scope="));
        assert!(head.starts_with("POST /t?x=1 HTTP/1.1\r\nHost: login.example.com\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
    }

    #[test]
    fn the_host_field_names_an_odd_port_and_brackets_an_ipv6_address() {
        assert!(text("https://a:8443", &[]).contains("\r\nHost: a:8443\r\n"));
        assert!(text("https://[::1]:443/", &[]).contains("\r\nHost: [::1]\r\n"));
        assert!(text("https://a", &[]).contains("\r\nContent-Length: 0\r\n"));
    }

    /// No room was reserved too little: a copy of a secret would stay behind in what had to grow.
    #[test]
    fn the_request_never_grows_while_it_is_made() {
        let url = Url::parse("https://a/").expect("an address");
        for secret in [&b"x"[..], b"\xff \r", &[b'%'; 5000]] {
            let octets = request(&url, &[("a", secret), ("b", secret)]);
            let head = octets.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
            assert_eq!(octets.len() - head, "a=&b=".len() + 2 * encoded_octets(secret));
            assert_eq!(octets.capacity(), octets.len());
        }
    }
}
