"""Real smarthosts with TLS and a login: Postfix with STARTTLS, implicit TLS and Cyrus SASL, and aiosmtpd."""

import os
import pwd
import subprocess
import sys

import mail
import smarthosts
from authority import Authority, pin
from checks import check, expect, free_port
from sink import Sink
from tls import PASSWORD, USER, expect_fault, hand_in, relay_to, secret_file

MAIN = """
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_loglevel = 1
smtpd_tls_session_cache_database =
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = test.example
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
"""
MASTER = """
127.0.0.1:{implicit} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
tlsmgr unix - - n 1000? 1 tlsmgr
"""
SASL = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {sasl}/sasldb2
mech_list: PLAIN LOGIN
"""


def secure_postfix(world):
    """A Postfix that takes mail behind a login in TLS only.

    Returns its two ports, its maildir, the authority, its certificate.
    """
    expect(os.geteuid() == 0, "a private Postfix needs root")
    port, implicit = free_port(), free_port()
    authority = Authority(world)
    certificate, key = authority.issue("postfix")
    sasl = world.folder_for("sasl")
    subprocess.run(
        ["saslpasswd2", "-p", "-c", "-f", str(sasl / "sasldb2"), "-u", "test.example", "router"],
        input=PASSWORD.encode(),
        check=True,
        capture_output=True,
        timeout=30,
    )
    os.chown(sasl / "sasldb2", pwd.getpwnam("postfix").pw_uid, -1)
    maildir = smarthosts.postfix(
        world,
        port,
        MAIN.format(certificate=certificate, key=key),
        MASTER.format(implicit=implicit),
        SASL.format(sasl=sasl),
    )
    return port, implicit, maildir, authority, certificate


class Place:
    """What `relay_to` wants to know of a smarthost."""

    def __init__(self, port):
        self.port = port


@check("secure.postfix", 120)
def postfix(world):
    """STARTTLS and implicit, PLAIN and LOGIN, right and wrong, by authority and by pin."""
    port, implicit, maildir, authority, certificate = secure_postfix(world)
    right, wrong = secret_file(world), secret_file(world, "wrong password", name="wrong")
    ca = {"ca_file": str(authority.certificate)}
    cases = {
        "starttls-plain": (port, {"auth": "plain", **ca}),
        "starttls-login": (port, {"auth": "login", **ca}),
        "starttls-pin": (port, {"pins": [pin(certificate)], "host": "127.0.0.1"}),
        "implicit-best": (implicit, {"tls": "implicit", **ca}),
    }
    count = 0
    for name, (at, keys) in cases.items():
        relay = relay_to(world, Place(at), name=name, user=USER, password_file=right, **keys)
        for message in hand_in(relay, 3, prefix=name):
            count += len(message.recipients)
        expect(
            Sink.wait_until(lambda: len(list(maildir.iterdir())) >= count, 30),
            f"{name}: {len(list(maildir.iterdir()))} of {count}, {relay.log_tail()}",
        )
        expect("fault" not in relay.log(), relay.log_tail())
        relay.kill()
        relay = relay_to(world, Place(at), name=f"{name}-wrong", user=USER, password_file=wrong, **keys)
        hand_in(relay, 3, prefix=f"{name}-wrong")
        expect_fault(relay, "it refused the login")
        expect("535" in relay.log(), relay.log_tail())
        relay.kill()
    relay = relay_to(world, Place(port), name="no-login", **ca)
    hand_in(relay)
    expect(
        Sink.wait_until(lambda: "554 5.7.1" in relay.log() or "fault" in relay.log(), 20), relay.log_tail()
    )
    expect(len(list(maildir.iterdir())) == count, "mail came without a login")
    log = world.folder / "postfix" / "maillog"
    # Another process writes it, later than what it tells of has happened.
    is_secure = Sink.wait_until(
        lambda: log.read_text().count("TLS connection established") >= 2 * len(cases), 30
    )
    expect(is_secure, "not over TLS")
    return f"{len(cases)} ways, {count} copies in a maildir"


AIOSMTPD = """
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

port, certificate, key, tls, user, password = sys.argv[1:]

class Handler:
    async def handle_DATA(self, server, session, envelope):
        taken = [envelope.mail_from, envelope.original_content.hex(), session.authenticated]
        print(json.dumps(taken), flush=True)
        return "250 2.0.0 taken"

def judge(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (user.encode(), password.encode())
    return AuthResult(success=right, handled=False)

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    settings = {"authenticator": judge, "auth_required": True, "hostname": "aio.test.example"}
    if tls == "starttls":
        settings |= {"tls_context": context, "require_starttls": True}
    else:
        settings |= {"auth_require_tls": False}
    make = lambda: SMTP(Handler(), **settings)
    implicit = None if tls == "starttls" else context
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", int(port), ssl=implicit)
    await server.serve_forever()

asyncio.run(main())
"""


@check("secure.aiosmtpd", 120)
def aiosmtpd(world):
    """Another library's TLS and AUTH, both ways in, right and wrong."""
    import json

    authority = Authority(world)
    certificate, key = authority.issue("aiosmtpd")
    right, wrong = secret_file(world), secret_file(world, "wrong password", name="wrong")
    for tls in ("starttls", "implicit"):
        port = free_port()
        command = [sys.executable, "-c", AIOSMTPD, str(port), str(certificate), str(key), tls, USER, PASSWORD]
        log = world.folder / f"{tls}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        world.stack.callback(process.wait)
        world.stack.callback(process.kill)
        keys = {"tls": tls, "user": USER, "ca_file": str(authority.certificate)}
        relay = relay_to(world, Place(port), name=f"{tls}-wrong", password_file=wrong, **keys)
        hand_in(relay)
        expect_fault(relay, "it refused the login")
        relay.kill()
        relay = relay_to(world, Place(port), name=tls, password_file=right, **keys)
        messages = hand_in(relay, 20, octets=20_000)

        def taken():
            # The last line may be in the middle of being written.
            lines = log.read_text().splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.startswith("[") and line.endswith("\n")]

        expect(Sink.wait_until(lambda: len(taken()) >= len(messages), 30), relay.log_tail())
        wanted = {message.sender: message for message in messages}
        for sender, octets, is_authenticated in taken():
            changed = mail.difference(wanted.pop(sender), bytes.fromhex(octets))
            expect(not changed and is_authenticated, f"{tls}: {changed}")
        relay.kill()
    return "STARTTLS and implicit"
