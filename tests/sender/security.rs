//! STARTTLS, implicit TLS and AUTH, and how each goes wrong; TLS itself is what the driver says it is.
use base64ct::{Base64, Encoding as _};
use postern::sender::SECRET_OCTETS_MAX;

use crate::rig::{Rig, envelope};

const STARTTLS: &str = "";
const LOGIN: &str = "user = \"me\"\npassword_file = \"/etc/secret\"";
const TOKEN: &str = "user = \"me\"\ntoken_file = \"/etc/token\"";
const HELLO: &str = "S: 220 smarthost
    C: EHLO relay.site.example
    S: 250-smarthost
    S: 250-AUTH PLAIN LOGIN
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go
    tls
    C: EHLO relay.site.example
    S: 250-smarthost
    ";

/// Plays `script` in pieces of 1, 7 and any number of octets.
fn play(keys: &str, script: &str) {
    for piece in [1, 7, usize::MAX] {
        let mut rig = Rig::secure(piece, keys);
        rig.message(&envelope(), &["a@x.example"], b"Subject: door\r\n\r\nopen\r\n");
        rig.play(script);
    }
}

fn base64(octets: &[u8]) -> String {
    let mut encoded = vec![0; octets.len().div_ceil(3) * 4];
    Base64::encode(octets, &mut encoded).expect("the room was computed").to_owned()
}

/// TLS-c-a, SEC-tls-b: nothing but EHLO and QUIT goes where STARTTLS is not offered, discarded, or behind
/// HELO; nothing but STARTTLS besides where it is refused.
#[test]
fn without_tls_nothing_goes() {
    for hello in ["S: 250-smarthost\nS: 250 AUTH PLAIN", "S: 250 smarthost"] {
        for keys in [STARTTLS, LOGIN] {
            play(
                keys,
                &format!(
                    "S: 220 smarthost\nC: EHLO relay.site.example\n{hello}\nC: QUIT\nfault Tls(NotOffered)"
                ),
            );
        }
    }
    play(
        STARTTLS,
        "S: 220 smarthost
        C: EHLO relay.site.example
        S: 502 what?
        C: HELO relay.site.example
        S: 250 smarthost
        C: QUIT
        fault Tls(NotOffered)",
    );
    for reply in ["454 not now", "501 what?", "502 what?", "354 go on"] {
        play(
            LOGIN,
            &format!(
                "S: 220 smarthost
                C: EHLO relay.site.example
                S: 250-a
                S: 250 STARTTLS
                C: STARTTLS
                S: {reply}
                C: QUIT
                fault Tls(Refused)"
            ),
        );
    }
    play(
        "discard = [\"starttls\"]",
        "S: 220 smarthost\nC: EHLO relay.site.example\nS: 250-a\nS: 250 STARTTLS\nC: QUIT\nfault Tls(NotOffered)",
    );
}

/// TLS-c-b, C-4.1.4-a: EHLO again inside TLS; what was offered before is not used.
#[test]
fn what_was_learned_before_tls_is_forgotten() {
    play(
        STARTTLS,
        "S: 220 smarthost
        C: EHLO relay.site.example
        S: 250-smarthost
        S: 250-PIPELINING
        S: 250-SIZE 10
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        tls
        C: EHLO relay.site.example
        S: 250-smarthost
        S: 250 STARTTLS
        ready
        begin 0
        C: MAIL FROM:<camera@site.example>
        S: 250 ok
        C: RCPT TO:<a@x.example>
        S: 250 ok
        C: DATA
        S: 451 later
        result tried w later 451 later",
    );
}

/// TLS-c-d, SEC-tls-e: what comes behind the 220 in plain is fatal, and nothing is written any more.
#[test]
fn octets_behind_the_reply_to_starttls_are_fatal() {
    for injected in ["250-smarthost\\r\\n250 AUTH PLAIN\\r\\n", "2", "\\r\\n", "\u{16}"] {
        // In pieces they come behind the reply that asks for TLS, and are not read at all: that is the
        // driver's part.
        let mut rig = Rig::secure(usize::MAX, LOGIN);
        rig.play(&format!(
            "S: 220 smarthost\nC: EHLO relay.site.example\nS: 250-a\nS: 250 STARTTLS\nC: STARTTLS\nS~ 220 go\\r\\n{injected}
            fault Tls(Injected)"
        ));
        assert!(!rig.session.wants_tls());
    }
    // Replies before the commands.
    let mut rig = Rig::secure(usize::MAX, LOGIN);
    rig.play(
        "S: 220 smarthost
        C: EHLO relay.site.example
        S~ 250-a\\r\\n250 STARTTLS\\r\\n220 go\\r\\n
        C: QUIT
        fault Protocol",
    );
}

