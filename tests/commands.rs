//! Commands and their parameters: what is taken, by which habit, and what each mistake is answered.

use postern::smtp::command::{self, AuthTerms, Body, Command, Mail, Service, Terms};
use postern::smtp::dsn::{ENVID_OCTETS_MAX, Notify, ORCPT_OCTETS_MAX};
use postern::smtp::login::Mechanism;
use postern::smtp::quirk::{Quirk, Quirks};
use postern::smtp::reply::{self, Reply};

const TERMS: Terms = Terms {
    service: Service::Extended,
    has_starttls: false,
    auth: AuthTerms::Offered,
    tolerated: Quirks::ALL,
};

fn parse(line: &[u8]) -> Result<Command, &'static Reply> {
    command::parse(line, &TERMS, &mut Quirks::default())
}

fn code(line: &[u8]) -> u16 {
    parse(line).map_or_else(Reply::code, |_| 250)
}

/// The code where nothing is tolerated, and what is met where it is.
fn met(line: &[u8]) -> (u16, Vec<Quirk>) {
    let strict = Terms { tolerated: Quirks::NONE, ..TERMS };
    let mut met = Quirks::default();
    command::parse(line, &TERMS, &mut met).expect("it is tolerated");
    let refused = command::parse(line, &strict, &mut Quirks::default()).expect_err("it is not");
    (refused.code(), met.iter().collect())
}

fn mail(line: &str) -> Result<(Option<u64>, Option<Body>), u16> {
    match parse(line.as_bytes()) {
        Ok(Command::Mail(mail)) => Ok((mail.size, mail.body)),
        Ok(other) => panic!("{other:?}"),
        Err(reply) => Err(reply.code()),
    }
}

#[test]
fn verbs() {
    for line in
        ["ehlo x", "HeLo [1.2.3.4]", "data \t", "RSET ", "noop hello there", "HELP x", "vrfy a", "quit"]
    {
        assert_eq!(code(line.as_bytes()), 250, "{line}");
    }
    for line in [
        "EHLO",
        "RSET x",
        "DATA x",
        "QUIT x",
        "VRFY",
        "MAIL",
        "RCPT",
        "MAIL TO:<a@b>",
        "RCPT a@b",
        "BDAT",
        "BDAT x",
        "BDAT -1",
        "AUTH",
    ] {
        assert_eq!(code(line.as_bytes()), 501, "{line}");
    }
    for line in ["", "FOOBAR", "XFOO", "NOOP;", " NOOP", "NOOPx", "GET"] {
        assert_eq!(code(line.as_bytes()), 500, "{line}");
    }
    for line in ["EXPN x", "send", "SAML", "SOML", "TURN", "ETRN x", "STARTTLS"] {
        assert_eq!(code(line.as_bytes()), 502, "{line}");
    }
    assert_eq!(parse(b"GET / HTTP/1.1"), Ok(Command::Http));
    let without_auth = Terms { auth: AuthTerms::Absent, ..TERMS };
    assert_eq!(
        command::parse(b"AUTH PLAIN", &without_auth, &mut Quirks::default()),
        Err(reply::C502_NOT_IMPLEMENTED)
    );
    for line in [
        &b"NOOP \0"[..],
        b"NOOP \xe9",
        b"NOOP \r",
        b"NOOP \rx",
        b"DATA \x0c",
        b"MAIL FROM:<a\x1b@b>",
        b"RCPT TO:<\xe9@b>",
        b"MAIL FROM:<\xc3\xa9@b>",
    ] {
        assert_eq!(code(line), 501, "{}", line.escape_ascii());
    }
}

