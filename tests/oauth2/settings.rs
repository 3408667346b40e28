//! The table `[smarthost.oauth2]`: what is read, and what is refused in one line that names key and remedy.
use std::path::Path;

use postern::config::{Config, Granted, Oauth2, Smarthost, UntrustedClock};

const REFRESH: &str = "grant = \"refresh_token\"
token_url = \"https://login.example.com/t/token\"
client_id = \"c\"
refresh_token_file = \"/var/lib/postern/refresh\"
";
const CLIENT: &str = "grant = \"client_credentials\"
token_url = \"https://login.example.com:8443\"
client_id = \"c\"
client_secret_file = \"/etc/client\"
scope = \"https://outlook.office365.com/.default\"
";

fn parse(keys: &str, oauth2: &str) -> Result<Smarthost, String> {
    let text = format!("[smarthost]\nhost = \"smtp.example.com\"\n{keys}\n[smarthost.oauth2]\n{oauth2}");
    let config = Config::parse(&text, Path::new("postern.toml"), "router.example.net");
    config.map(|mut config| config.smarthosts.remove(0)).map_err(|error| error.to_string())
}

fn oauth2(oauth2: &str) -> Oauth2 {
    let smarthost = parse("user = \"me@example.com\"", oauth2).expect(oauth2);
    smarthost.oauth2().expect("it is there").clone()
}

fn refused(keys: &str, oauth2: &str, expected: &str) {
    let error = parse(keys, oauth2).expect_err(oauth2);
    assert!(error.contains(expected), "{error}\nis not {expected}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn both_grants_are_read() {
    let refresh = oauth2(REFRESH);
    assert_eq!(refresh.grant, Granted::RefreshToken("/var/lib/postern/refresh".into()));
    assert_eq!((&*refresh.token_url.host, &*refresh.token_url.path), ("login.example.com", "/t/token"));
    assert_eq!((refresh.client_secret_file, refresh.scope), (None, None));
    let client = oauth2(CLIENT);
    assert_eq!(client.grant, Granted::ClientCredentials);
    assert_eq!((client.token_url.port, &*client.token_url.path), (8443, "/"));
    assert_eq!(client.client_secret_file.as_deref(), Some(Path::new("/etc/client")));
    assert_eq!(client.scope.as_deref(), Some("https://outlook.office365.com/.default"));
}

#[test]
fn each_smarthost_has_its_own() {
    let text = format!(
        "[[smarthost]]\nhost = \"a.example\"\nuser = \"me\"\n[smarthost.oauth2]\n{REFRESH}\
         [[smarthost]]\nhost = \"b.example\"\nuser = \"me\"\n[smarthost.oauth2]\n{CLIENT}\
         [[smarthost]]\nhost = \"c.example\"\n"
    );
    let config = Config::parse(&text, Path::new("postern.toml"), "router.example.net").expect("valid");
    let grants: Vec<Option<&Granted>> =
        config.smarthosts.iter().map(|smarthost| smarthost.oauth2().map(|oauth2| &oauth2.grant)).collect();
    assert!(matches!(grants[..], [Some(Granted::RefreshToken(_)), Some(Granted::ClientCredentials), None]));
}

#[test]
fn what_is_missing_or_without_effect_is_refused() {
    let me = "user = \"me\"";
    for key in ["grant", "token_url", "client_id", "refresh_token_file"] {
        let without: String =
            REFRESH.lines().filter(|line| !line.starts_with(key)).fold(String::new(), |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            });
        refused(me, &without, &format!("postern.toml:4: smarthost.oauth2.{key}: is missing"));
    }
    let without_secret = CLIENT.replace("client_secret_file = \"/etc/client\"\n", "");
    refused(me, &without_secret, "smarthost.oauth2.client_secret_file: is missing");
    refused(
        me,
        &format!("{CLIENT}refresh_token_file = \"/x\""),
        "postern.toml:10: smarthost.oauth2.refresh_token_file: has no use with grant",
    );
    refused(me, &REFRESH.replace("refresh_token\"", "password\""), "is \"password\"; allowed:");
    refused(me, &REFRESH.replace("https:", "http:"), "is not https://");
    refused(me, &REFRESH.replace("login.example.com", "a..b"), "neither a name nor an address");
    refused(me, &format!("{REFRESH}user = \"x\""), "stands in the wrong place; it belongs in [smarthost]");
    refused(me, &format!("{REFRESH}secret = \"x\""), "is not a key of this version; allowed here: grant,");
    refused(me, &format!("{CLIENT}device_url = \"https://a/d\""), "device_url: has no use with grant");
    refused(me, &format!("{REFRESH}device_url = \"http://a/d\""), "is not https://");
    refused("", REFRESH, "smarthost.oauth2: has no user");
    refused(
        "user = \"me\"\ntoken_file = \"/t\"",
        REFRESH,
        "smarthost.oauth2: stands beside token_file; leave one of them out",
    );
    refused("user = \"me\"\nauth = \"plain\"", REFRESH, "sends a password; set password_file");
    refused("user = \"me\"\ntls = \"none\"", REFRESH, "would log in over plain TCP");
    let text = "[smarthost]\nhost = \"a.example\"\noauth2 = true\n";
    let error = Config::parse(text, Path::new("p"), "r.example").expect_err("no table").to_string();
    assert!(error.contains("smarthost.oauth2: is not a table; write [smarthost.oauth2]"), "{error}");
    let text = "[oauth2]\n[smarthost]\nhost = \"a.example\"\n";
    let error = Config::parse(text, Path::new("p"), "r.example").expect_err("no table").to_string();
    assert!(error.contains("oauth2: stands in the wrong place; it belongs in [smarthost]"), "{error}");
}

/// TLS-c-f: the endpoint's certificate has dates, whatever the smarthost's is judged by; and its authorities
/// have a file, beside pins and without TLS at the smarthost, too.
#[test]
fn the_endpoint_s_certificate_is_judged_by_file_and_clock() {
    let pins = "user = \"me\"\nca_file = \"/etc/own.pem\"\n\
                pins = [\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]";
    let plain = "user = \"me\"\nca_file = \"/etc/own.pem\"\ntls = \"none\"\nallow_plaintext_auth = true";
    for keys in [pins, plain] {
        let smarthost = parse(keys, REFRESH).expect(keys);
        assert!(smarthost.is_judged_by_clock());
        assert!(smarthost.needs_clock(UntrustedClock::Wait));
        assert!(!smarthost.needs_clock(UntrustedClock::IgnoreDates));
    }
}

/// README's configurations for the well-known providers are whole and valid.
#[test]
fn readme_s_configurations_are_valid() {
    let readme = include_str!("../../README.md");
    let mut count = 0;
    for section in ["### Gmail\n", "### Microsoft 365\n", "### Amazon SES\n", "### A Postfix of your own\n"] {
        let (_, section) = readme.split_once(section).expect("the section");
        let section = section.split("\n### ").next().expect("its text");
        for block in section.split("```toml\n").skip(1) {
            let text = block.split("```").next().expect("its end");
            let config = Config::parse(text, Path::new("README.md"), "router.example.net");
            let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert!(config.smarthosts[0].login.is_some());
            count += 1;
        }
    }
    assert_eq!(count, 6);
}