/// SEC-tls-c: a failed handshake ends the connection without another octet; so does silence, and its end.
#[test]
fn a_failed_handshake_is_followed_by_nothing() {
    let asked =
        "S: 220 smarthost\nC: EHLO relay.site.example\nS: 250-a\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n";
    for keys in [STARTTLS, LOGIN] {
        play(keys, &format!("{asked}no tls handshake\nfault Tls(Handshake)"));
        play(keys, &format!("{asked}no tls expired\nfault Tls(Expired)"));
        play(keys, &format!("{asked}wait 60\nfault Timeout"));
        play(keys, &format!("{asked}lost\nfault Tls(Handshake)"));
        let implicit = format!("{keys}\nport = 465");
        play(&implicit, "no tls handshake\nfault Tls(Handshake)");
        play(&implicit, "wait 60\nfault Timeout");
        play(&implicit, "lost\nfault Tls(Handshake)");
    }
}

/// TLS-8314-a: TLS before the greeting, and no STARTTLS in it.
#[test]
fn implicit_tls_comes_before_the_greeting() {
    play(
        "port = 465",
        "tls
        S: 220 smarthost
        C: EHLO relay.site.example
        S: 250-a
                S: 250 STARTTLS
        ready",
    );
    let rig = Rig::secure(1, "port = 465");
    assert!(rig.session.wants_tls() && !rig.session.is_ready() && rig.written.is_empty());
}

/// AUTH-c-a, AUTH-c-b, AUTH-c-e: PLAIN in one line, by what the EHLO inside TLS offered, once a session.
#[test]
fn plain_has_its_response_in_the_command() {
    let response = base64(b"\0me\0hunter2");
    for offer in ["AUTH CRAM-MD5 PLAIN LOGIN", "auth plain", "AUTH=PLAIN", "AUTH= LOGIN PLAIN"] {
        play(
            LOGIN,
            &format!(
                "{HELLO}S: 250 {offer}
                secret hunter2
                C: AUTH PLAIN {response}
                S: 235 welcome
                ready
                begin 0
                C: MAIL FROM:<camera@site.example>
                S: 250 ok
                C: RCPT TO:<a@x.example>
                S: 250 ok
                C: DATA
                S: 451 later
                result tried w later 451 later"
            ),
        );
    }
    let told = format!("{LOGIN}\nauth = \"login\"");
    play(
        &told,
        &format!("{HELLO}S: 250 AUTH PLAIN LOGIN\nsecret hunter2\nC: AUTH LOGIN\nS: 500 what?\nC: QUIT"),
    );
}

/// AUTH-c-a, AUTH-c-j: what is not offered inside TLS is not used, though it was before.
#[test]
fn without_an_offer_there_is_no_login() {
    for (keys, offer) in [
        (LOGIN, "8BITMIME"),
        (LOGIN, "AUTH"),
        (LOGIN, "AUTH CRAM-MD5 XOAUTH2 PLAIN-CLIENTTOKEN"),
        (TOKEN, "AUTH PLAIN LOGIN"),
    ] {
        play(keys, &format!("{HELLO}S: 250 {offer}\nC: QUIT\nfault Login(NoMechanism)"));
    }
    let told = format!("{LOGIN}\nauth = \"login\"");
    play(&told, &format!("{HELLO}S: 250 AUTH PLAIN\nC: QUIT\nfault Login(NoMechanism)"));
    let discarded = format!("{LOGIN}\ndiscard = [\"auth\"]");
    play(
        &discarded,
        &format!("{HELLO}S: 250-AUTH=PLAIN\nS: 250 AUTH PLAIN\nC: QUIT\nfault Login(NoMechanism)"),
    );
}

/// AUTH-c-c: user, then password, whatever the prompts say.
#[test]
fn login_answers_any_prompt() {
    for prompt in ["334 VXNlcm5hbWU6", "334", "334 no base64 at all!", "334-two\nS: 334 lines"] {
        play(
            LOGIN,
            &format!(
                "{HELLO}S: 250 AUTH LOGIN
                secret hunter2
                C: AUTH LOGIN
                S: {prompt}
                C: {}
                S: {prompt}
                C: {}
                S: 235 welcome
                ready",
                base64(b"me"),
                base64(b"hunter2")
            ),
        );
    }
}

