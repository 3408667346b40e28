"""Clients with TLS: openssl, swaks, smtplib, curl, msmtp, and raw ones that break the rules."""

import os
import re
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import mail
from authority import Authority, self_signed
from checks import check, expect, free_port
from clients import SECONDS, arrived, run, texts
from relay import Relay
from sink import Sink

USER, PASSWORD = "printer", "secret-of-the-printer"


class Secured:
    """A relay with a plain listener, and beside it one with STARTTLS and one with implicit TLS, both with AUTH."""

    def __init__(self, world, *, certificate=None, top="allow = []\n", start=True):
        self.authority = Authority(world)
        self.certificate, self.key = certificate or self.authority.issue("relay")
        self.key.chmod(0o600)
        self.sink = Sink(world, free_port()).start()
        self.starttls, self.implicit = free_port(), free_port()
        more = "".join(
            f', {{ address = "127.0.0.1:{port}", tls = "{tls}", auth = true }}'
            for port, tls in ((self.starttls, "starttls"), (self.implicit, "implicit"))
        )
        tables = f'[listener_tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n'
        self.relay = Relay(
            world, self.sink.port, top=top, tables=tables, users={USER: PASSWORD}, more_listeners=more
        )
        self.context = ssl.create_default_context(cafile=self.authority.certificate)
        if start:
            self.relay.start()

    def connect(self, port=None, context=None):
        """smtplib's session with one of the listeners, inside TLS."""
        context = context or self.context
        if port == self.implicit:
            return smtplib.SMTP_SSL("127.0.0.1", port, "client.test.example", timeout=SECONDS, context=context)
        client = smtplib.SMTP("127.0.0.1", self.starttls, "client.test.example", timeout=SECONDS)
        client.starttls(context=context)
        return client

    def spoken(self):
        """The words behind WITH of the Received fields that we wrote."""
        heads = [self.sink.data(record).split(b"\r\n\r\n", 1)[0] for record in self.sink.records()]
        return {re.search(rb"by relay\.test\.example\s+with (\S+) ", head).group(1).decode() for head in heads}

    def judge(self, messages, protocols):
        arrived(self.sink, messages)
        expect(self.spoken() == set(protocols), f"Received says {self.spoken()}, not {protocols}")
        expect(PASSWORD not in self.relay.log(), "the password is in the log")


@check("secure_clients.openssl", 90)
def openssl(world):
    """TLS-s-a: s_client by STARTTLS and implicit TLS, TLS 1.2 and 1.3, with its check of our certificate."""
    secured = Secured(world, top="")
    messages = texts(world, "openssl", 4, eight_bit=False)
    ways = [
        (secured.starttls, ["-starttls", "smtp"], "-tls1_2"),
        (secured.starttls, ["-starttls", "smtp"], "-tls1_3"),
        (secured.implicit, [], "-tls1_2"),
        (secured.implicit, [], "-tls1_3"),
    ]
    for message, (port, how, version) in zip(messages, ways):
        trusted = ["-CAfile", str(secured.authority.certificate), "-verify_return_error"]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", version, *how, *trusted]
        recipients = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in message.recipients)
        before = f"EHLO client.test.example\r\nMAIL FROM:<{message.sender}>\r\n{recipients}DATA\r\n".encode()
        said = run(command, before + message.transparent() + b"QUIT\r\n")
        expect("250 2.0.0 Queued" in said and "221 2.0.0" in said, f"s_client heard {said[-300:]}")
        expect("STARTTLS" not in said.split("EHLO")[-1] or port != secured.implicit, "STARTTLS inside TLS")
    secured.judge(messages, ["ESMTPS"])
    return f"{len(messages)} messages"