/// DSN-a, DSN-b, DSN-e.
#[test]
fn notification_parameters() {
    let dsn = |line: &str| match parse(line.as_bytes()) {
        Ok(Command::Mail(mail)) => Ok((mail.ret, mail.envid.map(|envid| envid.to_vec()), None)),
        Ok(Command::Rcpt(rcpt)) => Ok((None, rcpt.orcpt.map(|orcpt| orcpt.to_vec()), rcpt.notify)),
        Ok(other) => panic!("{other:?}"),
        Err(reply) => Err(reply.code()),
    };
    let mail = |parameters: &str| dsn(&format!("MAIL FROM:<a@b> {parameters}"));
    let rcpt = |parameters: &str| dsn(&format!("RCPT TO:<a@b> {parameters}"));
    assert_eq!(mail("ret=hdrs ENVID=QQ+2B1"), Ok((Some(1), Some(b"QQ+2B1".to_vec()), None)));
    let notify = Notify::parse(b"SUCCESS,DELAY");
    assert_eq!(
        rcpt("NOTIFY=DELAY,SUCCESS orcpt=rfc822;A@b"),
        Ok((None, Some(b"rfc822;A@b".to_vec()), notify))
    );
    let envid = "x".repeat(ENVID_OCTETS_MAX);
    assert_eq!(mail(&format!("ENVID={envid}")), Ok((None, Some(envid.clone().into_bytes()), None)));
    let orcpt = format!("rfc822;{}", "x".repeat(ORCPT_OCTETS_MAX - 7));
    assert!(rcpt(&format!("ORCPT={orcpt}")).is_ok());
    for bad in ["RET=ALL", "RET", "RET=FULL RET=FULL", "ENVID=", "ENVID=+0A", "ENVID=a ENVID=a"] {
        assert_eq!(mail(bad), Err(501), "{bad}");
    }
    for bad in ["NOTIFY=NEVER,DELAY", "NOTIFY", "NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=a@b", "ORCPT=x;+0a"] {
        assert_eq!(rcpt(bad), Err(501), "{bad}");
    }
    assert_eq!(mail(&format!("ENVID={envid}x")), Err(501));
    assert_eq!(rcpt(&format!("ORCPT={orcpt}x")), Err(501));
    assert_eq!(mail("NOTIFY=NEVER"), Err(555));
    assert_eq!(rcpt("RET=FULL"), Err(555));
    let basic = Terms { service: Service::Basic, ..TERMS };
    let refused = command::parse(b"RCPT TO:<a@b> NOTIFY=NEVER", &basic, &mut Quirks::default());
    assert_eq!(refused, Err(reply::C555_PARAMETER));
}

#[test]
fn mail_parameters() {
    assert_eq!(mail("mAiL fRoM:<a@b>"), Ok((None, None)));
    assert_eq!(mail("MAIL FROM: <> size=10  BODY=8bitmime"), Ok((Some(10), Some(Body::EightBitMime))));
    assert_eq!(mail("MAIL FROM:<a@b> SIZE=99999999999999999999"), Ok((Some(u64::MAX), None)));
    assert_eq!(mail("MAIL FROM:<a@b> BODY=7BIT"), Ok((None, Some(Body::SevenBit))));
    for bad in [
        "SIZE=abc",
        "SIZE=",
        "SIZE",
        "SIZE=1 SIZE=2",
        "=x",
        "BODY=",
        "BODY=x",
        "BODY=7BIT BODY=7BIT",
        "a=b=c",
    ] {
        assert_eq!(mail(&format!("MAIL FROM:<a@b> {bad}")), Err(501), "{bad}");
    }
    assert_eq!(mail("MAIL FROM:<a@b> SIZE=000000000000000000001"), Err(501));
    assert_eq!(mail("MAIL FROM:<a@b> FOO=BAR"), Err(555));
    assert_eq!(mail("MAIL FROM:<a@b>SIZE=1"), Err(501));
    assert_eq!(code(b"RCPT TO:<a@b> FOO"), 555);
    assert_eq!(code(b"RCPT TO:<a@b> =x"), 501);
    let basic = Terms { service: Service::Basic, ..TERMS };
    assert_eq!(
        command::parse(b"MAIL FROM:<a@b> SIZE=1", &basic, &mut Quirks::default()),
        Err(reply::C555_PARAMETER)
    );
}

