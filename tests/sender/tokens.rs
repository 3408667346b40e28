//! Access tokens as the session sees them: kept ones that have gone stale, and none at all.
use base64ct::{Base64, Encoding as _};

use crate::rig::{Rig, envelope};

const KEYS: &str = "user = \"me\"
    oauth2 = { grant = \"client_credentials\", token_url = \"https://a/t\", client_id = \"c\", \
    client_secret_file = \"/etc/secret\" }";
const HELLO: &str = "S: 220 smarthost
    C: EHLO relay.site.example
    S: 250-smarthost
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go
    tls
    C: EHLO relay.site.example
    S: 250-smarthost
    S: 250 AUTH PLAIN XOAUTH2 OAUTHBEARER
    ";

fn play(script: &str) {
    for piece in [1, 7, usize::MAX] {
        let mut rig = Rig::secure(piece, KEYS);
        rig.message(&envelope(), &["a@x.example"], b"Subject: door\r\n\r\nopen\r\n");
        rig.play(&format!("{HELLO}{script}"));
    }
}

fn xoauth2(token: &str) -> String {
    let response = format!("user=me\x01auth=Bearer {token}\x01\x01");
    let mut encoded = vec![0; response.len().div_ceil(3) * 4];
    let encoded = Base64::encode(response.as_bytes(), &mut encoded).expect("the room was computed");
    format!("AUTH XOAUTH2 {encoded}")
}

/// AUTH-c-a, AUTH-c-d: of what is offered only what takes a token; a kept one that is refused makes way for a
/// new one on the same connection.
#[test]
fn a_kept_token_that_is_refused_makes_way_for_a_new_one() {
    let (stale, fresh) = (xoauth2("stale"), xoauth2("fresh"));
    for refusal in ["S: 535 over", "S: 334 eyJzdGF0dXMiOiI0MDAifQ==\nC: \nS: 535 over"] {
        play(&format!(
            "kept secret stale\nC: {stale}\n{refusal}\nsecret fresh\nC: {fresh}\nS: 235 ok\nready"
        ));
    }
}

/// AUTH-c-h: a fresh token that is refused, or the second in a row, is a fault of the login; 4yz asks for no
/// other token.
#[test]
fn a_second_refusal_is_the_login_s() {
    let (stale, fresh) = (xoauth2("stale"), xoauth2("fresh"));
    play(&format!("secret fresh\nC: {fresh}\nS: 535 no\nC: QUIT\nfault Login(Refused)"));
    play(&format!(
        "kept secret stale\nC: {stale}\nS: 535 no\nsecret fresh\nC: {fresh}\nS: 535 no\nC: QUIT\nfault Login(Refused)"
    ));
    play(&format!("kept secret stale\nC: {stale}\nS: 454 later\nC: QUIT\nfault Login(Unavailable)"));
    play(&format!("kept secret stale\nC: {stale}\nS: 535 no\nS: 421 bye\nC: QUIT\nfault TooBusy"));
    play(&format!("kept secret stale\nC: {stale}\nS: 535 no\nlost\nfault Lost"));
}

/// What was said of a token that was not given is kept like a reply, and is of the route, not of a message.
#[test]
fn without_a_token_the_login_says_why() {
    play("no token silent\nC: QUIT\nfault Login(Token(Timeout))\nresult none");
    let mut rig = Rig::secure(usize::MAX, KEYS);
    rig.play(&format!("{HELLO}no token refused\nC: QUIT\nfault Login(Token(Denied(Grant)))\nresult none"));
    let reply = rig.session.fault_reply().expect("what was said");
    assert_eq!((reply.code, &reply.text[..]), (400, &b"invalid_grant: it is over"[..]));
    let fault = rig.session.fault().expect("a fault");
    assert!(fault.is_about_login());
    assert!(fault.to_string().contains("put one into refresh_token_file"), "{fault}");
    let mut rig = Rig::secure(usize::MAX, KEYS);
    rig.play(&format!("{HELLO}no token silent\nC: QUIT"));
    assert!(rig.session.fault_reply().is_none());
    assert!(!rig.session.fault().expect("a fault").is_about_login());
}

/// A token that doesn't come in time is given up before the smarthost's patience is.
#[test]
fn the_wait_for_a_token_ends() {
    play("wait 59\nwait 1\nC: QUIT\nfault Timeout");
}
