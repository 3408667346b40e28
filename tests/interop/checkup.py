"""`postern check`: a way that works, and one for each thing that is wrong, whose text names the cause."""

import os
import pathlib
import pty
import re
import subprocess
import time

from authority import Authority, pin, self_signed
from checks import check, expect, free_port
from endpoint import error, token
from secure import Secure
from secure_smarthosts import secure_postfix
from sink import Sink
from tokens import Place, table
from tls import PASSWORD, USER, secret_file, settings

LINE = re.compile(r"\d\d:\d\d:\d\d (ok|note|FAIL)\s+\w+\s+\S.*|\s+-> .*")


def checkup(world, name, port, *arguments, top="", binary=None, wrapper=(), secret=None, **keys):
    """Runs it; returns its exit code and what it printed, each line of which has the one form."""
    folder = world.folder_for(name)
    keys = {"user": USER, "password_file": secret or secret_file(world), **keys}
    keys = {key: value for key, value in keys.items() if value is not None}
    config = folder / "postern.toml"
    config.write_text(
        f'hostname = "relay.test.example"\nadmin = "admin@test.example"\n{top}'
        f"[smarthost]\nport = {port}\n{settings(**keys)}"
        f'[spool]\npath = "{folder}/spool"\n'
    )
    done = subprocess.run(
        [*wrapper, binary or world.binary, "check", "--config", str(config), *arguments],
        capture_output=True,
        timeout=60,
    )
    printed = done.stdout.decode()
    for line in printed.splitlines():
        expect(LINE.fullmatch(line), f"{name}: {line!r}")
    expect(PASSWORD not in printed + done.stderr.decode(), f"{name}: the password is shown")
    return done.returncode, printed, done.stderr.decode()


def expect_cause(world, name, port, code, *words, **keys):
    """It ends with `code`, a FAIL, advice, one line on stderr; and names all of `words`."""
    found, printed, stderr = checkup(world, name, port, **keys)
    expect(found == code, f"{name}: exit code {found}, not {code}: {printed}{stderr}")
    expect("FAIL" in printed and "->" in printed, f"{name}: {printed}")
    expect(len(stderr.splitlines()) == 1, f"{name}: {stderr!r}")
    missing = [word for word in words if word not in printed]
    expect(not missing, f"{name}: {missing} is not in {printed}")


@check("checkup.works", 60)
def works(world):
    """A good way is shown step by step, nothing is sent; with --send one message is."""
    authority = Authority(world)
    ca = str(authority.certificate)
    certificate = authority.issue("good", last_day=72)
    for tls in ("starttls", "implicit"):
        server = Secure(world, certificate, tls=tls, logins={USER: PASSWORD})
        code, printed, stderr = checkup(world, tls, server.port, tls=tls, ca_file=ca)
        expect((code, stderr) == (0, ""), f"{code}: {printed}{stderr}")
        steps = [line.split()[2] for line in printed.splitlines()]
        for step in ("resolve", "connect", "greeting", "tls", "offers", "login", "sender", "recipient"):
            expect(step in steps, f"no step {step}: {printed}")
        expect(f"pin {pin(certificate[0])}" in printed, printed)
        expect("for 71 days" in printed or "for 72 days" in printed, printed)
        expect(not server.mail and "DATA" not in " ".join(server.sessions[-1].lines), "mail was sent")
        code, printed, stderr = checkup(
            world, f"{tls}-send", server.port, "--send", "you@test.example", tls=tls, ca_file=ca
        )
        expect(code == 0 and "250 2.0.0 taken" in printed, f"{code}: {printed}{stderr}")
        expect(len(server.mail) == 1 and b"postern check" in server.mail[0], f"{server.mail}")
    return "both kinds of TLS"


