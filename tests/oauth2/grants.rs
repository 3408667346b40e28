//! What a token endpoint says, and what is made of it.
use postern::oauth2::{Denial, Grant};

fn granted(body: &str) -> Grant {
    Grant::judge(200, body.as_bytes(), &[]).expect(body)
}

fn denied(status: u16, body: &str) -> (Denial, String) {
    let (denial, text) = Grant::judge(status, body.as_bytes(), &[b"hunter2"]).expect_err(body);
    (denial, String::from_utf8(text.to_vec()).expect("UTF-8 in, UTF-8 out"))
}

#[test]
fn tokens_come_with_what_is_said_of_them() {
    let grant = granted(
        r#"{"token_type":"Bearer","scope":"x","expires_in":3599,"ext_expires_in":1,
            "access_token":"ey\u004a.a-b_c~+/=","id_token":[{"access_token":"other"}]}"#,
    );
    assert_eq!(*grant.access_token, b"eyJ.a-b_c~+/=");
    assert_eq!(grant.lifetime_s, Some(3599));
    assert!(grant.refresh_token.is_none());
    let shown = format!("{grant:?}");
    assert!(!shown.contains("eyJ"), "{shown}");
    let grant =
        granted(r#"{"access_token":"a","token_type":"bearer","expires_in":"60","refresh_token":"1//b c"}"#);
    assert_eq!(grant.lifetime_s, Some(60));
    assert_eq!(grant.refresh_token.as_deref().map(Vec::as_slice), Some(&b"1//b c"[..]));
    for lifetime in ["-1", "1.5", "1e9", "null", "\"soon\"", "99999999999999999999999"] {
        let body = format!(r#"{{"access_token":"a","token_type":"bearer","expires_in":{lifetime}}}"#);
        assert_eq!(granted(&body).lifetime_s, None, "{body}");
    }
}

/// AUTH-c-j: nothing that could break out of the login's line is taken for a token.
#[test]
fn what_is_no_bearer_token_is_none() {
    for body in [
        "",
        "{}",
        "<html>",
        r#"{"access_token":"a"}"#,
        r#"{"access_token":"a","token_type":"mac"}"#,
        r#"{"access_token":"","token_type":"bearer"}"#,
        r#"{"access_token":5,"token_type":"bearer"}"#,
        r#"{"access_token":"a b","token_type":"bearer"}"#,
        r#"{"access_token":"a\u0001auth=b","token_type":"bearer"}"#,
        r#"{"access_token":"a\r\nRSET","token_type":"bearer"}"#,
        r#"{"access_token":"ä","token_type":"bearer"}"#,
        r#"{"access_token":"a","access_token":"b","token_type":"bearer"}"#,
        r#"{"access_token":"a","token_type":"bearer","refresh_token":"b\nc"}"#,
        r#"{"access_token":"a","token_type":"bearer","refresh_token":""}"#,
        r#"{"access_token":"a","token_type":"bearer"} x"#,
    ] {
        assert_eq!(denied(200, body), (Denial::Malformed, String::new()), "{body}");
    }
    let sound = r#"{"access_token":"a","token_type":"bearer"}"#;
    assert_eq!(denied(302, sound).0, Denial::Malformed);
    assert_eq!(denied(500, sound).0, Denial::Unavailable);
}

/// RFC 6749 5.2: which errors are for somebody to put right, and which are for now.
#[test]
fn errors_say_who_is_to_do_something() {
    for (status, error, denial) in [
        (400, "invalid_grant", Denial::Grant),
        (401, "invalid_client", Denial::Client),
        (400, "unauthorized_client", Denial::Client),
        (400, "invalid_scope", Denial::Scope),
        (400, "invalid_request", Denial::Request),
        (400, "unsupported_grant_type", Denial::Request),
        (400, "interaction_required", Denial::Request),
        (200, "invalid_grant", Denial::Grant),
        (400, "temporarily_unavailable", Denial::Unavailable),
        (400, "server_error", Denial::Unavailable),
        (429, "invalid_grant", Denial::Unavailable),
        (503, "invalid_grant", Denial::Unavailable),
    ] {
        let body = format!(r#"{{"error":"{error}"}}"#);
        assert_eq!(denied(status, &body), (denial, error.to_owned()), "{status}");
        assert_eq!(denial.is_lasting(), denial != Denial::Unavailable);
    }
    assert_eq!(denied(404, "<html>not found</html>").0, Denial::Malformed);
    assert_eq!(denied(403, r#"{"error":{"code":403}}"#).0, Denial::Malformed);
    assert_eq!(denied(429, "").0, Denial::Unavailable);
    assert_eq!(denied(502, "<html>").0, Denial::Unavailable);
    assert!(!Denial::Malformed.is_lasting());
}

/// SEC-cred-a: what is said of an error is one harmless line, and none that has a secret in it.
#[test]
fn descriptions_are_cleaned_cut_and_free_of_secrets() {
    let body =
        r#"{"error":"invalid_grant","error_description":"AADSTS700082: expired.\r\nTrace: \u001b[1m"}"#;
    assert_eq!(
        denied(400, body),
        (Denial::Grant, "invalid_grant: AADSTS700082: expired.  Trace:  [1m".to_owned())
    );
    let long = format!(r#"{{"error":"invalid_grant","error_description":"{}"}}"#, "x".repeat(2000));
    assert_eq!(denied(400, &long).1.len(), 250);
    let telltale = r#"{"error":"invalid_grant","error_description":"no such token: hunter2!"}"#;
    assert_eq!(denied(400, telltale), (Denial::Grant, String::new()));
}