@check("secure_clients.swaks", 120)
def swaks(world):
    """AUTH-s-b, AUTH-s-c: each mechanism by STARTTLS and implicit TLS, with the right password and a wrong one."""
    secured = Secured(world)
    ways = [
        (port, how, mechanism)
        for port, how in ((secured.starttls, "--tls"), (secured.implicit, "--tls-on-connect"))
        for mechanism in ("PLAIN", "LOGIN")
    ]
    messages = texts(world, "swaks", len(ways), eight_bit=False)
    for message, (port, how, mechanism) in zip(messages, ways):
        path = world.folder / message.sender
        path.write_bytes(message.transparent()[:-2])
        server = ["swaks", "--server", f"127.0.0.1:{port}", how, "--auth", mechanism, "--auth-user", USER]
        server += ["--tls-verify", "--tls-ca-path", str(secured.authority.certificate), "--tls-sni", "localhost"]
        envelope = ["--from", message.sender, "--to", ",".join(message.recipients)]
        data = ["--no-data-fixup", "--data", f"@{path}"]
        said = run([*server, *envelope, *data, "--auth-password", PASSWORD])
        expect("235 2.7.0" in said and "250 2.0.0 Queued" in said, f"swaks heard {said[-300:]}")
        wrong = subprocess.run(
            [*server, *envelope, *data, "--auth-password", "wrong"], capture_output=True, timeout=SECONDS
        )
        is_refused = wrong.returncode != 0 and b"535 5.7.8" in wrong.stdout
        expect(is_refused, f"swaks with a wrong password: {wrong.stdout[-300:]}")
    plain = ["swaks", "--server", f"127.0.0.1:{secured.starttls}", "--auth", "PLAIN", "--auth-user", USER]
    refused = subprocess.run(
        [*plain, "--auth-password", PASSWORD, "--from", "a@test.example", "--to", "b@test.example"],
        capture_output=True,
        timeout=SECONDS,
    )
    expect(refused.returncode != 0 and PASSWORD.encode() not in refused.stdout, "AUTH was offered in plain")
    secured.judge(messages, ["ESMTPSA"])
    return f"{len(messages)} messages"


@check("secure_clients.smtplib", 90)
def python_smtplib(world):
    """starttls() and login(), SMTP_SSL and login(), by a client that checks our certificate and name."""
    secured = Secured(world)
    messages = texts(world, "smtplib", 6)
    for message, port in zip(messages, [secured.starttls, secured.implicit] * 3):
        with secured.connect(port) as client:
            client.ehlo()
            expect(not client.has_extn("starttls"), "STARTTLS is offered inside TLS")
            try:
                client.login(USER, "wrong")
                raise AssertionError("a wrong password is taken")
            except smtplib.SMTPAuthenticationError as refused:
                expect(refused.smtp_code == 535, f"a wrong password gets {refused}")
            client.login(USER, PASSWORD)
            client.sendmail(message.sender, message.recipients, message.data, ["BODY=8BITMIME"])
    with smtplib.SMTP("127.0.0.1", secured.starttls, "client.test.example", timeout=SECONDS) as client:
        client.ehlo()
        expect(client.has_extn("starttls") and not client.has_extn("auth"), f"{client.esmtp_features}")
        expect(client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 538, "AUTH in plain was not answered 538")
    secured.judge(messages, ["ESMTPSA"])
    return f"{len(messages)} messages"


@check("secure_clients.curl", 90)
def curl(world):
    secured = Secured(world)
    messages = texts(world, "curl", 4)
    ways = [
        (f"{scheme}://localhost:{port}/client.test.example", options, mechanism)
        for scheme, port, options in (("smtp", secured.starttls, ["--ssl-reqd"]), ("smtps", secured.implicit, []))
        for mechanism in ("PLAIN", "LOGIN")
    ]
    for message, (url, options, mechanism) in zip(messages, ways):
        path = world.folder / message.sender
        path.write_bytes(message.data)
        recipients = [word for recipient in message.recipients for word in ("--mail-rcpt", recipient)]
        command = ["curl", "-sS", "-4", "--url", url, *options, "--cacert", str(secured.authority.certificate)]
        command += ["--login-options", f"AUTH={mechanism}", "--mail-from", message.sender, *recipients]
        command += ["--upload-file", str(path)]
        run([*command, "--user", f"{USER}:{PASSWORD}"])
        wrong = subprocess.run([*command, "--user", f"{USER}:wrong"], capture_output=True, timeout=SECONDS)
        expect(wrong.returncode == 67, f"curl with a wrong password ended with {wrong.returncode}: {wrong.stderr}")
    secured.judge(messages, ["ESMTPSA"])
    return f"{len(messages)} messages"


@check("secure_clients.msmtp", 90)
def msmtp(world):
    secured = Secured(world)
    messages = texts(world, "msmtp", 4)
    ways = [
        (port, starttls, mechanism)
        for port, starttls in ((secured.starttls, "on"), (secured.implicit, "off"))
        for mechanism in ("plain", "login")
    ]
    for message, (port, starttls, mechanism) in zip(messages, ways):
        command = ["msmtp", "--file=/dev/null", "--host=localhost", f"--port={port}", f"--from={message.sender}"]
        command += ["--tls=on", f"--tls-starttls={starttls}", f"--tls-trust-file={secured.authority.certificate}"]
        command += [f"--auth={mechanism}", f"--user={USER}", "--set-date-header=off", "--set-msgid-header=off"]
        text = message.data.replace(b"\r\n", b"\n")
        run([*command, f"--passwordeval=echo {PASSWORD}", "--", *message.recipients], text)
        wrong = subprocess.run(
            [*command, "--passwordeval=echo wrong", "--", *message.recipients],
            input=text,
            capture_output=True,
            timeout=SECONDS,
        )
        expect(wrong.returncode == 77, f"msmtp with a wrong password ended with {wrong.returncode}")
    secured.judge(messages, ["ESMTPSA"])
    return f"{len(messages)} messages"


