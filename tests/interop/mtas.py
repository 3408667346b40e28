"""Whole mail servers as clients: Postfix with PIPELINING, Exim with CHUNKING, both in plain and with TLS."""

import os
import pathlib
import pwd
import subprocess

import load
import smarthosts
from checks import check, expect, free_port
from relay import Relay
from secure_clients import Secured
from sink import Sink

EXIM = pathlib.Path(os.environ.get("INTEROP_EXIM", "target/interop-exim/usr/sbin/exim4")).resolve()
SECONDS = 60


def bodies_arrived(sink, messages):
    """All of `messages`, once to each recipient: what is below the header sections, which servers add to."""
    wanted = {(m.sender, recipient): m.data.split(b"\r\n\r\n", 1)[1] for m in messages for recipient in m.recipients}
    Sink.wait_until(lambda: len(sink.delivered()) >= len(wanted), SECONDS)
    sink.wait_quiet(0.5)
    for record in sink.records():
        expect(not record.faults, f"{record.faults[:2]}")
        body = sink.data(record).split(b"\r\n\r\n", 1)[1]
        for recipient in record.recipients:
            expected = wanted.pop((record.sender, recipient), None)
            expect(expected is not None, f"{record.sender} to {recipient} is unknown or came twice")
            expect(body == expected, f"{record.sender} to {recipient}: the body is changed")
    expect(not wanted, f"{len(wanted)} copies are missing, the first: {list(wanted)[:2]}")


def some(world, prefix):
    messages = [m for m in smarthosts.some(world, 60, 200_000) if max(map(len, m.data.split(b"\r\n"))) <= 990]
    for message in messages:
        message.sender = prefix + message.sender
        message.recipients = message.recipients[:20]
    return messages


POSTFIX_MAIN = """
relayhost = [127.0.0.1]:{port}
virtual_mailbox_domains =
smtp_tls_security_level = {level}
smtp_tls_loglevel = 1
smtp_destination_concurrency_limit = 4
"""
POSTFIX_MASTER = """
smtp unix - - n - 4 smtp -v
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
"""


def maillog(world, messages):
    """Postfix's log; another process writes it, later than what it tells of has happened."""
    path = world.folder / "postfix" / "maillog"
    copies = sum(len(message.recipients) for message in messages)
    Sink.wait_until(lambda: path.read_text(errors="replace").count("status=sent") >= copies, SECONDS)
    return path.read_text(errors="replace")


@check("mtas.postfix", 240)
def postfix(world):
    """PIPE-a, TLS-s-a: Postfix relays through us, commands in groups, in plain and by STARTTLS."""
    expect(os.geteuid() == 0, "a private Postfix needs root")
    secured = Secured(world, top="")
    port = free_port()
    main = POSTFIX_MAIN.format(port=secured.starttls, level="may")
    smarthosts.postfix(world, port, main, POSTFIX_MASTER)
    messages = some(world, "p")
    unsent = load.send_all(port, messages, 4)
    expect(not unsent, f"Postfix didn't take {len(unsent)}: {unsent[:1]}")
    bodies_arrived(secured.sink, messages)
    log = maillog(world, messages)
    expect("Using ESMTP PIPELINING" in log, "Postfix didn't use PIPELINING")
    expect(secured.spoken() == {"ESMTPS"}, f"Received says {secured.spoken()}")
    expect("status=deferred" not in log and "status=bounced" not in log, "Postfix met a refusal")
    return f"{len(messages)} messages"


@check("mtas.postfix_in_plain", 240)
def postfix_in_plain(world):
    expect(os.geteuid() == 0, "a private Postfix needs root")
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    port = free_port()
    smarthosts.postfix(world, port, POSTFIX_MAIN.format(port=relay.port, level="none"), POSTFIX_MASTER)
    messages = some(world, "q")
    unsent = load.send_all(port, messages, 4)
    expect(not unsent, f"Postfix didn't take {len(unsent)}: {unsent[:1]}")
    bodies_arrived(sink, messages)
    log = maillog(world, messages)
    expect("Using ESMTP PIPELINING" in log and "status=deferred" not in log, "no PIPELINING, or a refusal")
    return f"{len(messages)} messages"


