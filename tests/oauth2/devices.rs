//! The device code's responses, as Microsoft, Google and the standard write them, and what is none.
use postern::oauth2::{Denial, DeviceCode, Poll};

fn code(body: &str) -> DeviceCode {
    DeviceCode::judge(200, body.as_bytes(), &[]).expect(body)
}

#[test]
fn codes_are_read_as_providers_write_them() {
    let standard = code(
        r#"{"device_code":"GmRh","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device",
            "verification_uri_complete":"https://example.com/device?user_code=WDJB-MJHT","expires_in":1800,
            "interval":5}"#,
    );
    assert_eq!(
        (&*standard.user_code, &*standard.verification_uri),
        ("WDJB-MJHT", "https://example.com/device")
    );
    assert_eq!((standard.lifetime_s, standard.interval_s), (1800, 5));
    assert_eq!(*standard.device_code.0, b"GmRh");
    assert!(!format!("{standard:?}").contains("GmRh"));
    let google = code(
        r#"{"device_code":"4/4-G","expires_in":1800,"interval":5,"user_code":"GQVQ-JKEC",
            "verification_url":"https://www.google.com/device"}"#,
    );
    assert_eq!(google.verification_uri, "https://www.google.com/device");
    let least = code(r#"{"device_code":"a","user_code":"b","verification_uri":"c","expires_in":"900"}"#);
    assert_eq!((least.lifetime_s, least.interval_s), (900, 5));
}

/// Neither a busy loop nor a wait without end comes from what an endpoint says, nor an octet that does
/// something on a terminal.
#[test]
fn what_is_said_has_bounds() {
    let body =
        |more: &str| format!(r#"{{"device_code":"a","user_code":"b","verification_uri":"https://c"{more}}}"#);
    let bounded = code(&body(r#","expires_in":999999999,"interval":0"#));
    assert_eq!((bounded.lifetime_s, bounded.interval_s), (3600, 1));
    assert_eq!(code(&body(r#","interval":100000"#)).interval_s, 60);
    for body in [
        "".to_owned(),
        "{}".to_owned(),
        body("").replace("https://c", "\\u001b[2J"),
        body("").replace("https://c", ""),
        body("").replace("https://c", &"x".repeat(513)),
        body("").replace("\"b\"", "\"b\\r\\nc\""),
        body("").replace("\"b\"", "5"),
        body("").replace("\"a\"", "\"\""),
    ] {
        let (denial, _) = DeviceCode::judge(200, body.as_bytes(), &[]).expect_err(&body);
        assert_eq!(denial, Denial::Malformed, "{body}");
    }
    assert_eq!(DeviceCode::judge(503, b"", &[]).expect_err("none").0, Denial::Unavailable);
    let refused = br#"{"error":"invalid_scope","error_description":"Invalid device flow scope: x"}"#;
    let (denial, description) = DeviceCode::judge(400, refused, &[]).expect_err("none");
    assert_eq!(
        (denial, &description[..]),
        (Denial::Scope, &b"invalid_scope: Invalid device flow scope: x"[..])
    );
}

#[test]
fn polls_wait_slow_down_and_end() {
    let poll = |status, error: &str| {
        let body = format!(r#"{{"error":"{error}","error_description":"said"}}"#);
        Poll::judge(status, body.as_bytes(), &[])
    };
    assert!(matches!(poll(400, "authorization_pending"), Poll::Pending));
    assert!(matches!(poll(428, "authorization_pending"), Poll::Pending));
    assert!(matches!(poll(400, "slow_down"), Poll::SlowDown));
    assert!(matches!(poll(403, "access_denied"), Poll::Declined));
    assert!(matches!(poll(400, "authorization_declined"), Poll::Declined));
    assert!(matches!(poll(400, "expired_token"), Poll::Expired));
    assert!(matches!(poll(400, "invalid_grant"), Poll::Failed(Denial::Grant, _)));
    assert!(matches!(poll(401, "invalid_client"), Poll::Failed(Denial::Client, _)));
    assert!(matches!(poll(500, "server_error"), Poll::Failed(Denial::Unavailable, _)));
    let body = br#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#;
    let Poll::Granted(grant) = Poll::judge(200, body, &[]) else { panic!("it is granted") };
    assert_eq!(grant.refresh_token.as_deref().map(Vec::as_slice), Some(&b"r"[..]));
    let cut = br#"{"error":"authorization_pending""#;
    assert!(matches!(Poll::judge(400, cut, &[]), Poll::Failed(Denial::Malformed, _)));
}
