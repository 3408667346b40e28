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


def relay_to(world, server, *, name="relay", retry='route_longest = "1s"\nauth = "1h"\n', **keys):
    """A relay that logs everything, which must not show the secret (SEC-cred-a)."""
    relay = Relay(world, server.port, name=name, smarthost=settings(**keys), retry=retry)

    def show_no_secret():
        log = relay.log()
        for secret in (PASSWORD, "wrong password"):
            encoded = (base64.b64encode(octets).decode() for octets in
                       (secret.encode(), f"\0{USER}\0{secret}".encode()))
            expect(not any(text in log for text in (secret, *encoded)), "the secret is in the log")
    world.stack.callback(show_no_secret)
    return relay.start({"RUST_LOG": "trace"})


def hand_in(relay, count=1, prefix="m", octets=600):
    messages = [mail.alert(number, octets, prefix=prefix) for number in range(count)]
    unsent = load.send_all(relay.port, messages, clients=1)
    expect(not unsent, f"not accepted: {unsent[:1]}")
    return messages


def expect_mail(server, relay, count=1, seconds=20):
    expect(Sink.wait_until(lambda: len(server.mail) >= count, seconds),
           f"{len(server.mail)} of {count} messages, {relay.log_tail()}")


def expect_fault(relay, words, seconds=20):
    expect(Sink.wait_until(lambda: f'fault="{words}' in relay.log(), seconds), f"no fault {words!r}: {relay.log_tail()}")


def expect_nothing_in_plain(server):
    """EHLO, STARTTLS and QUIT tell nothing; all else is told in TLS or not at all."""
    for seen in server.sessions:
        for line in seen.plain.split(b"\r\n"):
            is_tls = line[:1] in (b"\x16", b"\x15", b"\x17", b"\x14")
            if is_tls:
                break
            expect(line in (b"", b"STARTTLS", b"QUIT") or line.startswith((b"EHLO ", b"HELO ")), f"in plain: {line!r}")


@check("tls.milestone", 60)
def milestone(world):
    """STARTTLS and implicit TLS with the own authority, by name and by address; SNI, versions, resumption."""
    authority = Authority(world)
    certificate = authority.issue("good")
    figures = []
    for tls in ("starttls", "implicit"):
        for host in ("localhost", "127.0.0.1"):
            server = Secure(world, certificate, tls=tls)
            relay = relay_to(world, server, name=f"{tls}-{host}", host=host, tls=tls, ca_file=str(authority.certificate))
            messages = hand_in(relay)
            expect_mail(server, relay)
            changed = mail.difference(messages[0], server.mail[0])
            expect(not changed, f"{tls}: {changed}")
            seen = server.sessions[-1]
            expect(seen.version == "TLSv1.3", f"{tls}: {seen.version}")
            expect(server.names[-1:] == (["localhost"] if host == "localhost" else [None]), f"SNI {server.names}")
            expect_nothing_in_plain(server)
            figures.append(f"{tls} {host} {seen.version}")
            relay.terminate()
    return ", ".join(figures)
