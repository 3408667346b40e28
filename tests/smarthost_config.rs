//! The table `[smarthost]`: TLS and the login, their defaults, and what is refused because it would be
//! without effect or unsafe.
use std::path::Path;

use postern::config::{Config, Login, Mechanism, SecretFile, Smarthost, TlsPolicy, UntrustedClock};
use postern::limits;

const LOGIN: &str = "user = \"me@example.com\"\npassword_file = \"/etc/secret\"\n";
const PIN: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn parse(keys: &str) -> Result<Smarthost, String> {
    let text = format!("[smarthost]\nhost = \"smtp.example.com\"\n{keys}\n");
    let config = Config::parse(&text, Path::new("postern.toml"), "router.example.net");
    config.map(|mut config| config.smarthosts.remove(0)).map_err(|error| error.to_string())
}

fn refused(keys: &str, expected: &str) {
    let error = parse(keys).expect_err(keys);
    assert!(error.contains(expected), "{keys:?}: {error}");
    assert_eq!(error.lines().count(), 1);
}

/// The three lines of a first configuration, as in README.
#[test]
fn a_first_configuration_demands_tls_and_logs_in() {
    let smarthost = parse(LOGIN).unwrap();
    assert_eq!((smarthost.port, smarthost.tls), (587, TlsPolicy::Starttls));
    assert_eq!(smarthost.ca_file, None);
    assert!(smarthost.pins.is_empty());
    let Login { user, secret, mechanism } = smarthost.login.unwrap();
    assert_eq!(user, "me@example.com");
    assert_eq!(secret, SecretFile::Password("/etc/secret".into()));
    assert_eq!(mechanism, None);
}

#[test]
fn tls_and_port_have_defaults_for_each_other() {
    for (keys, tls, port) in [
        ("", TlsPolicy::Starttls, 587),
        ("port = 465", TlsPolicy::Implicit, 465),
        ("port = 25", TlsPolicy::Starttls, 25),
        ("tls = \"implicit\"", TlsPolicy::Implicit, 465),
        ("tls = \"none\"", TlsPolicy::None, 25),
        ("tls = \"starttls\"\nport = 465", TlsPolicy::Starttls, 465),
        ("tls = \"implicit\"\nport = 2465", TlsPolicy::Implicit, 2465),
    ] {
        let smarthost = parse(keys).unwrap();
        assert_eq!((smarthost.tls, smarthost.port), (tls, port), "{keys}");
    }
    refused(
        "tls = \"maybe\"",
        "smarthost.tls: is \"maybe\"; allowed: \"starttls\" or \"implicit\" or \"none\"",
    );
}