/// AUTH-c-d: the tokens' forms, and the empty answer to their error.
#[test]
fn a_token_s_error_is_acknowledged() {
    let xoauth2 = base64(b"user=me\x01auth=Bearer t0ken\x01\x01");
    let bearer = base64(b"n,a=me,\x01host=smtp.site.example\x01port=587\x01auth=Bearer t0ken\x01\x01");
    for (offer, command, acknowledgement) in [
        ("XOAUTH2 OAUTHBEARER", format!("XOAUTH2 {xoauth2}"), String::new()),
        ("OAUTHBEARER PLAIN", format!("OAUTHBEARER {bearer}"), base64(b"\x01")),
    ] {
        let start = format!("{HELLO}S: 250 AUTH {offer}\nsecret t0ken\nC: AUTH {command}\n");
        play(TOKEN, &format!("{start}S: 235 welcome\nready"));
        play(
            TOKEN,
            &format!(
                "{start}S: 334 eyJzdGF0dXMiOiI0MDAifQ==\nC: {acknowledgement}\nS: 535 wrong\nC: QUIT
                fault Login(Refused)"
            ),
        );
    }
    let named = TOKEN.replace("me", "a=b,c");
    let bearer = base64(b"n,a=a=3Db=2Cc,\x01host=smtp.site.example\x01port=587\x01auth=Bearer t\x01\x01");
    play(
        &named,
        &format!("{HELLO}S: 250 AUTH OAUTHBEARER\nsecret t\nC: AUTH OAUTHBEARER {bearer}\nS: 235 ok"),
    );
}

/// AUTH-c-f: what is too long for a command follows on 334, up to the longest secret.
#[test]
fn a_long_response_comes_behind_334() {
    for octets in [380, 400, 3000, SECRET_OCTETS_MAX] {
        let secret = "x".repeat(octets);
        let response = base64(format!("\0me\0{secret}").as_bytes());
        let is_short = "AUTH PLAIN \r\n".len() + response.len() <= 512;
        assert_eq!(is_short, octets < 370);
        assert!(response.len() + 2 <= 12288);
        let lines = if is_short {
            format!("C: AUTH PLAIN {response}")
        } else {
            format!("C: AUTH PLAIN\nS: 334 \nC: {response}")
        };
        play(LOGIN, &format!("{HELLO}S: 250 AUTH PLAIN\nsecret {secret}\n{lines}\nS: 235 ok\nready"));
    }
    let secret = "x".repeat(366);
    let response = base64(format!("\0me\0{secret}").as_bytes());
    assert_eq!("AUTH PLAIN \r\n".len() + response.len(), 509);
    play(
        LOGIN,
        &format!("{HELLO}S: 250 AUTH PLAIN\nsecret {secret}\nC: AUTH PLAIN {response}\nS: 235 ok\nready"),
    );
}