@check("checkup.faults", 300)
def faults(world):
    """One thing is wrong at a time."""
    authority, stranger = Authority(world), Authority(world, "stranger")
    ca = {"ca_file": str(authority.certificate)}
    good = authority.issue("good")
    logins = {USER: PASSWORD}

    def server(certificate=good, **keys):
        return Secure(world, certificate, logins=logins, **keys)

    count = 0
    own = self_signed(world)
    refusals = {"MAIL": "550 5.7.60 Client does not have permissions to send as this sender"}
    cases = [
        ("wrong_port", free_port(), 14, ("refused", "587"), ca),
        ("no_such_name", 587, 13, ("NXDOMAIN", "spelling"), {"host": "nosuch.invalid", **ca}),
        ("wrong_ca", server(stranger.issue("theirs")).port, 16, ("authority", "ca_file"), ca),
        ("self_signed", server(own).port, 16, ("self-signed", f'pins = ["{pin(own[0])}"]'), ca),
        (
            "expired",
            server(authority.issue("old", first_day=-90, last_day=-1)).port,
            16,
            ("expired", "renew"),
            ca,
        ),
        (
            "wrong_name",
            server(authority.issue("other", san="DNS:other.test.example")).port,
            16,
            ("another name", "smarthost.host"),
            ca,
        ),
        ("stripped", server(behave="strip").port, 16, ("STARTTLS", "465"), ca),
        ("no_auth", server(mechanisms=()).port, 17, ("offers no AUTH",), ca),
        (
            "wrong_password",
            server().port,
            17,
            ("535 5.7.8", "password"),
            {"secret": secret_file(world, "wrong password", name="wrong-secret"), **ca},
        ),
        ("exposed", server().port, 11, ("0600", "chmod"), {"secret": secret_file(world, mode=0o644, name="exposed-secret"), **ca}),
        ("sender_refused", server(replies=refusals).port, 18, ("5.7.60", "sender.envelope"), ca),
        ("recipient_refused", server(replies={"RCPT": "550 5.1.1 no such user"}).port, 19, ("5.1.1", "recipient"), ca),
        ("relay_denied", server(replies={"RCPT": "554 5.7.1 Relay access denied"}).port, 19, ("login",), ca),
        ("quota", server(replies={"MAIL": "450 4.2.1 daily limit exceeded"}).port, 18, ("goes on later",), ca),
    ]
    for name, port, code, words, keys in cases:
        expect_cause(world, name, port, code, *words, **keys)
        count += 1
    if world.unset_clock_binary:
        expect_cause(
            world, "clock_1970", server().port, 12, "clock is not set", "ntpd", binary=world.unset_clock_binary, **ca
        )
        count += 1
    if os.geteuid() == 0:
        conf = world.folder / "resolv.conf"
        conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        mount = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
        no_dns = ["unshare", "--mount", "sh", "-c", mount, "sh"]
        expect_cause(
            world, "no_dns", 587, 13, "resolv.conf", wrapper=no_dns, host="smtp.test.example", **ca
        )
        no_route = ["unshare", "--net", "--"]
        expect_cause(world, "no_route", 587, 14, "no route", wrapper=no_route, host="192.0.2.25", **ca)
        count += 2
    return f"{count} causes named"


