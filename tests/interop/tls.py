"""TLS and AUTH to the smarthost: a local authority, certificates good and bad, and a man in the middle."""

import base64
import os
import ssl
import time

import load
import mail
from authority import Authority, pin, self_signed
from checks import check, expect
from relay import Relay
from secure import Secure
from sink import Sink

USER, PASSWORD = "router@test.example", "correct horse battery staple"


def settings(host="localhost", **keys):
    """The table [smarthost]; numbers, texts and lists of texts as TOML has them."""
    return "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in {"host": host, **keys}.items())


def secret_file(world, content=PASSWORD, mode=0o600, name="secret"):
    path = world.folder / name
    path.write_text(content + "\n")
    os.chmod(path, mode)
    return str(path)


def relay_to(
    world,
    server,
    *,
    name="relay",
    binary=None,
    tables="",
    retry='route_longest = "1s"\nauth = "1h"\n',
    **keys,
):
    """A relay that logs everything, which must not show the secret (SEC-cred-a)."""
    relay = Relay(
        world, server.port, name=name, smarthost=settings(**keys), retry=retry, binary=binary, tables=tables
    )

    def show_no_secret():
        log = relay.log()
        for secret in (PASSWORD, "wrong password"):
            encoded = (
                base64.b64encode(octets).decode()
                for octets in (secret.encode(), f"\0{USER}\0{secret}".encode())
            )
            expect(not any(text in log for text in (secret, *encoded)), "the secret is in the log")

    world.stack.callback(show_no_secret)
    return relay.start({"RUST_LOG": "trace"})


def hand_in(relay, count=1, prefix="m", octets=600):
    messages = [mail.alert(number, octets, prefix=prefix) for number in range(count)]
    unsent = load.send_all(relay.port, messages, clients=1)
    expect(not unsent, f"not accepted: {unsent[:1]}")
    return messages


def expect_mail(server, relay, count=1, seconds=40):
    expect(
        Sink.wait_until(lambda: len(server.mail) >= count, seconds),
        f"{len(server.mail)} of {count} messages, {relay.log_tail()}",
    )


def expect_fault(relay, words, seconds=40):
    expect(
        Sink.wait_until(lambda: f'fault="{words}' in relay.log(), seconds),
        f"no fault {words!r}: {relay.log_tail()}",
    )


def expect_nothing_in_plain(server):
    """EHLO, STARTTLS and QUIT tell nothing; all else is told in TLS or not at all."""
    for seen in server.sessions:
        for line in seen.plain.split(b"\r\n"):
            is_tls = line[:1] in (b"\x16", b"\x15", b"\x17", b"\x14")
            if is_tls:
                break
            expect(
                line in (b"", b"STARTTLS", b"QUIT") or line.startswith((b"EHLO ", b"HELO ")),
                f"in plain: {line!r}",
            )


@check("tls.trusted", 60)
def trusted(world):
    """TLS-c-e: STARTTLS and implicit TLS with the own authority, by name and by address; SNI, versions."""
    authority = Authority(world)
    certificate = authority.issue("good")
    figures = []
    for tls in ("starttls", "implicit"):
        for host in ("localhost", "127.0.0.1"):
            server = Secure(world, certificate, tls=tls)
            relay = relay_to(
                world, server, name=f"{tls}-{host}", host=host, tls=tls, ca_file=str(authority.certificate)
            )
            messages = hand_in(relay)
            expect_mail(server, relay)
            changed = mail.difference(messages[0], server.mail[0])
            expect(not changed, f"{tls}: {changed}")
            seen = server.sessions[-1]
            expect(seen.version == "TLSv1.3", f"{tls}: {seen.version}")
            expect(
                server.names[-1:] == (["localhost"] if host == "localhost" else [None]), f"SNI {server.names}"
            )
            expect_nothing_in_plain(server)
            figures.append(f"{tls} {host} {seen.version}")
            relay.terminate()
    return ", ".join(figures)


