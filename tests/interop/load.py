"""The raw client: SMTP over a plain socket, with and without pipelining, alone or many at a time."""

import dataclasses
import socket
import threading
import time


class Closed(Exception):
    """The relay closed the connection or did not answer in time."""


@dataclasses.dataclass
class Reply:
    code: int
    text: str


class Session:
    """One connection. Every wait is bounded by `seconds`."""

    def __init__(self, port, seconds=30, greet=True):
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        except OSError as error:
            raise Closed(str(error)) from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if greet:
            self.expect(self.reply(), 220)
            self.expect(self.command("EHLO client.test.example"), 250)

    @staticmethod
    def expect(reply, code):
        if reply.code != code:
            raise Closed(f"{reply.code} {reply.text}")

    def send(self, octets):
        try:
            self.socket.sendall(octets)
        except OSError as error:
            raise Closed(str(error)) from None

    def line(self):
        while b"\r\n" not in self.buffer:
            try:
                more = self.socket.recv(65536)
            except OSError as error:
                raise Closed(str(error)) from None
            if not more:
                raise Closed("closed by the relay")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def reply(self):
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        return Reply(int(lines[-1][:3]), b"\n".join(lines)[4:].decode("latin-1"))

    def command(self, text):
        self.send(text.encode() + b"\r\n")
        return self.reply()

    def envelope(self, message, size=True):
        extras = (f" SIZE={len(message.data)}" if size else "") + (
            " BODY=8BITMIME" if message.is_8bit else ""
        )
        mail = f"MAIL FROM:<{message.sender}>{extras}"
        return [mail, *(f"RCPT TO:<{recipient}>" for recipient in message.recipients)]

    def begin(self, message, pipelining=True, size=True):
        """Envelope and DATA; returns the first refusal, or the 354."""
        commands = [*self.envelope(message, size), "DATA"]
        if not pipelining:
            for command in commands:
                reply = self.command(command)
                if reply.code not in (250, 354):
                    return reply
            return reply
        self.send("".join(command + "\r\n" for command in commands).encode())
        replies = [self.reply() for _ in commands]
        refused = next((reply for reply in replies[:-1] if reply.code != 250), None)
        if refused and replies[-1].code == 354:
            self.send(b".\r\n")
            self.reply()
        return refused or replies[-1]

    def transaction(self, message, pipelining=True, size=True):
        """One whole mail transaction; returns the reply that decides it."""
        reply = self.begin(message, pipelining, size)
        if reply.code != 354:
            if reply.code // 100 != 2:
                self.command("RSET")
            return reply
        self.send(message.transparent())
        return self.reply()

    def quit(self):
        try:
            self.command("QUIT")
        except Closed:
            pass
        self.close()

    def close(self):
        self.socket.close()


def send_all(port, messages, clients=8, seconds=120):
    """Sends each message until it is answered 250, `clients` at a time; a 4yz waits and tries again.

    Returns those that were not answered 250, with the last reason. Only for a relay that is not killed
    meanwhile: a reply that is lost would be sent again.
    """
    waiting = list(reversed(messages))
    unsent = []
    lock = threading.Lock()
    deadline = time.monotonic() + seconds

    def client(number):
        session = None
        while True:
            with lock:
                if not waiting:
                    break
                message = waiting.pop()
            reason = "no time left"
            while time.monotonic() < deadline:
                try:
                    session = session or Session(port)
                    reply = session.transaction(message, pipelining=number % 2 == 0, size=number % 4 < 2)
                except Closed as closed:
                    session, reason = None, str(closed)
                    if not reason.startswith("421"):
                        break
                    time.sleep(0.05)
                    continue
                reason = f"{reply.code} {reply.text}"
                if reply.code == 250:
                    reason = None
                    break
                if reply.code // 100 == 5:
                    break
                time.sleep(0.05)
            if reason:
                with lock:
                    unsent.append((message, reason))
        if session:
            session.quit()

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 60)
    return unsent
