"""Real smarthosts: Postfix's smtp-sink, a whole Postfix that delivers to a maildir, aiosmtpd."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import load
import mail
from checks import Failure, check, expect, free_port
from relay import Relay
from sink import Sink

SECONDS = 60


def wait_for_port(port, process, name):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        expect(process.poll() is None, f"{name} ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
                if probe.recv(512).startswith(b"220"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise Failure(f"{name} does not greet")


def start(world, name, command, port, **options):
    """A smarthost of its own process group, ended with the check."""
    log = open(world.folder / f"{name}.log", "wb")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
    )
    log.close()

    def end():
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    world.stack.callback(end)
    wait_for_port(port, process, name)
    return process


def some(world, count=150, octets_max=400_000):
    """The first of the corpus, all kinds of lines, but with a header, so that real smarthosts know where
    the body begins.
    """
    messages = []
    for number in range(count):
        message = mail.corpus(number, world.seed)
        message.data = f"From: <{message.sender}>\r\nX-Number: {number}\r\n\r\n".encode() + message.data
        if len(message.data) <= octets_max:
            messages.append(message)
    return messages


def accept(relay, messages):
    unsent = load.send_all(relay.port, messages, clients=6)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")


def body_of(message):
    """What a mailbox in Unix form shows below the header."""
    return message.data.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n")


def dumped(folder):
    """What smtp-sink has written until now: sender of each file, empty before it is there, and its text."""
    texts = [path.read_bytes() for path in folder.iterdir()]
    return [(text.partition(b"X-Mail-Args: <")[2].partition(b">")[0].decode(), text) for text in texts]


def is_whole(text, message):
    """True when smtp-sink's file ends as the message does, LF for CRLF."""
    text, data = (octets.replace(b"\r\n", b"\n").rstrip(b"\n") for octets in (text, message.data))
    return text.endswith(data)


@check("smarthosts.smtp_sink", 180)
def smtp_sink(world):
    """Each message as one file, one recipient each, named in the file by its sender; octets compared with
    LF for CRLF.
    """
    port = free_port()
    dumps = world.folder_for("dumps")
    os.chmod(dumps, 0o777)
    start(
        world,
        "smtp-sink",
        ["smtp-sink", "-u", "root", "-c", "-d", f"{dumps}/%M.", f"127.0.0.1:{port}", "128"],
        port,
    )
    relay = Relay(world, port).start()
    messages = some(world)
    for message in messages:
        message.recipients = message.recipients[:20]
    accept(relay, messages)
    found = Sink.wait_until(lambda: len(list(dumps.iterdir())) >= len(messages), SECONDS)
    expect(found, f"{len(list(dumps.iterdir()))} of {len(messages)} files")
    wanted = {message.sender: message for message in messages}

    def are_whole():
        files = dumped(dumps)
        return all(sender in wanted and is_whole(text, wanted[sender]) for sender, text in files)

    # A file is there before its message is written to the end. What never gets whole is told below.
    Sink.wait_until(are_whole, 20)
    time.sleep(0.5)
    by_sender = {}
    for sender, text in dumped(dumps):
        expect(sender not in by_sender, f"{sender} arrived twice")
        by_sender[sender] = text
    for message in messages:
        text = by_sender.get(message.sender)
        expect(text is not None, f"{message.sender} did not arrive")
        got = [
            line[14:-1].decode()
            for line in text.split(b"Received:", 1)[0].splitlines()
            if line.startswith(b"X-Rcpt-Args: <")
        ]
        expect(got == message.recipients, f"{message.sender} went to {got[:3]}, not {message.recipients[:3]}")
        expect(is_whole(text, message), f"{message.sender} is changed")
    return f"{len(messages)} messages"


POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = smarthost.test.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
message_size_limit = 20000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = test.example
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:maildir/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_client_connection_count_limit = 0
smtputf8_enable = yes
"""
POSTFIX_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


def postfix(world, port, main="", master="", sasl=""):
    """A private Postfix: configuration, queue and maildir below the check's folder.

    `main` and `master` are added to its files, `sasl` is Cyrus SASL's (Debian looks for it here).
    """
    import pwd

    nobody = pwd.getpwnam("nobody")
    folder = world.folder_for("postfix")
    for name in ("config", "queue", "data", "maildir"):
        (folder / name).mkdir()
    for parent in [folder, *folder.parents]:
        expect(
            parent.stat().st_mode & 0o005 == 0o005,
            f"{parent} is closed to others, Postfix can't work below it",
        )
    os.chown(folder / "maildir", nobody.pw_uid, nobody.pw_gid)
    for name in ("cur", "new", "tmp"):
        (folder / "maildir" / name).mkdir()
        os.chown(folder / "maildir" / name, nobody.pw_uid, nobody.pw_gid)
    os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
    (folder / "config" / "main.cf").write_text(
        POSTFIX_MAIN.format(folder=folder, uid=nobody.pw_uid, gid=nobody.pw_gid) + main
    )
    (folder / "config" / "master.cf").write_text(POSTFIX_MASTER.format(port=port) + master)
    (folder / "config" / "sasl").mkdir()
    (folder / "config" / "sasl" / "smtpd.conf").write_text(sasl)
    config = str(folder / "config")
    subprocess.run(["postfix", "-c", config, "check"], capture_output=True, timeout=60)
    start(world, "postfix", ["/usr/lib/postfix/sbin/master", "-c", config, "-d"], port)
    return folder / "maildir" / "new"


@check("smarthosts.postfix", 150)
def real_postfix(world):
    """One copy a recipient in the maildir; header lines of ours kept, body octet-identical."""
    expect(os.geteuid() == 0, "a private Postfix needs root")
    port = free_port()
    maildir = postfix(world, port)
    relay = Relay(world, port).start()
    messages = [m for m in some(world, 100, 200_000) if max(map(len, m.data.split(b"\r\n"))) <= 990]
    for message in messages:
        message.recipients = message.recipients[:20]
    accept(relay, messages)
    copies = sum(len(message.recipients) for message in messages)
    Sink.wait_until(lambda: sum(1 for _ in maildir.iterdir()) >= copies, 90)
    time.sleep(1)
    wanted = {
        (message.sender, recipient): message for message in messages for recipient in message.recipients
    }
    for path in maildir.iterdir():
        header, body = path.read_bytes().split(b"\n\n", 1)
        lines = header.decode("latin-1").splitlines()
        sender = next(line for line in lines if line.startswith("Return-Path: <"))[14:-1]
        recipient = next(line for line in lines if line.startswith("Delivered-To: "))[14:]
        message = wanted.pop((sender, recipient), None)
        expect(message is not None, f"{sender} to {recipient} is unknown or came twice")
        expect(body == body_of(message), f"{sender} to {recipient}: the body is changed")
        expect(
            sum(line.startswith("Received: ") for line in lines) == 2,
            f"{sender}: Received fields are not ours and Postfix's",
        )
    expect(not wanted, f"{len(wanted)} of {copies} copies are missing, the first: {list(wanted)[:2]}")
    return f"{len(messages)} messages, {copies} copies in a maildir"


AIOSMTPD = """
import asyncio, json, sys
from aiosmtpd.smtp import SMTP

class Handler:
    async def handle_DATA(self, server, session, envelope):
        record = [envelope.mail_from, envelope.rcpt_tos, envelope.original_content.hex()]
        print(json.dumps(record), flush=True)
        return "250 2.0.0 taken"

async def main():
    def session():
        return SMTP(Handler(), data_size_limit=20_000_000, enable_SMTPUTF8=True, hostname="aio.test.example")
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""


@check("smarthosts.aiosmtpd", 90)
def aiosmtpd(world):
    import json

    port = free_port()
    start(world, "aiosmtpd", [sys.executable, "-c", AIOSMTPD, str(port)], port)
    relay = Relay(world, port).start()
    messages = some(world)
    accept(relay, messages)
    log = pathlib.Path(world.folder / "aiosmtpd.log")

    def taken():
        return [
            json.loads(line)
            for line in log.read_text().splitlines(keepends=True)
            if line.startswith("[") and line.endswith("\n")
        ]

    def all_taken():
        return sum(len(recipients) for _, recipients, _ in taken()) >= sum(
            len(m.recipients) for m in messages
        )

    Sink.wait_until(all_taken, SECONDS)
    by_sender = {message.sender: message for message in messages}
    wanted = {(message.sender, recipient) for message in messages for recipient in message.recipients}
    for sender, recipients, text in taken():
        expect(sender in by_sender, f"unknown message from {sender}")
        changed = mail.difference(by_sender[sender], bytes.fromhex(text))
        expect(not changed, f"{sender}: {changed}")
        for recipient in recipients:
            expect((sender, recipient) in wanted, f"{sender} to {recipient} is unknown or came twice")
            wanted.remove((sender, recipient))
    expect(not wanted, f"{len(wanted)} recipients did not get it, the first: {list(wanted)[:2]}")
    return f"{len(messages)} messages in {len(taken())} transactions"
