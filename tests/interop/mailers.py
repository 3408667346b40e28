"""`sendmail` as the programs call it that have always called it: cron, PHP, git, mutt, s-nail, Python."""

import email
import email.message
import email.policy
import os
import pathlib
import shutil
import subprocess
import sys

from checks import check, expect, free_port
from relay import Relay
from sink import Sink

ENVELOPE = {"to": "you@test.example", "cc": "cc@test.example", "bcc": "hidden@test.example"}


class Site:
    """A relay with its smarthost, and a `sendmail` that belongs to it."""

    def __init__(self, world):
        self.sink = Sink(world, free_port()).start()
        self.relay = Relay(world, self.sink.port).start()
        self.home = world.folder_for("home")
        self.sendmail = self.home / "sendmail"
        self.sendmail.write_text(f'#!/bin/sh\nexec "{world.binary}" sendmail -C "{self.relay.config}" "$@"\n')
        self.sendmail.chmod(0o755)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8"}

    def run(self, *command, text="", expected=0):
        """Runs a mail program, which must end with that code."""
        done = subprocess.run(
            [str(word) for word in command], input=text.encode(), capture_output=True, timeout=60,
            env=self.environment, cwd=self.home,
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        expect(done.returncode == expected, f"{command[0]} ended with {done.returncode}: {said[-400:]!r}")
        return said

    def arrived(self, count=1):
        """The messages that came to the smarthost, oldest first: recipients and the parsed message."""
        came = Sink.wait_until(lambda: len(self.sink.records()) >= count, 30)
        records = self.sink.records()
        expect(came and len(records) == count, f"{len(records)} messages came, not {count}")
        parse = email.message_from_bytes
        return [(r, parse(self.sink.data(r), policy=email.policy.default)) for r in records]


def expect_mail(record, message, recipients, subject, words):
    """What every mail program must have brought about."""
    expect(sorted(record.recipients) == sorted(recipients), f"recipients {record.recipients}")
    expect(message["Subject"] == subject, f"subject {message['Subject']!r}")
    body = message.get_body().get_content().replace("\r\n", "\n")
    expect(words in body, f"{words!r} is not in {body[:200]!r}")
    for name in ("From", "Date", "Message-ID"):
        expect(len(message.get_all(name, [])) == 1, f"{name}: {message.get_all(name)}")
    expect("hidden@" not in str(message), "a blind copy shows")
    trace = message.get_all("Received")
    expect(f"(uid {os.getuid()})" in trace[0], f"traces {trace}")


@check("mailers.cron", 120)
def cron(world):
    """A job's output comes as mail, by the real cron: its mailer is /usr/sbin/sendmail and no other."""
    site = Site(world)
    jobs = world.folder_for("jobs")
    (jobs / "crontab").write_text(
        'SHELL=/bin/sh\nMAILTO="you@test.example,root"\n'
        "@reboot root printf 'disk is full\\n.\\nand more: \\303\\274\\n'\n"
    )
    # A mount namespace of its own: no job of the machine runs, and its own sendmail is not touched.
    target = pathlib.Path("/usr/sbin/sendmail")
    made = not target.exists()
    if made:
        target.touch()
        world.stack.callback(target.unlink)
    script = (
        "mount --make-rprivate / && mount -t tmpfs none /run && mount -t tmpfs none /var/spool/cron && "
        "mkdir -p /var/spool/cron/crontabs && mount -t tmpfs none /etc/cron.d && "
        'mount --bind "$1" /etc/crontab && mount --bind "$2" /usr/sbin/sendmail && exec cron -f -L 15'
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(jobs / "crontab"), str(site.sendmail)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    world.stack.callback(process.wait)
    world.stack.callback(process.kill)
    [(record, message)] = site.arrived()
    subject = message["Subject"]
    expect(subject.startswith("Cron <root@"), f"subject {subject!r}")
    expect_mail(record, message, ["you@test.example", "admin@test.example"], subject, "disk is full\n.\nand more: ü")
    expect(record.sender == "root@relay.test.example", f"sender {record.sender}")
    expect(message["Sender"] is None, f"Sender {message['Sender']}: root is who From names")
    return subject


@check("mailers.php")
def php(world):
    """PHP's mail(), with headers of its own; and its false when a recipient is broken."""
    site = Site(world)
    ini = ["php", "-n", "-d", f"sendmail_path={site.sendmail} -t -i"]
    code = (
        'var_dump(mail("You <you@test.example>", "Grüße", "from PHP\\n.\\nend", '
        '["From" => "Shop <shop@test.example>", "Cc" => "cc@test.example", "Bcc" => "hidden@test.example"]));'
    )
    expect("bool(true)" in site.run(*ini, "-r", code), "mail() says false")
    [(record, message)] = site.arrived()
    expect_mail(record, message, ENVELOPE.values(), "Grüße", "from PHP\n.\nend")
    expect(message["Sender"] is not None, "nobody says who sent what Shop is said to have sent")
    expect("bool(false)" in site.run(*ini, "-r", 'var_dump(mail("not an address", "x", "x"));'), "mail() says true")
    given = 'var_dump(mail("you@test.example", "x", "x", "From: shop@test.example", "-fups@test.example"));'
    expect("bool(true)" in site.run(*ini, "-r", given), "mail() with -f says false")
    expect(site.arrived(2)[1][0].sender == "ups@test.example", "-f is not taken")
    return "true, false and -f"


@check("mailers.git_send_email", 120)
def git_send_email(world):
    """A series of two patches by git send-email, the second in reply to the first."""
    site = Site(world)
    gits = [git for git in ("/usr/bin/git", shutil.which("git")) if git and has_send_email(git)]
    expect(gits, "no git has send-email")
    git = [gits[0], "-c", "user.name=Dev", "-c", "user.email=dev@test.example"]
    site.run(*git, "init", "-q", ".")
    for name in ("one", "two"):
        (site.home / name).write_text(f"{name}\n.\n")
        site.run(*git, "add", name)
        site.run(*git, "commit", "-q", "-m", f"Add {name}")
    site.run(
        *git, "send-email", "--quiet", "--confirm=never", "--suppress-cc=all", f"--smtp-server={site.sendmail}",
        "--from=Dev <dev@test.example>", "--to=You <you@test.example>", "--cc=cc@test.example",
        "--bcc=hidden@test.example", "--root", "-2",
    )
    messages = site.arrived(2)
    for number, (record, message) in enumerate(messages, 1):
        name = ("one", "two")[number - 1]
        expect_mail(record, message, ENVELOPE.values(), f"[PATCH {number}/2] Add {name}", f"+{name}\n+.\n")
    first, second = (message for _, message in messages)
    expect(second["In-Reply-To"] == first["Message-ID"], "the thread is broken")
    return "two patches"


def has_send_email(git):
    path = subprocess.run([git, "--exec-path"], capture_output=True, text=True).stdout.strip()
    return (pathlib.Path(path) / "git-send-email").exists()


@check("mailers.mutt")
def mutt(world):
    """mutt, with copies and an attachment."""
    site = Site(world)
    (site.home / "attachment").write_bytes(bytes(range(256)) * 100)
    site.run(
        "mutt", "-n", "-F", "/dev/null", "-e", f'set sendmail="{site.sendmail} -oem -oi"', "-e",
        'set from="me@test.example"', "-e", "set use_from", "-e", "set copy=no", "-s", "By mutt",
        "-c", ENVELOPE["cc"], "-b", ENVELOPE["bcc"], "-a", "attachment", "--", ENVELOPE["to"],
        text="a line\n.\nthe end\n",
    )
    [(record, message)] = site.arrived()
    expect_mail(record, message, ENVELOPE.values(), "By mutt", "a line\n.\nthe end")
    [attachment] = message.iter_attachments()
    expect(attachment.get_content() == bytes(range(256)) * 100, "the attachment is not what it was")
    return "with an attachment"


@check("mailers.s_nail")
def s_nail(world):
    """s-nail, which is mailx on many systems."""
    site = Site(world)
    site.run(
        "s-nail", "-:/", "-S", f"mta={site.sendmail}", "-S", "sendwait", "-S", "v15-compat", "-S",
        "from=me@test.example", "-s", "By s-nail", "-c", ENVELOPE["cc"], "-b", ENVELOPE["bcc"], ENVELOPE["to"],
        text="a line\n.\nthe end\n",
    )
    [(record, message)] = site.arrived()
    expect_mail(record, message, ENVELOPE.values(), "By s-nail", "a line")
    return "with copies"


@check("mailers.python")
def python(world):
    """Python's subprocess, as its documentation shows it, from many at once."""
    site = Site(world)
    message = email.message.EmailMessage()
    message["To"], message["Cc"], message["Bcc"] = ENVELOPE.values()
    message["From"], message["Subject"] = "me@test.example", "By Python"
    message.set_content("a line\n.\n" + "x" * 300_000 + "\nthe end\n")
    octets = message.as_bytes()
    senders = [
        subprocess.Popen([site.sendmail, "-t", "-oi"], stdin=subprocess.PIPE, env=site.environment)
        for _ in range(20)
    ]
    for sender in senders:
        sender.stdin.write(octets)
        sender.stdin.close()
    codes = {sender.wait() for sender in senders}
    expect(codes == {0}, f"ended with {codes}")
    for record, arrived in site.arrived(20):
        expect_mail(record, arrived, ENVELOPE.values(), "By Python", "a line\n.\n")
        text = arrived.get_content().replace("\r\n", "\n")
        expect(text == message.get_content(), "the text is not what it was")
    return f"20 at once, Python {sys.version.split()[0]}"


@check("mailers.no_relay", 90)
def no_relay(world):
    """A relay that is killed and started while mail is handed in: what was taken comes, once or by kill twice."""
    site = Site(world)
    taken, tried = [], 0
    for round_ in range(12):
        if round_ % 4 == 1:
            site.relay.kill()
        if round_ % 4 == 3:
            site.relay.start()
        for number in range(5):
            tried += 1
            name = f"r{round_}n{number}@test.example"
            done = subprocess.run(
                [site.sendmail, "-i", name], input=b"Subject: x\n\nx\n", env=site.environment, timeout=60,
                capture_output=True,
            )
            expect(done.returncode == 0, f"round {round_}: {done.returncode} {done.stderr[-200:]!r}")
            taken.append(name)
    came = Sink.wait_until(lambda: {to for _, to in site.sink.delivered()} >= set(taken), 40)
    expect(came, f"missing {set(taken) - {to for _, to in site.sink.delivered()}}")
    return f"{tried} handed in over 3 kills"
