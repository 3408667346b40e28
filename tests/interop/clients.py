"""Real clients: swaks, curl, msmtp, smtplib, smtp-source. What each sends arrives below the Received field,
once.
"""

import os
import smtplib
import subprocess

import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

SECONDS = 30


def pair(world, **behaviour):
    sink = Sink(world, free_port(), **behaviour).start()
    return Relay(world, sink.port).start(), sink


def run(command, text=b""):
    done = subprocess.run(command, input=text, capture_output=True, timeout=SECONDS)
    said = (done.stdout + done.stderr).decode(errors="replace")
    expect(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {said[-300:]}")
    return said


def texts(world, prefix, count, eight_bit=True):
    """Messages with headers that clients leave alone: dots, 8-bit octets, long lines, some KiB."""
    messages = []
    for number in range(count):
        message = mail.alert(number, 100 + 400 * number, prefix, 1 + number % 3, world.seed)
        extra = b".\r\n..two\r\n...\r\n.hidden\r\n" + b"x" * 990 + b"\r\n\r\n"
        if eight_bit:
            extra += "Größe: 20 °C\r\n".encode()
        message.data = (
            b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%d@test.example>\r\n" % number
            + b"To: <someone@test.example>\r\n"
            + message.data
            + extra
        )
        messages.append(message)
    return messages


def arrived(sink, messages):
    expect(
        sink.wait_for(messages, SECONDS),
        f"after {SECONDS} s {len(sink.records())} of {len(messages)} have arrived",
    )
    sink.wait_quiet(0.3)
    wrong = mail.compare(messages, sink)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")


@check("clients.swaks")
def swaks(world):
    relay, sink = pair(world)
    messages = texts(world, "swaks", 3, eight_bit=False)
    for message in messages:
        path = world.folder / message.sender
        path.write_bytes(message.transparent()[:-2])
        said = run(
            [
                "swaks",
                "--server",
                f"127.0.0.1:{relay.port}",
                "--from",
                message.sender,
                "--to",
                ",".join(message.recipients),
                "--no-data-fixup",
                "--data",
                f"@{path}",
            ]
        )
        expect("<** " not in said, f"swaks saw a refusal: {said[-300:]}")
    arrived(sink, messages)
    return f"{len(messages)} messages"


@check("clients.curl")
def curl(world):
    relay, sink = pair(world)
    messages = texts(world, "curl", 5)
    for message in messages:
        path = world.folder / message.sender
        path.write_bytes(message.data)
        run(
            [
                "curl",
                "-sS",
                f"smtp://127.0.0.1:{relay.port}/client.test.example",
                "--mail-from",
                message.sender,
                *(word for recipient in message.recipients for word in ("--mail-rcpt", recipient)),
                "--upload-file",
                str(path),
            ]
        )
    arrived(sink, messages)
    return f"{len(messages)} messages"


@check("clients.msmtp")
def msmtp(world):
    relay, sink = pair(world)
    messages = texts(world, "msmtp", 5)
    for message in messages:
        run(
            [
                "msmtp",
                "--file=/dev/null",
                "--host=127.0.0.1",
                f"--port={relay.port}",
                f"--from={message.sender}",
                "--set-date-header=off",
                "--set-msgid-header=off",
                "--",
                *message.recipients,
            ],
            message.data.replace(b"\r\n", b"\n"),
        )
    arrived(sink, messages)
    return f"{len(messages)} messages"


@check("clients.smtplib")
def python_smtplib(world):
    """One connection for all; also VRFY, NOOP, HELP, RSET in between, and HELO instead of EHLO."""
    relay, sink = pair(world)
    messages = texts(world, "smtplib", 20)
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=SECONDS) as client:
        for number, message in enumerate(messages):
            options = ["BODY=8BITMIME"] if number % 2 else []
            refused = client.sendmail(message.sender, message.recipients, message.data, options)
            expect(not refused, f"smtplib saw refusals: {refused}")
            expect(client.noop()[0] == 250, "NOOP was not answered 250")
            expect(client.rset()[0] == 250, "RSET was not answered 250")
            expect(client.docmd("VRFY", "root")[0] in (250, 252), "VRFY was not answered 250 or 252")
            expect(client.docmd("HELP")[0] in (211, 214), "HELP was not answered 211 or 214")
    old = texts(world, "helo", 2, eight_bit=False)
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=SECONDS) as client:
        client.helo("old.test.example")
        for message in old:
            expect(
                not client.sendmail(message.sender, message.recipients, message.data), "refused after HELO"
            )
    arrived(sink, messages + old)
    return f"{len(messages) + len(old)} messages"


@check("clients.smtp_source")
def smtp_source(world):
    """500 messages over 20 sessions; what it sends directly to the sink is the measure of what comes
    through the relay.
    """
    relay, sink = pair(world)
    direct = Sink(world, free_port(), name="direct").start()
    for port, count in ((direct.port, 1), (relay.port, 500)):
        run(
            [
                "smtp-source",
                "-c",
                "-N",
                "-f",
                "source@test.example",
                "-t",
                "to@test.example",
                "-l",
                "3000",
                "-s",
                str(min(20, count)),
                "-m",
                str(count),
                f"127.0.0.1:{port}",
            ]
        )
    done = sink.wait_until(lambda: len(sink.delivered()) >= 500, SECONDS)
    expect(done, f"after {SECONDS} s {len(sink.delivered())} of 500 have arrived")
    sink.wait_quiet(0.3)
    doubled = [pair for pair, count in sink.delivered().items() if count > 1]
    expect(
        not doubled and len(sink.records()) == 500,
        f"doubled: {doubled[:3]}, {len(sink.records())} transactions",
    )
    body = direct.data(direct.records()[0]).split(b"\r\n\r\n", 1)[1]
    for record in sink.records():
        expect(not record.faults, f"{record.faults[:2]}")
        expect(
            sink.data(record).split(b"\r\n\r\n", 1)[1] == body,
            f"the body to {record.recipients} is another one",
        )
    return f"500 messages of {len(body)} octets over 20 sessions"