@check("tls.certificates", 120)
def certificates(world):
    """TLS-c-c: each bad certificate is a fault with its reason, and not an octet of mail or secret behind it."""
    authority, stranger = Authority(world), Authority(world, "stranger")
    good = authority.issue("good")
    own, leaf = self_signed(world), self_signed(world, "own-leaf", is_authority=False)
    ca = {"ca_file": str(authority.certificate)}
    wrong_pin = pin(authority.issue("other")[0])
    bad = {
        "wrong-name": (
            authority.issue("wrong-name", "DNS:mail.other.example"),
            ca,
            "its certificate is for another name",
        ),
        "no-san": (
            authority.issue("localhost", "email:localhost"),
            ca,
            "its certificate is for another name",
        ),
        "expired": (
            authority.issue("expired", first_day=-30, last_day=-1),
            ca,
            "its certificate has expired",
        ),
        "not-yet": (authority.issue("not-yet", first_day=1), ca, "its certificate is not valid yet"),
        "stranger": (stranger.issue("strange"), ca, "its certificate is from no trusted authority"),
        "system": (good, {}, "its certificate is from no trusted authority"),
        "self-signed": (own, ca, "its certificate is from no trusted authority"),
        "pin-mismatch": (good, {"pins": [wrong_pin]}, "its certificate has none of the pinned keys"),
        "own-wrong-name": (
            own,
            {"ca_file": str(own[0]), "host": "ip6-localhost"},
            "its certificate is for another name",
        ),
    }
    secret = secret_file(world)
    for name, (certificate, keys, fault) in bad.items():
        for tls in ("starttls", "implicit"):
            server = Secure(world, certificate, tls=tls, logins={USER: PASSWORD})
            keys = {"host": "localhost", **keys}
            if keys["host"] != "localhost":
                keys["host"] = (
                    "localhost.localdomain"
                    if "localhost.localdomain" in open("/etc/hosts").read()
                    else "127.0.0.1"
                )
            if name == "own-wrong-name":
                certificate = self_signed(world, f"own-{tls}", "DNS:elsewhere")
                server.context.load_cert_chain(*certificate)
                keys["ca_file"] = str(certificate[0])
            relay = relay_to(
                world, server, name=f"{name}-{tls}", tls=tls, user=USER, password_file=secret, **keys
            )
            hand_in(relay)
            expect_fault(relay, fault)
            expect(not server.mail and not server.logins_tried(), f"{name}: something went on")
            expect_nothing_in_plain(server)
            relay.kill()
    fine = {
        "rsa": (authority.issue("rsa", key="rsa"), ca),
        "self-signed": (own, {"ca_file": str(own[0])}),
        "self-signed-leaf": (leaf, {"ca_file": str(leaf[0])}),
        "pin": (stranger.issue("pinned", "DNS:elsewhere", last_day=-1), {}),
    }
    for name, (certificate, keys) in fine.items():
        if name == "pin":
            keys = {"pins": [wrong_pin, pin(certificate[0])]}
        server = Secure(world, certificate)
        relay = relay_to(world, server, name=f"good-{name}", **keys)
        hand_in(relay)
        expect_mail(server, relay)
        relay.kill()
    return f"{len(bad)} bad ones refused, {len(fine)} good ones taken"


@check("tls.versions", 120)
def versions(world):
    """TLS-c-e: 1.2 and 1.3 and nothing older (RFC 8996); a second connection resumes the first one's session."""
    authority = Authority(world)
    certificate = authority.issue("good")
    Version = ssl.TLSVersion
    figures = []
    for name, version, is_fine in (
        ("1.0", Version.TLSv1, False),
        ("1.1", Version.TLSv1_1, False),
        ("1.2", Version.TLSv1_2, True),
        ("1.3", Version.TLSv1_3, True),
    ):
        server = Secure(world, certificate, version=(version, version))
        relay = relay_to(world, server, name=name, ca_file=str(authority.certificate))
        hand_in(relay)
        if not is_fine:
            expect_fault(relay, "it speaks neither TLS 1.2 nor 1.3")
            expect(not server.mail, "mail went on")
        else:
            expect_mail(server, relay)
            seen = server.sessions[-1]
            expect(Sink.wait_until(lambda: seen.is_over, 20), "the idle connection is not closed")
            expect(not isinstance(seen.error, ssl.SSLError), f"closed without close_notify: {seen.error}")
            hand_in(relay, prefix="second")
            expect_mail(server, relay, 2)
            expect(
                server.sessions[-1] is not seen and server.sessions[-1].is_resumed, f"{name}: no resumption"
            )
            figures.append(f"{name} resumed")
        relay.kill()
    return ", ".join(figures)