@check("checkup.setup", 60)
def setup(world):
    """Four answers make a configuration that is checked, and with which an alert leaves at once."""
    authority = Authority(world)
    server = Secure(world, authority.issue("good"), logins={USER: PASSWORD})
    folder = world.folder_for("setup")
    config, secret = folder / "postern.toml", folder / "postern.secret"
    expect(os.geteuid() == 0, "to be this system's authority for a moment needs root")
    trusted = "/etc/ssl/certs/ca-certificates.crt"
    trust = ["unshare", "--mount", "sh", "-c", f'mount --bind {authority.certificate} {trusted} && exec "$@"', "sh"]

    def run(answers):
        done = subprocess.run(
            [*trust, world.binary, "setup", "--config", str(config)],
            input=answers.encode(),
            capture_output=True,
            timeout=60,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    host = f"localhost:{server.port}"
    code, printed, stderr = run(f"{host}\n{USER}\nwrong password\n\nn\n")
    expect(code == 17 and "535 5.7.8" in printed, f"{code}: {printed}{stderr}")
    expect(not config.exists() and not secret.exists(), "what was not wanted is still there")
    code, printed, stderr = run(f"{host}\n{USER}\n{PASSWORD}\n\n")
    expect(code == 0, f"{code}: {printed}{stderr}")
    expect(PASSWORD not in printed + stderr + config.read_text(), "the password is shown")
    modes = [oct(path.stat().st_mode & 0o777) for path in (config, secret)]
    expect(modes == ["0o644", "0o600"], f"{modes}")
    expect(f'header_from = "{USER}"' in config.read_text(), config.read_text())
    code, printed, stderr = run(f"{host}\n")
    expect(code == 78 and "already" in stderr, f"{code}: {printed}{stderr}")
    done = subprocess.run(
        [*trust, world.binary, "check", "--config", str(config), "--send", USER],
        capture_output=True,
        timeout=60,
    )
    expect(done.returncode == 0 and len(server.mail) == 1, f"{done}")
    return "refused, written, and a test message came"


class Terminal:
    """A person at a terminal: types an answer when a question stands there, and keeps all that is seen."""

    def __init__(self, command):
        self.seen = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)

    def read_until(self, words, seconds=60):
        end = time.monotonic() + seconds
        start = len(self.seen)
        while words not in self.seen[start:]:
            expect(time.monotonic() < end, f"no {words!r} in {self.seen}")
            try:
                self.seen += os.read(self.terminal, 4096).decode()
            except OSError:
                expect(False, f"it ended without {words!r}: {self.seen}")

    def answer(self, question, text):
        self.read_until(question)
        os.write(self.terminal, f"{text}\n".encode())

    def end(self):
        """Its exit code."""
        try:
            while octets := os.read(self.terminal, 4096):
                self.seen += octets.decode()
        except OSError:
            pass
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@check("checkup.session", 120)
def session(world):
    """From nothing to the first alert, at a terminal, with a real Postfix behind TLS and a login."""
    port, _, maildir, authority, _ = secure_postfix(world)
    folder = world.folder_for("first")
    config, log = folder / "postern.toml", folder / "log"
    trusted = "/etc/ssl/certs/ca-certificates.crt"
    mount = f'mount --bind {authority.certificate} {trusted} && exec "$@"'
    trust = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    start = time.monotonic()
    terminal = Terminal([*trust, world.binary, "setup", "--config", str(config)])
    terminal.answer("Smarthost", f"localhost:{port}")
    terminal.answer("User", USER)
    terminal.answer("Password", PASSWORD)
    terminal.answer("Who is told", "")
    code = terminal.end()
    expect(code == 0, f"{code}: {terminal.seen}")
    expect(PASSWORD not in terminal.seen, "the password is shown")
    checked = Terminal([*trust, world.binary, "check", "--config", str(config), "--send", "admin@test.example"])
    code = checked.end()
    expect(code == 0, f"{code}: {checked.seen}")
    # What this machine has already is no part of the session: its port 25, its spool, its sockets.
    text = config.read_text().replace('"127.0.0.1:25"', f'"127.0.0.1:{free_port()}"')
    sockets = f'[control]\npath = "{folder}/control.sock"\n[submit]\npath = "{folder}/submit.sock"\n'
    config.write_text(f'{text}\n[spool]\npath = "{folder}/spool"\n{sockets}')
    with open(log, "wb") as written:
        relay = subprocess.Popen([*trust, world.binary, "serve", "--config", str(config)], stderr=written)
    world.stack.callback(relay.kill)
    expect(Sink.wait_until(lambda: "listening" in log.read_text(), 20), log.read_text())
    alert = b"Subject: first alert\n\nIt works.\n"
    handed_in = subprocess.run(
        [world.binary, "sendmail", "-C", str(config), "root"], input=alert, capture_output=True, timeout=30
    )
    expect(handed_in.returncode == 0, f"{handed_in}")

    def has_come():
        return any(b"first alert" in path.read_bytes() for path in maildir.iterdir())

    expect(Sink.wait_until(has_come, 30), log.read_text())
    seconds = time.monotonic() - start
    relay.terminate()
    expect(relay.wait(20) == 0, log.read_text())
    recorded = pathlib.Path(world.folder).parent / "first-alert.txt"
    recorded.write_text(
        f"$ postern setup\n{terminal.seen}\n$ postern check --send admin@test.example\n{checked.seen}\n"
        f"$ postern serve &\n{log.read_text()}\n$ printf 'Subject: first alert\\n\\nIt works.\\n' | sendmail root\n"
    )
    return f"setup, check, serve and the first alert in {seconds:.1f} s; recorded in {recorded.name}"