/// AUTH-c-g: who asks on and on gets `*`, and whatever comes then is the end.
#[test]
fn an_endless_exchange_is_cancelled() {
    let plain = base64(b"\0me\0hunter2");
    for answer in ["501 cancelled", "334 ", "235 welcome", "535 wrong"] {
        play(
            LOGIN,
            &format!(
                "{HELLO}S: 250 AUTH PLAIN
                secret hunter2
                C: AUTH PLAIN {plain}
                S: 334 more
                C: *
                S: {answer}
                C: QUIT
                fault Login(Refused)"
            ),
        );
    }
    play(
        LOGIN,
        &format!(
            "{HELLO}S: 250 AUTH LOGIN
            secret hunter2
            C: AUTH LOGIN
            S: 334 a
            C: {}
            S: 334 b
            C: {}
            S: 334 c
            C: *
            S: 501 cancelled
            C: QUIT
            fault Login(Refused)",
            base64(b"me"),
            base64(b"hunter2")
        ),
    );
    play(TOKEN, &format!(
        "{HELLO}S: 250 AUTH XOAUTH2\nsecret t\nC: AUTH XOAUTH2 {}\nS: 334 a\nC: \nS: 334 b\nC: *\nS: 501 ok\nC: QUIT
        fault Login(Refused)", base64(b"user=me\x01auth=Bearer t\x01\x01")));
}

/// AUTH-c-h, AUTH-c-i: 5yz is a refusal, 4yz is for now, 421 as everywhere; silence, a reply before the line,
/// and the end. No message has been begun, so none is charged.
#[test]
fn each_reply_to_the_login_is_a_fault_of_the_route() {
    let plain = base64(b"\0me\0hunter2");
    let start = format!("{HELLO}S: 250 AUTH PLAIN\nsecret hunter2\nC: AUTH PLAIN {plain}\n");
    for (reply, fault) in [
        ("535 5.7.8 wrong", "Login(Refused)"),
        ("534 5.7.9 too weak", "Login(Refused)"),
        ("530 5.7.0 no", "Login(Refused)"),
        ("538 5.7.11 no", "Login(Refused)"),
        ("504 5.5.4 what?", "Login(Refused)"),
        ("454 4.7.0 later", "Login(Unavailable)"),
        ("432 4.7.12 change your password", "Login(Unavailable)"),
        ("421 4.7.0 too many logins", "Login(TooMany)"),
        ("421 4.3.0 closing", "TooBusy"),
        ("454 4.7.0 Too many login attempts", "Login(TooMany)"),
        ("451 Authentication failed: Maximum credits exceeded", "Quota"),
    ] {
        play(LOGIN, &format!("{start}S: {reply}\nC: QUIT\nfault {fault}\nresult none"));
    }
    // QUIT waits for a reply, of which this is none (C-4.3.1-b).
    play(LOGIN, &format!("{start}S: 999 what?\nfault Protocol\nresult none"));
    play(LOGIN, &format!("{start}wait 300\nfault Timeout"));
    play(LOGIN, &format!("{start}lost\nfault Lost"));
    play(LOGIN, &format!("{HELLO}S: 250 AUTH PLAIN\nno secret\nC: QUIT\nfault Login(Secret(Missing))"));
    play(LOGIN, &format!("{HELLO}S: 250 AUTH PLAIN\nS: 235 welcome\nC: QUIT\nfault Protocol"));
}

/// AUTH-c-h: a smarthost that wants a login at MAIL has refused the route, not the message.
#[test]
fn a_login_that_is_wanted_later_is_no_fault_of_the_message() {
    play(
        STARTTLS,
        &format!(
            "{HELLO}S: 250 8BITMIME
            begin 0
            C: MAIL FROM:<camera@site.example>
            S: 530 5.7.0 login first
            C: QUIT
            fault Unauthenticated
            result held Unauthenticated w later 530 5.7.0 login first"
        ),
    );
}

/// AUTH-c-j, SEC-tls-d: over plain TCP only where the configuration says so by name.
#[test]
fn a_login_in_plain_is_allowed_by_name() {
    let keys = format!("{LOGIN}\ntls = \"none\"\nallow_plaintext_auth = true");
    let plain = base64(b"\0me\0hunter2");
    play(
        &keys,
        &format!(
            "S: 220 smarthost
            C: EHLO relay.site.example
            S: 250-a
                S: 250 AUTH PLAIN
            secret hunter2
            C: AUTH PLAIN {plain}
            S: 235 welcome
            ready"
        ),
    );
}

/// SEC-cred-a: nothing that can be printed has the secret in it, and no memory of ours keeps it behind the
/// login.
#[test]
fn the_secret_is_shown_and_kept_nowhere() {
    let plain = base64(b"\0me\0hunter2");
    let holds =
        |memory: &[u8], text: &str| memory.windows(text.len()).any(|octets| octets == text.as_bytes());
    for reply in ["235 welcome", "535 wrong"] {
        let mut rig = Rig::secure(usize::MAX, LOGIN);
        rig.play(&format!("{HELLO}S: 250 AUTH PLAIN\nsecret hunter2\nC: AUTH PLAIN {plain}"));
        assert!(holds(rig.output_memory(), &plain), "the memory is the one looked at");
        let shown = format!("{:?}", rig.session);
        assert!(shown.contains("Exchange") && !shown.contains("hunter2") && !shown.contains(&plain));
        let octets: Vec<String> = plain.bytes().map(|octet| octet.to_string()).collect();
        assert!(!shown.contains(&octets.join(", ")));
        rig.say(format!("{reply}\r\n").as_bytes());
        if rig.is_closing {
            rig.session.lost();
            rig.connect();
        }
        rig.turn();
        assert!(!holds(rig.output_memory(), &plain), "{reply}");
    }
}