@check("clients.msmtp_at_once")
def many_at_once(world):
    """Ten msmtp at once, as cron on the full hour does it."""
    relay, sink = pair(world)
    messages = texts(world, "cron", 10)
    running = []
    for message in messages:
        path = world.folder / message.sender
        path.write_bytes(message.data.replace(b"\r\n", b"\n"))
        with open(path, "rb") as text:
            running.append(
                subprocess.Popen(
                    [
                        "msmtp",
                        "--file=/dev/null",
                        "--host=127.0.0.1",
                        f"--port={relay.port}",
                        f"--from={message.sender}",
                        "--set-date-header=off",
                        "--set-msgid-header=off",
                        "--",
                        *message.recipients,
                    ],
                    stdin=text,
                    stderr=subprocess.PIPE,
                    env=dict(os.environ),
                )
            )
    for process in running:
        said = process.communicate(timeout=SECONDS)[1]
        expect(process.returncode == 0, f"msmtp ended with {process.returncode}: {said[-300:]}")
    arrived(sink, messages)
    return f"{len(messages)} at once"


@check("clients.login")
def login(world):
    """AUTH-s-a, AUTH-s-c: swaks, curl and smtplib log in by PLAIN and LOGIN; a wrong password gets no further,
    and no password is in the log (SEC-cred-a).
    """
    sink = Sink(world, free_port()).start()
    user, password = "printer", "secret-of-the-printer"
    relay = Relay(world, sink.port, top="allow = []\n", users={user: password}).start()
    messages = texts(world, "login", 6, eight_bit=False)
    for message, mechanism in zip(messages[:2], ("PLAIN", "LOGIN")):
        path = world.folder / message.sender
        path.write_bytes(message.transparent()[:-2])
        envelope = ["--from", message.sender, "--to", ",".join(message.recipients)]
        data = ["--no-data-fixup", "--data", f"@{path}"]
        server = ["swaks", "--server", f"127.0.0.1:{relay.port}", *data, *envelope]
        said = run([*server, "--auth", mechanism, "--auth-user", user, "--auth-password", password])
        expect("235 2.7.0" in said, f"swaks heard {said[-300:]}")
        wrong = subprocess.run(
            [*server, "--auth", mechanism, "--auth-user", user, "--auth-password", "wrong"],
            capture_output=True,
            timeout=SECONDS,
        )
        is_refused = wrong.returncode != 0 and b"535 5.7.8" in wrong.stdout
        expect(is_refused, f"swaks with a wrong password: {wrong.stdout[-300:]}")
    for message, option in zip(messages[2:4], ("AUTH=PLAIN", "AUTH=LOGIN")):
        path = world.folder / message.sender
        path.write_bytes(message.data)
        recipients = [word for recipient in message.recipients for word in ("--mail-rcpt", recipient)]
        run(["curl", "-sS", "--url", f"smtp://127.0.0.1:{relay.port}/curl.test.example", "--login-options", option,
             "--user", f"{user}:{password}", "--mail-from", message.sender, *recipients, "--upload-file", str(path)])
    for message in messages[4:]:
        with smtplib.SMTP("127.0.0.1", relay.port, "smtplib.test.example", SECONDS) as client:
            client.login(user, password)
            client.sendmail(message.sender, message.recipients, message.data)
    with smtplib.SMTP("127.0.0.1", relay.port, "smtplib.test.example", SECONDS) as client:
        client.ehlo()
        client.mail("stranger@test.example")
        code, text = client.rcpt("admin@elsewhere.example")
        expect(code == 530, f"without a login: {code} {text}")
    arrived(sink, messages)
    log = relay.log()
    expect(password not in log, "the password is in the log")
    return f"{len(messages)} messages by {user}"


@check("clients.chunks")
def chunks(world):
    """BDAT-a, U8-a: chunks of any size, and addresses in UTF-8, arrive as they are."""
    relay, sink = pair(world, extensions=["PIPELINING", "SIZE 20000000", "8BITMIME", "SMTPUTF8"])
    messages = texts(world, "chunks", 4)
    for number, message in enumerate(messages):
        with smtplib.SMTP("127.0.0.1", relay.port, "chunks.test.example", SECONDS) as client:
            client.ehlo()
            client.mail(message.sender, ["BODY=8BITMIME"])
            for recipient in message.recipients:
                client.rcpt(recipient)
            size = (1, 7, 1000, 1_000_000)[number]
            pieces = [message.data[at : at + size] for at in range(0, len(message.data), size)]
            for piece in pieces:
                client.send(b"BDAT %d\r\n" % len(piece) + piece)
                code, text = client.getreply()
                expect(code == 250, f"{code} {text}")
            code, text = client.docmd("BDAT 0 LAST")
            expect(code == 250 and text.startswith(b"2.0.0 Queued"), f"{code} {text}")
    arrived(sink, messages)
    return f"{len(messages)} messages"