@check("checkup.listener", 60)
def listener(world):
    """The certificate that clients are shown: one that has expired, or soon will, is told; one that doesn't do is refused."""
    authority = Authority(world)
    server = Secure(world, authority.issue("good"), logins={USER: PASSWORD})
    ca = str(authority.certificate)
    key = f"listener_tls.certificate: {authority.folder}"
    # Days are whole ones, counted down.
    for name, last_day, told in (
        ("fine", 100, ()),
        ("soon", 10, (f"{key}/soon.pem: is valid for 9 days, which is soon", f"{key}/soon.pem: is valid for 10 days, which is soon")),
        ("expired", -2, (f"{key}/expired.pem: has expired 2 days ago", f"{key}/expired.pem: has expired 3 days ago")),
    ):
        certificate, secret = authority.issue(name, last_day=last_day)
        tables = f'listen = [{{ address = "127.0.0.1:0", tls = "starttls" }}]\n[listener_tls]\ncertificate = "{certificate}"\nkey = "{secret}"\n'
        code, printed, stderr = checkup(world, name, server.port, top=tables, ca_file=ca)
        step = next((line for line in printed.splitlines() if line.split()[2] == "listener"), "none")
        expect((code, stderr) == (0, "") and step.split()[1] == ("note" if told else "ok"), f"{name}: {code} {step}")
        expect(not told or step.split(maxsplit=3)[3] in told, f"{name}: {step}")
        config = world.folder / name / "postern.toml"
        done = subprocess.run(
            [world.binary, "check", "--offline", "--config", config], capture_output=True, text=True, timeout=60
        )
        notes = [f"note: {line}\nok\n" for line in told] or ["ok\n"]
        expect((done.returncode, done.stderr) == (0, "") and done.stdout in notes, f"{name}: {done}")
    secret.chmod(0o644)
    code, printed, stderr = checkup(world, "exposed", server.port, top=tables, ca_file=ca)
    expect((code, printed) == (78, "") and "may be read by others" in stderr, f"exposed: {code} {printed}{stderr}")
    return "good, soon to expire, expired, exposed"


@check("checkup.token", 60)
def access_token(world):
    """With a login by access tokens, one is asked for as the relay would; a refusal is told in the endpoint's words."""
    place = Place(world, token("access-1"), mechanisms=("XOAUTH2",))
    keys, _ = table(world, place.endpoint, "good")
    code, printed, stderr = checkup(world, "token", place.server.port, password_file=None, **keys, **place.ca)
    expect(code == 0 and f"as {USER}: 235" in printed, f"{code}: {printed}{stderr}")
    expect("access-1" not in printed + stderr, "the token is shown")
    place = Place(world, error("invalid_grant", "it was revoked"), mechanisms=("XOAUTH2",))
    keys, _ = table(world, place.endpoint, "revoked")
    expect_cause(
        world, "revoked", place.server.port, 17, "revoked", "postern login", password_file=None, **keys, **place.ca
    )
    return "asked for, and refused"