@check("tls.downgrade", 120)
def downgrade(world):
    """The offer taken away, refused, or spoiled: only EHLO, STARTTLS and QUIT go in plain, then or later."""
    authority = Authority(world)
    certificate = authority.issue("good")
    secret = secret_file(world)
    cases = {
        "strip": "it does not offer STARTTLS",
        "refuse": "it refused STARTTLS",
        "inject": "octets in plain came behind",
        "garbage": "the TLS handshake failed",
        "drop": "the TLS handshake failed",
    }
    for behave, fault in cases.items():
        server = Secure(
            world, certificate, behave=behave, plain_mechanisms=["PLAIN", "LOGIN"], logins={USER: PASSWORD}
        )
        relay = relay_to(
            world, server, name=behave, user=USER, password_file=secret, ca_file=str(authority.certificate)
        )
        hand_in(relay)
        expect_fault(relay, fault)
        expect(Sink.wait_until(lambda: len(server.sessions) > 2, 20), "no further try")
        expect(not server.mail and not server.logins_tried(), f"{behave}: something went on")
        expect_nothing_in_plain(server)
        expect(
            "deferred" not in relay.log() and "failed" not in relay.log().replace("handshake failed", ""),
            "the message was charged",
        )
        server.behave = ""
        expect_mail(server, relay)
        relay.kill()
    for tls, behave in (("starttls", "stall"), ("implicit", "stall"), ("implicit", "plain")):
        server = Secure(world, certificate, tls=tls, behave=behave, logins={USER: PASSWORD})
        relay = relay_to(
            world,
            server,
            name=f"{tls}-{behave}",
            tls=tls,
            user=USER,
            password_file=secret,
            ca_file=str(authority.certificate),
        )
        hand_in(relay)
        if behave == "plain":
            expect_fault(relay, "the TLS handshake failed")
        else:
            before = relay.cpu_seconds()
            time.sleep(2)
            expect(relay.cpu_seconds() - before < 0.2, "a stalled handshake keeps the processor busy")
            expect("fault" not in relay.log(), relay.log_tail())
        expect(not server.mail and not server.logins_tried(), f"{behave}: something went on")
        expect_nothing_in_plain(server)
        relay.kill()
    return f"{len(cases) + 3} ways"


@check("tls.login", 120)
def login(world):
    """Each mechanism, right and wrong; the best one offered; nothing without an offer; the old form of it."""
    authority = Authority(world)
    certificate = authority.issue("good")
    ca = {"ca_file": str(authority.certificate)}
    files = {"right": secret_file(world), "wrong": secret_file(world, "wrong password", name="wrong")}
    for mechanism in ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"):
        for key in ("right", "wrong"):
            server = Secure(world, certificate, mechanisms=["CRAM-MD5", mechanism], logins={USER: PASSWORD})
            kind = "token_file" if "AUTH" in mechanism else "password_file"
            relay = relay_to(world, server, name=f"{mechanism}-{key}", user=USER, **{kind: files[key]}, **ca)
            # All three wait by then: how many were in when the fault was logged is told, too.
            server.may_login.clear()
            hand_in(relay, 3)
            server.may_login.set()
            if key == "right":
                expect_mail(server, relay, 3)
                expect(server.logins_tried() == 1, "more than one login for one connection")
            else:
                expect_fault(relay, "it refused the login")
                expect(not server.mail and server.logins_tried() == 1, "it went on after a refused login")
                expect(
                    'reply="535 5.7.8 wrong"' in relay.log() and "waiting=3" in relay.log(), relay.log_tail()
                )
            expect_nothing_in_plain(server)
            relay.kill()
    for name, keys, server_keys, words in (
        ("best", {}, {"mechanisms": ["LOGIN", "XOAUTH2", "PLAIN"]}, "AUTH PLAIN"),
        ("told", {"auth": "login"}, {"mechanisms": ["PLAIN", "LOGIN"]}, "AUTH LOGIN"),
        ("old-form", {}, {"mechanisms": ["LOGIN"], "old_form": True}, "AUTH LOGIN"),
    ):
        server = Secure(world, certificate, logins={USER: PASSWORD}, **server_keys)
        relay = relay_to(world, server, name=name, user=USER, password_file=files["right"], **keys, **ca)
        hand_in(relay)
        expect_mail(server, relay)
        tried = [line for line in server.sessions[-1].lines if line.startswith("AUTH")]
        expect(len(tried) == 1 and tried[0].startswith(words), f"{name}: not {words}")
        relay.kill()
    for name, server_keys, fault in (
        ("none", {"mechanisms": []}, "it offers no login that can be used"),
        ("others", {"mechanisms": ["CRAM-MD5", "XOAUTH2"]}, "it offers no login that can be used"),
        ("endless", {"endless": True}, "it refused the login"),
        ("later", {"refusal": "454 4.7.0 not now"}, "it can't take a login now"),
        ("exposed", {}, "the secret's file may be read by others"),
        ("gone", {}, "the secret's file does not exist"),
    ):
        server = Secure(world, certificate, logins={USER: "another"}, **server_keys)
        path = secret_file(world, name=f"secret-{name}")
        relay = relay_to(world, server, name=name, user=USER, password_file=path, **ca)
        if name == "exposed":
            os.chmod(path, 0o644)
        elif name == "gone":
            os.remove(path)
        hand_in(relay)
        expect_fault(relay, fault)
        expect(not server.mail, f"{name}: mail went on")
        relay.kill()
    return "4 mechanisms, right and wrong"