EXIM_CONFIG = """
primary_hostname = exim.test.example
exim_path = {binary}
exim_user = nobody
exim_group = nogroup
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
never_users =
trusted_users = root : nobody
log_selector = +all
keep_environment =
message_size_limit = 50M
disable_ipv6
begin routers
relay:
  driver = manualroute
  transport = relay
  route_list = * 127.0.0.1::{port} byname
  self = send
begin transports
relay:
  driver = smtp
  hosts_try_chunking = *
  hosts_require_tls = {require}
  hosts_avoid_tls = {avoid}
  tls_verify_hosts = {require}
  tls_verify_cert_hostnames =
  tls_verify_certificates = {authority}
begin retry
* * F,1h,1s
"""


def exim(world, messages, port, authority, with_tls):
    """Hands the messages to an Exim of its own, which delivers each before it ends; returns its log."""
    expect(EXIM.exists(), f"{EXIM} is not there; see README.md")
    expect(os.geteuid() == 0, "a private Exim needs root")
    folder = world.folder_for("exim")
    (folder / "spool").mkdir()
    nobody = pwd.getpwnam("nobody")
    for path in (folder, folder / "spool"):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    config = folder / "exim.conf"
    config.write_text(
        EXIM_CONFIG.format(
            binary=EXIM,
            folder=folder,
            port=port,
            authority=authority.certificate,
            require="*" if with_tls else "",
            avoid="" if with_tls else "*",
        )
    )
    config.chmod(0o644)
    # The binary wants its package's user and group, whom only this mount namespace has.
    users, groups = folder / "passwd", folder / "group"
    for path, line in ((users, "Debian-exim:x:65534:65534::/:/usr/sbin/nologin"), (groups, "Debian-exim:x:65534:")):
        path.write_text(f"{pathlib.Path('/etc', path.name).read_text()}{line}\n")
    script = 'mount --bind "$1" /etc/passwd; mount --bind "$2" /etc/group; shift 2; exec "$@"'
    wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", str(users), str(groups)]
    for message in messages:
        command = [str(EXIM), "-C", str(config), "-odf", "-oi", "-f", message.sender, "--", *message.recipients]
        done = subprocess.run(
            [*wrapper, *command], input=message.data.replace(b"\r\n", b"\n"), capture_output=True, timeout=SECONDS
        )
        expect(done.returncode == 0, f"exim ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    Sink.wait_until(lambda: not list((folder / "spool").rglob("*-H")), SECONDS)
    return (folder / "mainlog").read_text(errors="replace")


@check("mtas.exim", 240)
def exim_with_tls(world):
    """BDAT-a: Exim sends in chunks, by STARTTLS with its check of our certificate."""
    secured = Secured(world, top="")
    messages = some(world, "e")[:25]
    log = exim(world, messages, secured.starttls, secured.authority, True)
    bodies_arrived(secured.sink, messages)
    sent = [line for line in log.splitlines() if " => " in line or " -> " in line]
    expect(sent and all(" K " in line and " X=TLS1" in line for line in sent), f"no chunks or no TLS: {sent[:1]}")
    expect(secured.spoken() == {"ESMTPS"}, f"Received says {secured.spoken()}")
    return f"{len(messages)} messages, {len(sent)} copies"


@check("mtas.exim_in_plain", 240)
def exim_in_plain(world):
    secured = Secured(world, top="")
    messages = some(world, "f")[:25]
    log = exim(world, messages, secured.relay.port, secured.authority, False)
    bodies_arrived(secured.sink, messages)
    sent = [line for line in log.splitlines() if " => " in line or " -> " in line]
    expect(sent and all(" K " in line and " X=" not in line for line in sent), f"no chunks, or TLS: {sent[:1]}")
    expect(secured.spoken() == {"ESMTP"}, f"Received says {secured.spoken()}")
    return f"{len(messages)} messages, {len(sent)} copies"