def hello(port, behind=b"", seconds=SECONDS):
    """A raw connection that has said STARTTLS, with `behind` in the same segment, and heard 220."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    expect(connection.recv(1024).startswith(b"220 "), "no greeting")
    connection.sendall(b"EHLO raw.test.example\r\n")
    heard = b""
    while b"250 HELP" not in heard:
        octets = connection.recv(1024)
        expect(octets, f"closed behind {heard}")
        heard += octets
    connection.sendall(b"STARTTLS\r\n" + behind)
    expect(connection.recv(1024) == b"220 2.0.0 Begin with TLS\r\n", "STARTTLS was refused")
    return connection


def drained(connection):
    """What comes until the end."""
    heard = b""
    try:
        while octets := connection.recv(4096):
            heard += octets
    except ConnectionResetError:
        pass
    return heard


@check("secure_clients.rules", 120)
def rules(world):
    """TLS-s-b, TLS-s-d, SEC-tls-a: octets in plain behind STARTTLS, a handshake of garbage, TLS 1.0 and 1.1."""
    secured = Secured(world, top="")
    injected = b"MAIL FROM:<attacker@test.example>\r\nRCPT TO:<b@test.example>\r\nDATA\r\nmine\r\n.\r\n"
    with secured.context.wrap_socket(hello(secured.starttls, injected), server_hostname="localhost") as client:
        client.sendall(b"NOOP\r\nRCPT TO:<c@test.example>\r\nQUIT\r\n")
        replies = [line[:3] for line in drained(client).split(b"\r\n") if line]
        expect(replies == [b"250", b"503", b"221"], f"behind an injection: {replies}")
    for garbage in (b"NOOP\r\n" * 4, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x80\x2e\x01\x03\x01" + bytes(64)):
        with hello(secured.starttls) as client:
            try:
                client.sendall(garbage)
            except (ConnectionResetError, BrokenPipeError):
                pass
            heard = drained(client)
            is_alert = heard == b"" or heard[0] == 21
            expect(is_alert, f"behind a handshake of garbage: {heard[:60]}")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old.minimum_version = old.maximum_version = version
        try:
            old.wrap_socket(socket.create_connection(("127.0.0.1", secured.implicit), timeout=SECONDS))
            raise AssertionError(f"{version.name} is spoken")
        except ssl.SSLError:
            pass
    told = secured.relay.log().count("it speaks neither TLS 1.2 nor 1.3")
    expect(told == 2, f"TLS 1.0 and 1.1 are told {told} times")
    expect(not secured.sink.records(), "somebody's mail was relayed")
    return "nothing taken"


@check("secure_clients.certificates", 120)
def certificates(world):
    """A renewed certificate counts at once, one that can't be used is told once, and a bad one stops the start."""
    secured = Secured(world, top="")
    relay = secured.relay

    def shown():
        with secured.connect(secured.implicit) as client:
            return client.sock.getpeercert()["serialNumber"]

    first = shown()
    staying = secured.connect()
    certificate, key = secured.authority.issue("renewed")
    good = (certificate.read_bytes(), key.read_bytes())
    # As by hand: one file after the other, so that in between they don't fit together.
    secured.certificate.write_bytes(good[0])
    expect([shown(), shown()] == [first, first], "half a renewal counts")
    expect(relay.log().count("is not the key of the certificate; the one before it stays") == 1, "not told once")
    secured.key.write_bytes(good[1])
    second = shown()
    expect(second != first and shown() == second, "the renewed certificate is not shown")
    expect(staying.noop()[0] == 250, "a session of before is gone")
    secured.key.chmod(0o644)
    expect([shown(), shown()] == [second, second], "an exposed key ends TLS")
    expect(relay.log().count("may be read by others") == 1, "an exposed key is not told once")
    secured.key.chmod(0o600)
    secured.certificate.unlink()
    expect([shown(), shown()] == [second, second], "a missing certificate ends TLS")
    expect(relay.log().count("does not exist; the one before it stays") == 1, "a missing file is not told once")
    relay.terminate()
    rsa = self_signed(world)
    cases = [
        ("certificate: .*: does not exist", None, good[1], 0o600),
        ("key: .*: may be read by others; set its mode to 0600 or 0640", good[0], good[1], 0o604),
        ("certificate: .*: has no certificate in PEM", good[1], good[1], 0o600),
        ("key: .*: has no private key in PEM; one with a passphrase can't be used", good[0], good[0], 0o600),
        ("key: .*: is not the key of the certificate", good[0], rsa[1].read_bytes(), 0o600),
        ("key: .*: is longer than 64 KiB; only .*", good[0], b"x" * 70_000, 0o600),
    ]
    for words, certificate, key, mode in cases:
        if certificate:
            secured.certificate.write_bytes(certificate)
        secured.key.write_bytes(key)
        secured.key.chmod(mode)
        before = len(relay.log())
        relay.launch()
        code = relay.process.wait(SECONDS)
        said = relay.log()[before:]
        expect(code == 78 and re.search(f": listener_tls.{words}\n$", said), f"{code}: {said}")
        expect(said.count("\n") == 1, f"not one line: {said}")
    for path, content in zip((secured.certificate, secured.key), rsa):
        path.write_bytes(content.read_bytes())
    secured.key.chmod(0o640)
    relay.start()
    secured.context = ssl.create_default_context(cafile=rsa[0])
    shown()
    return f"{len(cases)} bad pairs"