#[test]
fn utf8() {
    assert!(matches!(
        parse("MAIL FROM:<é@b> SMTPUTF8".as_bytes()),
        Ok(Command::Mail(Mail { utf8: true, .. }))
    ));
    assert_eq!(code("MAIL FROM:<é@b>".as_bytes()), 501);
    assert_eq!(code("MAIL FROM:<é@b> SMTPUTF8=1".as_bytes()), 501);
    assert_eq!(code(b"MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8"), 501);
    assert_eq!(code(b"MAIL FROM:<\xe9@b> SMTPUTF8"), 501);
    assert_eq!(code("VRFY é SMTPUTF8".as_bytes()), 250);
    assert_eq!(code(b"VRFY \xe9"), 501);
}

#[test]
fn chunks() {
    let bdat = |line: &[u8]| match parse(line) {
        Ok(Command::Bdat(bdat)) => (bdat.octets, bdat.is_last, bdat.is_legal),
        other => panic!("{other:?}"),
    };
    assert_eq!(bdat(b"BDAT 0"), (0, false, true));
    assert_eq!(bdat(b"bdat 86 last"), (86, true, true));
    assert_eq!(bdat(b"BDAT 99999999999999999999"), (u64::MAX, false, true));
    assert_eq!(bdat(b"BDAT 5 FIRST"), (5, false, false));
    assert_eq!(bdat(b"BDAT 5 LAST x"), (5, true, false));
}

#[test]
fn quirks() {
    assert_eq!(met(b"MAIL FROM: <a@b>"), (501, vec![Quirk::SpaceAfterColon]));
    assert_eq!(met(b"MAIL FROM:a@b SIZE=3"), (501, vec![Quirk::MissingBrackets]));
    assert_eq!(met(b"RCPT TO: a@b"), (501, vec![Quirk::MissingBrackets, Quirk::SpaceAfterColon]));
    assert_eq!(met(b"HELO a (b)"), (501, vec![Quirk::HeloJunk]));
    assert_eq!(met(b"AUTH LOGIN dQ=="), (501, vec![Quirk::AuthLogin]));
    assert_eq!(met(b"AUTH PLAIN dQ"), (501, vec![Quirk::AuthLogin]));
    for unbalanced in ["MAIL FROM:<a@b", "MAIL FROM:a@b>", "RCPT TO:<a@b", "RCPT TO:a@b>", "RCPT TO:"] {
        assert_eq!(code(unbalanced.as_bytes()), 501, "{unbalanced}");
    }
}

#[test]
fn auth() {
    assert_eq!(parse(b"auth login"), Ok(Command::Auth(Mechanism::Login, None)));
    assert_eq!(code(b"AUTH PLAIN AHUAcA=="), 250);
    assert_eq!(code(b"AUTH PLAIN ="), 250);
    assert_eq!(code(b"AUTH CRAM-MD5"), 504);
    assert_eq!(code(b"AUTH PLAIN !"), 501);
    assert_eq!(code(b"AUTH PLAIN AAAA AAAA"), 501);
    assert_eq!(code(b"MAIL FROM:<a@b> AUTH=<>"), 250);
    assert_eq!(code(b"MAIL FROM:<a@b> AUTH=e+3Dmc2@example.com"), 250);
    assert_eq!(code(b"MAIL FROM:<a@b> AUTH=e+3@b"), 501);
    assert_eq!(code(b"MAIL FROM:<a@b> AUTH"), 501);
}

/// TLS-s-a, AUTH-s-b: STARTTLS is known where it is offered; AUTH may have to wait for it.
#[test]
fn starttls_and_what_needs_it() {
    let terms = Terms { has_starttls: true, auth: AuthTerms::NeedsTls, ..TERMS };
    let parse = |line: &[u8]| command::parse(line, &terms, &mut Quirks::default());
    assert_eq!(parse(b"StartTLS "), Ok(Command::StartTls));
    assert_eq!(parse(b"STARTTLS now"), Err(reply::C501_NO_ARGUMENT_ALLOWED));
    assert_eq!(parse(b"STARTTLSX"), Err(reply::C500_UNKNOWN));
    assert_eq!(parse(b"AUTH PLAIN AHByaW50ZXIAc2VjcmV0"), Err(reply::C538_TLS_NEEDED));
    assert_eq!(parse(b"MAIL FROM:<a@b> AUTH=<>"), Err(reply::C555_PARAMETER));
}