#[test]
fn a_certificate_is_judged_by_a_file_or_by_pins() {
    let smarthost = parse(&format!("pins = [\"{PIN}\"]")).unwrap();
    assert_eq!(smarthost.pins[0][..4], [0xe3, 0xb0, 0xc4, 0x42]);
    let smarthost = parse("ca_file = \"/etc/own.pem\"").unwrap();
    assert_eq!(smarthost.ca_file.as_deref(), Some(Path::new("/etc/own.pem")));
    refused(
        &format!("ca_file = \"/etc/own.pem\"\npins = [\"{PIN}\"]"),
        "smarthost.ca_file: has no use beside pins",
    );
    refused("tls = \"none\"\nca_file = \"/etc/own.pem\"", "smarthost.ca_file: has no use with tls");
    refused(&format!("tls = \"none\"\npins = [\"{PIN}\"]"), "smarthost.pins: has no use with tls");
    for pin in
        ["", "00", "sha256//x", &PIN[1..], &format!("{PIN}="), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4"]
    {
        refused(&format!("pins = [\"{pin}\"]"), "smarthost.pins: is ");
    }
}

/// The clock matters only where dates do.
#[test]
fn only_certificates_with_dates_need_the_clock() {
    for (keys, is_needed) in [
        (String::new(), true),
        ("port = 465".to_owned(), true),
        ("tls = \"none\"".to_owned(), false),
        (format!("pins = [\"{PIN}\"]"), false),
    ] {
        let smarthost = parse(&keys).unwrap();
        assert_eq!(smarthost.needs_clock(UntrustedClock::Wait), is_needed, "{keys}");
        assert!(!smarthost.needs_clock(UntrustedClock::IgnoreDates), "{keys}");
    }
}

#[test]
fn a_login_is_whole_or_refused() {
    for (auth, mechanism, key) in [
        ("plain", Mechanism::Plain, "password_file"),
        ("login", Mechanism::Login, "password_file"),
        ("xoauth2", Mechanism::Xoauth2, "token_file"),
        ("oauthbearer", Mechanism::Oauthbearer, "token_file"),
    ] {
        let keys = format!("auth = \"{auth}\"\nuser = \"me\"\n{key} = \"/etc/secret\"");
        assert_eq!(parse(&keys).unwrap().login.unwrap().mechanism, Some(mechanism));
        let other = if key == "token_file" { "password_file" } else { "token_file" };
        refused(&keys.replace(key, other), &format!("smarthost.auth: sends a {}", &key[..5]));
    }
    assert!(parse("auth = \"none\"").unwrap().login.is_none());
    refused(&format!("{LOGIN}auth = \"none\""), "smarthost.auth: is \"none\" beside a user");
    refused(&format!("{LOGIN}auth = \"cram-md5\""), "smarthost.auth: is \"cram-md5\"; allowed:");
    refused("auth = \"plain\"", "smarthost.auth: has no user");
    refused("user = \"me\"", "smarthost.user: has no secret");
    refused("password_file = \"/etc/secret\"", "smarthost.password_file: has no user");
    refused("token_file = \"/etc/secret\"", "smarthost.token_file: has no user");
    refused(
        &format!("{LOGIN}token_file = \"/etc/token\""),
        "smarthost.token_file: stands beside password_file",
    );
    refused("user = \"me\\u0000\"\npassword_file = \"/etc/secret\"", "smarthost.user: is ");
    refused("user = \"me\"\npassword_file = \"a/secret\"", "smarthost.password_file: is ");
}

/// AUTH-c-j: a secret goes over plain TCP only where the configuration says so by name.
#[test]
fn a_login_over_plain_tcp_is_asked_for_by_name() {
    let plain = format!("tls = \"none\"\n{LOGIN}");
    refused(&plain, "smarthost.user: would log in over plain TCP");
    assert!(parse(&format!("{plain}allow_plaintext_auth = true")).unwrap().login.is_some());
    refused(&format!("{LOGIN}allow_plaintext_auth = true"), "smarthost.allow_plaintext_auth: has a use only");
    refused("allow_plaintext_auth = true", "smarthost.allow_plaintext_auth: has a use only");
}

/// Several smarthosts in their order, each with its own settings; a refusal names the line.
#[test]
fn fallbacks_stand_in_the_order_of_the_file() {
    let parse = |text: &str| {
        let config = Config::parse(text, Path::new("postern.toml"), "router.example.net");
        config.map(|config| config.smarthosts).map_err(|error| error.to_string())
    };
    let one = format!("[[smarthost]]\nhost = \"a.example\"\n{LOGIN}[[smarthost]]\nhost = \"b.example\"\n");
    let two = parse(&format!("{one}tls = \"none\"\n[retry]\nfirst = \"2m\"\n")).unwrap();
    let hosts: Vec<_> = two.iter().map(|it| (it.host.as_str(), it.port, it.login.is_some())).collect();
    assert_eq!(hosts, [("a.example", 587, true), ("b.example", 25, false)]);

    let lines = one.lines().count();
    for (more, expected) in [
        ("tls = \"no\"\n".to_owned(), format!("postern.toml:{}: smarthost.tls: is \"no\"", lines + 1)),
        ("admin = \"a@b.example\"\n".to_owned(), format!("postern.toml:{}: smarthost.admin: ", lines + 1)),
        (
            "[[smarthost]]\nport = 1\n".to_owned(),
            format!("postern.toml:{}: smarthost.host: is miss", lines + 1),
        ),
        (
            "[[smarthost]]\nhost = \"B.example\"\n".to_owned(),
            format!("postern.toml:{}: smarthost.host: is the same smarthost twice", lines + 2),
        ),
        (
            (0..limits::SMARTHOSTS - 1).fold(String::new(), |so_far, n| {
                so_far + &format!("[[smarthost]]\nhost = \"{n}.example\"\n")
            }),
            format!("postern.toml:{}: smarthost.host: is one smarthost too many", lines + 6),
        ),
    ] {
        let error = parse(&(one.clone() + &more)).unwrap_err();
        assert!(error.starts_with(&expected), "{more}: {error}");
    }
    let most = (0..limits::SMARTHOSTS)
        .fold(String::new(), |so_far, n| so_far + &format!("[[smarthost]]\nhost = \"{n}.example\"\n"));
    assert_eq!(parse(&most).unwrap().len(), limits::SMARTHOSTS);
}
