"""The secure smarthost: TLS and AUTH as they should be, and wrong in each way that a check asks for.

One thread a connection.
"""

import base64
import socket
import ssl
import threading
import time

from checks import free_port


class Secure:
    """Listens on `port`. `sessions` has one `Seen` a connection; `mail` all mail data that was taken.

    tls          "starttls", "implicit" or "none"
    certificate  (certificate, key) in PEM
    version      (lowest, highest) of ssl.TLSVersion, if not the usual
    behave       what STARTTLS does: "" (as it should), "strip", "refuse", "inject", "garbage", "stall", "drop";
                 with implicit TLS "stall" or "plain"
    mechanisms   what AUTH offers, inside TLS; `plain_mechanisms` before it
    logins       {user: secret}
    replies      {verb: reply} instead of the usual ones to MAIL, RCPT and DATA; "." for the mail data
    refusal      the reply to a wrong login; `endless`: every AUTH line is answered with 334

    While `may_login` is not set, no login is answered.
    """

    def __init__(
        self,
        world,
        certificate=None,
        *,
        tls="starttls",
        version=None,
        behave="",
        mechanisms=("PLAIN", "LOGIN"),
        plain_mechanisms=(),
        logins=None,
        refusal="535 5.7.8 wrong",
        endless=False,
        old_form=False,
        limits=True,
        replies=None,
    ):
        self.tls, self.behave = tls, behave
        self.mechanisms, self.plain_mechanisms = mechanisms, plain_mechanisms
        self.logins, self.refusal, self.endless, self.old_form = logins, refusal, endless, old_form
        self.replies = replies or {}
        self.sessions, self.mail = [], []
        self.may_login = threading.Event()
        self.may_login.set()
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
            if version:
                self.context.set_ciphers("ALL:@SECLEVEL=0")
                self.context.minimum_version, self.context.maximum_version = version
            self.context.sni_callback = self.sni
        self.names = []
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=16)
        world.stack.callback(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def sni(self, _socket, name, _context):
        self.names.append(name)

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen = Seen(self, connection)
            self.sessions.append(seen)
            threading.Thread(target=seen.serve, daemon=True).start()

    def plaintext(self):
        """All octets that came before TLS, or without it."""
        return b"".join(seen.plain for seen in self.sessions)

    def logins_tried(self):
        return sum(seen.logins for seen in self.sessions)


class Seen:
    """One connection, and what it showed."""

    def __init__(self, server, connection):
        self.server, self.socket = server, connection
        self.buffer = b""
        self.plain = b""
        self.lines = []
        self.is_secure = False
        self.version, self.is_resumed = None, None
        self.logins = 0
        self.user = None
        self.error = None
        self.is_over = False

    def serve(self):
        try:
            if self.server.tls == "implicit":
                if self.server.behave == "stall":
                    time.sleep(60)
                if self.server.behave != "plain":
                    self.secure()
            self.say("220 secure.test.example ESMTP")
            while self.command(self.line()):
                pass
        except (OSError, EOFError, ValueError) as error:
            self.error = error
        finally:
            self.is_over = True
            try:
                self.socket = self.socket.unwrap() if self.is_secure else self.socket
            except OSError:
                pass
            self.socket.close()

    def secure(self):
        self.socket = self.server.context.wrap_socket(self.socket, server_side=True)
        self.is_secure = True
        self.version, self.is_resumed = self.socket.version(), self.socket.session_reused

    def say(self, *lines):
        texts = [
            line if index == len(lines) - 1 else f"{line[:3]}-{line[4:]}" for index, line in enumerate(lines)
        ]
        self.socket.sendall("".join(f"{text}\r\n" for text in texts).encode())

    def receive(self):
        octets = self.socket.recv(65536)
        if not octets:
            raise EOFError
        if not self.is_secure:
            self.plain += octets
        self.buffer += octets

    def line(self):
        while b"\r\n" not in self.buffer:
            self.receive()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        self.lines.append(line.decode("latin-1"))
        return self.lines[-1]

    def command(self, line):
        verb = line.split(" ")[0].upper()
        if verb == "EHLO":
            self.hello()
        elif verb == "STARTTLS":
            return self.starttls()
        elif verb == "AUTH":
            self.auth(line.split(" "))
        elif verb in self.server.replies:
            self.say(self.server.replies[verb])
        elif verb == "MAIL":
            self.say("530 5.7.0 login first" if self.server.logins and not self.user else "250 2.1.0 ok")
        elif verb in ("RCPT", "RSET", "NOOP"):
            self.say("250 2.1.5 ok")
        elif verb == "DATA":
            self.say("354 go on")
            while b"\r\n.\r\n" not in self.buffer:
                self.receive()
            data, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
            self.server.mail.append((b"\r\n" + data + b"\r\n").replace(b"\r\n.", b"\r\n")[2:])
            self.say(self.server.replies.get(".", "250 2.0.0 taken"))
        elif verb == "QUIT":
            self.say("221 2.0.0 bye")
            return False
        else:
            self.say("500 5.5.2 what?")
        return True

    def hello(self):
        lines = ["250 secure.test.example", "250 PIPELINING", "250 8BITMIME"]
        if self.server.tls == "starttls" and not self.is_secure and self.server.behave != "strip":
            lines.append("250 STARTTLS")
        mechanisms = self.server.mechanisms if self.is_secure else self.server.plain_mechanisms
        if mechanisms:
            lines.append(f"250 AUTH{'=' if self.server.old_form else ' '}{' '.join(mechanisms)}")
        self.say(*lines)

    def starttls(self):
        behave = self.server.behave
        if behave == "refuse":
            self.say("454 4.7.0 TLS not available")
            return True
        if behave == "inject":
            self.socket.sendall(b"220 go\r\n250-secure.test.example\r\n250 AUTH PLAIN\r\n")
            return True
        self.say("220 go")
        if behave == "garbage":
            self.socket.sendall(b"this is no handshake\r\n" * 20)
        elif behave == "stall":
            time.sleep(60)
        elif behave == "drop":
            return False
        else:
            self.buffer = b""
            self.secure()
            return True
        while True:
            self.receive()

    def auth(self, words):
        self.logins += 1
        self.server.may_login.wait()
        mechanism = words[1].upper()
        if self.server.endless:
            while self.lines[-1] != "*":
                self.say("334 ")
                self.line()
            self.say("501 5.7.0 cancelled")
            return
        if mechanism == "PLAIN":
            answer = words[2] if len(words) > 2 else self.ask("")
            _, user, secret = base64.b64decode(answer).decode().split("\0")
        elif mechanism == "LOGIN":
            user, secret = (
                base64.b64decode(self.ask(prompt)).decode() for prompt in ("VXNlcm5hbWU6", "not base64!")
            )
        else:
            answer = base64.b64decode(words[2] if len(words) > 2 else self.ask("")).decode()
            fields = answer.split("\x01")
            secret = next(field[12:] for field in fields if field.startswith("auth=Bearer "))
            user = fields[0][5:] if mechanism == "XOAUTH2" else fields[0].split(",")[1][2:]
            if self.server.logins.get(user) != secret:
                self.ask(base64.b64encode(b'{"status":"400"}').decode())
        if self.server.logins.get(user) == secret and mechanism in self.server.mechanisms:
            self.user = user
            self.say("235 2.7.0 welcome")
        else:
            self.say(self.server.refusal)

    def ask(self, text):
        self.say(f"334 {text}")
        return self.line()