def private_dirty(relay):
    """KiB that are the process's own; pages of the spool that wait for the disk aside."""
    os.sync()
    text = open(f"/proc/{relay.process.pid}/smaps_rollup").read()
    return int(re.search(r"Private_Dirty:\s+(\d+)", text).group(1))


@check("secure_clients.stalled", 400)
def stalled(world):
    """SEC-dos-a, SEC-dos-e: handshakes that stall or drip keep no good client with TLS waiting, nor cost memory."""
    secured = Secured(world)
    relay, stop = secured.relay, threading.Event()
    before = private_dirty(relay)

    def crowd(port):
        while not stop.is_set():
            try:
                connection = hello(port, seconds=5) if port == secured.starttls else None
                connection = connection or socket.create_connection(("127.0.0.1", port), timeout=5)
                connection.sendall(b"\x16\x03\x01")
                for _ in range(100):
                    if stop.wait(0.1):
                        break
                    connection.sendall(b"\x02")
                connection.close()
            except Exception:  # refused, let go, or too late: on with the next
                stop.wait(0.05)

    threads = [
        threading.Thread(target=crowd, args=(port,), daemon=True)
        for port in (secured.starttls, secured.implicit) * 30
    ]
    for thread in threads:
        thread.start()
    time.sleep(3)
    messages, slowest, tries = texts(world, "good", 10, eight_bit=False), 0, 0
    for message, port in zip(messages, [secured.starttls, secured.implicit] * 5):
        start, is_taken = time.monotonic(), False
        while not is_taken:
            tries += 1
            try:
                with secured.connect(port) as client:
                    client.login(USER, PASSWORD)
                    client.sendmail(message.sender, message.recipients, message.data)
                    # Who is slow to say QUIT may have had to leave for another, and is told so.
                    is_taken = True
            except (OSError, smtplib.SMTPException):
                if is_taken:
                    break
                expect(time.monotonic() - start < 60, "a good client does not get in")
                time.sleep(0.1)
        slowest = max(slowest, time.monotonic() - start)
    during = private_dirty(relay)
    stop.set()
    for thread in threads:
        thread.join(30)
    secured.judge(messages, ["ESMTPSA"])
    expect(slowest < 30, f"a good client waited {slowest:.1f} s")
    return f"slowest {slowest:.1f} s, {tries} tries for {len(messages)}; {before} to {during} KiB"


@check("secure_clients.memory", 120)
def memory(world):
    """As many clients with TLS as there are places: what they cost, and that it is given back."""
    secured = Secured(world)
    relay = secured.relay
    before = private_dirty(relay)
    limits = subprocess.run([world.binary, "limits"], capture_output=True, text=True, timeout=SECONDS).stdout
    places = int(re.search(r"tls_connections\s+(\d+)", limits).group(1))
    clients = []
    for number in range(places):
        client = secured.connect(secured.implicit if number % 2 else secured.starttls)
        client.login(USER, PASSWORD)
        clients.append(client)
    during = private_dirty(relay)
    each = (during - before) / len(clients)
    expect(each < 64, f"{each:.0f} KiB a client with TLS")
    for client in clients:
        client.quit()
    message = mail.alert(1, 1000, "after", 1, world.seed)
    with secured.connect() as client:
        client.login(USER, PASSWORD)
        client.sendmail(message.sender, message.recipients, message.data)
    secured.judge([message], ["ESMTPSA"])
    return f"{len(clients)} clients, {each:.0f} KiB each"