@check("tls.wrong_password", 180)
def wrong_password(world):
    """500 messages wait for the right password at no charge, and leave over one login when it is there."""
    authority = Authority(world)
    server = Secure(world, authority.issue("good"), logins={USER: PASSWORD})
    path = secret_file(world, "wrong password")
    relay = relay_to(world, server, user=USER, password_file=path, ca_file=str(authority.certificate))
    hand_in(relay, 500)
    expect_fault(relay, "it refused the login")
    time.sleep(3)
    log = relay.log()
    expect(server.logins_tried() == 1 and log.count("it refused the login") == 1, "more than one try")
    expect("deferred" not in log and "failed id" not in log, "a message was charged")
    start = time.monotonic()
    secret_file(world)
    # The file is looked at every 20 s.
    expect_mail(server, relay, 500, 90)
    expect(server.logins_tried() == 2, f"{server.logins_tried()} logins")
    return f"500 messages {time.monotonic() - start:.1f} s after the change, 2 logins in all"


@check("tls.plain_login", 90)
def plain_login(world):
    """A login over plain TCP, only where the configuration says so by name."""
    server = Secure(world, tls="none", plain_mechanisms=["PLAIN"], logins={USER: PASSWORD})
    keys = {"tls": "none", "user": USER, "password_file": secret_file(world)}
    relay = Relay(world, server.port, name="refused", smarthost=settings(**keys)).launch()
    expect(relay.process.wait(30) == 78 and "allow_plaintext_auth" in relay.log(), relay.log_tail())
    allowed = Relay(world, server.port, smarthost=settings(**keys) + "allow_plaintext_auth = true\n").start()
    hand_in(allowed)
    expect_mail(server, allowed)


@check("tls.load", 120)
def load_over_tls(world):
    """Large and many over TLS, octet-identical; a smarthost that reads slowly."""
    authority = Authority(world)
    server = Secure(world, authority.issue("good"))
    relay = relay_to(world, server, ca_file=str(authority.certificate))
    messages = hand_in(relay, 200, octets=3000) + hand_in(relay, 3, prefix="large", octets=4_000_000)
    expect_mail(server, relay, len(messages), 60)
    wanted = {message.sender: message for message in messages}
    for data in server.mail:
        sender = data.split(b"From: <", 1)[1].split(b">", 1)[0].decode()
        changed = mail.difference(wanted.pop(sender), data)
        expect(not changed, f"{sender}: {changed}")
    expect(not wanted, "one came twice")
    return f"{len(messages)} messages, {sum(len(m.data) for m in messages) // 1_000_000} MB"


@check("tls.unset_clock", 60)
def unset_clock(world):
    """A clock that nobody has set: verified TLS waits, but for pins, or where dates alone are ignored."""
    authority = Authority(world)
    expired = authority.issue("expired", last_day=-1)
    ca = {"ca_file": str(authority.certificate)}
    ignore = '[clock]\nuntrusted = "ignore-dates"\n'
    cases = {
        "waits": (authority.issue("good"), ca, "", "our clock is not set"),
        "pin": (expired, {"pins": [pin(expired[0])]}, "", None),
        "ignored": (expired, ca, ignore, None),
        "wrong-name": (
            authority.issue("other", "DNS:other.example"),
            ca,
            ignore,
            "its certificate is for another name",
        ),
        "stranger": (
            Authority(world, "stranger").issue("strange"),
            ca,
            ignore,
            "its certificate is from no trusted authority",
        ),
    }
    for name, (certificate, keys, tables, fault) in cases.items():
        server = Secure(world, certificate)
        relay = relay_to(world, server, name=name, binary=world.unset_clock_binary, tables=tables, **keys)
        hand_in(relay)
        if fault:
            expect_fault(relay, fault)
            expect(not server.mail and (name != "waits" or not server.sessions), f"{name}: something went on")
        else:
            expect_mail(server, relay)
        relay.kill()
    # The same certificate with a clock that is to be believed: its date counts, whatever the setting says.
    server = Secure(world, expired)
    relay = relay_to(world, server, name="set", tables=ignore, **ca)
    hand_in(relay)
    expect_fault(relay, "its certificate has expired")
    expect(not server.mail, "mail went on")
    return f"{len(cases) + 1} ways"
