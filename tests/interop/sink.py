"""The raw smarthost: one thread, epoll; records every transaction with its octets, plays faults on demand.

It runs as a process of its own. Class `Sink` starts it and reads what it wrote: `records` has one JSON line
for each mail data that reached its end, written before the reply is sent; `data` has the octets,
transparency undone. Behaviour comes as JSON, first as an argument, so that it holds before anybody can
connect, then in lines on its standard input; each is confirmed on its standard output:

    extensions   list of EHLO lines
    delay        seconds before each batch of replies
    close_after  list; connection i closes after reply close_after[i % n] (0: never), counted from the
                 greeting as 1
    drop_dots    so many mail data end with the connection closed before the reply (-1: all)
    rcpt_max     further recipients of a transaction get 452
    later        true: see below
    refuse       true: see below
    refusal      the reply to a recipient that is refused, its octets as latin-1
    no_null      true: MAIL with the null reverse-path gets 501

Recipients that begin with `refused` get 550; with `later`, 451 while `later` is true. Senders that begin
with `baddata` get 554 at the end of their data. `refuse` true: all recipients get 550.
"""

import argparse
import collections
import heapq
import json
import os
import selectors
import socket
import subprocess
import sys
import time

Record = collections.namedtuple("Record", "time sender recipients offset octets is_answered session faults")
EXTENSIONS = ["PIPELINING", "SIZE 20000000", "8BITMIME", "ENHANCEDSTATUSCODES"]


class Sink:
    """A sink process on `port`, and what it got so far (also over restarts)."""

    def __init__(self, world, port, *, name="sink", address="127.0.0.1", **behaviour):
        self.folder = world.folder_for(name)
        self.port = port
        self.address = address
        self.process = None
        self.behaviour = behaviour
        world.stack.callback(self.stop)
        self.parsed = []
        self.read_to = 0

    def start(self):
        self.process = subprocess.Popen(
            [
                sys.executable,
                os.path.abspath(__file__),
                str(self.port),
                str(self.folder),
                self.address,
                json.dumps(self.behaviour),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process.stdout.readline()
        return self

    def behave(self, **behaviour):
        """Changes the behaviour and waits until it holds."""
        self.process.stdin.write(json.dumps(behaviour) + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def stop(self):
        """The smarthost is down: connections are refused."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def records(self):
        """All transactions so far, oldest first, but for notices."""
        return [record for record in self.all_records() if record.sender]

    def notices(self):
        """Those with the null reverse-path."""
        return [record for record in self.all_records() if not record.sender]

    def all_records(self):
        path = self.folder / "records"
        if path.exists():
            with open(path, "rb") as file:
                file.seek(self.read_to)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self.read_to += len(line)
                    self.parsed.append(Record(*json.loads(line)))
        return self.parsed

    def data(self, record):
        """The mail data of one transaction."""
        with open(self.folder / "data", "rb") as file:
            file.seek(record.offset)
            return file.read(record.octets)

    def delivered(self):
        """(sender, recipient) pairs that were answered 250, with their counts."""
        return collections.Counter(
            (r.sender, to) for r in self.records() if r.is_answered for to in r.recipients
        )

    def wait_for(self, messages, seconds):
        """Waits until each recipient of `messages` has a copy; returns whether that came about in time."""
        wanted = {(message.sender, to) for message in messages for to in message.recipients}
        return self.wait_until(lambda: wanted <= self.delivered().keys(), seconds)

    @staticmethod
    def wait_until(condition, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def wait_quiet(self, seconds=0.5, longest=30):
        """Waits until nothing has arrived for `seconds`."""
        deadline = time.monotonic() + longest
        count, since = len(self.all_records()), time.monotonic()
        while time.monotonic() < min(since + seconds, deadline):
            time.sleep(0.02)
            if len(self.all_records()) != count:
                count, since = len(self.all_records()), time.monotonic()


class Connection:
    """One session at the sink."""

    def __init__(self, server, sock, number):
        self.server, self.socket, self.number = server, sock, number
        closing = server.behaviour["close_after"]
        self.replies_left = closing[number % len(closing)] if closing else 0
        self.input = bytearray()
        self.searched = 0
        self.output = b""
        self.pending = []
        self.is_closing = False
        self.in_data = False
        self.chunk = None
        self.faults = []
        self.sender, self.recipients, self.offered = None, [], 0
        self.may_pipeline = False
        self.reply("220 sink.test.example ESMTP")

    def reply(self, text):
        """Queues one reply; after the last one this connection may give, it closes."""
        if self.is_closing:
            return
        self.pending.append(text)
        if self.replies_left:
            self.replies_left -= 1
            self.is_closing = not self.replies_left

    def drop(self):
        """Closes without another word."""
        self.pending.clear()
        self.is_closing = True

    def consume(self, octets):
        """New octets from the relay."""
        self.input += octets
        while not self.is_closing:
            if self.chunk is not None:
                if len(self.input) < self.chunk:
                    return
                raw = bytes(self.input[: self.chunk])
                del self.input[: self.chunk]
                self.chunk = None
                self.message(raw, raw)
                continue
            if self.in_data:
                if not self.mail_data():
                    return
                continue
            end = self.input.find(b"\n")
            if end < 0:
                if len(self.input) > 4096:
                    self.faults.append("a command line without an end")
                    self.drop()
                return
            line = bytes(self.input[: end + 1])
            del self.input[: end + 1]
            if not line.endswith(b"\r\n"):
                self.faults.append(f"a command line without CRLF: {line[:60]!r}")
            if self.input and not self.may_pipeline and not line.startswith(b"BDAT"):
                self.faults.append("commands were pipelined, and PIPELINING was not offered")
            self.command(line.rstrip(b"\r\n").decode("latin-1"))

    def command(self, line):
        verb = line.split(" ")[0].upper()
        behaviour = self.server.behaviour
        if verb == "EHLO":
            lines = ["sink.test.example", *behaviour["extensions"]]
            self.may_pipeline = "PIPELINING" in behaviour["extensions"]
            self.reply(
                "\r\n".join(f"250{'-' if n < len(lines) - 1 else ' '}{text}" for n, text in enumerate(lines))
            )
        elif verb in ("HELO", "NOOP"):
            self.reply("250 sink.test.example")
        elif verb == "MAIL":
            self.mail(line)
        elif verb == "RCPT":
            self.rcpt(line)
        elif verb == "DATA":
            if not self.recipients:
                self.reply("503 5.5.1 no valid recipients")
            else:
                self.in_data, self.searched = True, 0
                self.reply("354 go on")
        elif verb == "BDAT":
            _, octets, last = line.split(" ")
            if "CHUNKING" not in behaviour["extensions"] or last != "LAST":
                self.faults.append(f"unexpected: {line[:60]!r}")
            self.chunk = int(octets)
        elif verb == "RSET":
            self.sender, self.recipients = None, []
            self.reply("250 2.0.0 ok")
        elif verb == "QUIT":
            self.reply("221 2.0.0 bye")
            self.is_closing = True
        else:
            self.faults.append(f"unknown command {line[:60]!r}")
            self.reply("500 5.5.2 what?")

    def mail(self, line):
        if self.sender is not None or not line.upper().startswith("MAIL FROM:<") or ">" not in line:
            self.faults.append(f"out of order or malformed: {line[:80]!r}")
            self.reply("503 5.5.1 bad sequence")
            return
        sender = line[11 : line.index(">")]
        if not sender and self.server.behaviour["no_null"]:
            self.reply("501 5.1.7 Invalid MAIL FROM address provided")
            return
        self.sender, self.recipients, self.offered = sender, [], 0
        self.reply("250 2.1.0 ok")

    def rcpt(self, line):
        behaviour = self.server.behaviour
        if self.sender is None or not line.upper().startswith("RCPT TO:<") or ">" not in line:
            self.faults.append(f"out of order or malformed: {line[:80]!r}")
            self.reply("503 5.5.1 bad sequence")
            return
        recipient = line[9 : line.index(">")]
        if recipient.startswith("refused") or behaviour["refuse"]:
            self.reply(behaviour["refusal"])
        elif recipient.startswith("later") and behaviour["later"]:
            self.reply("451 4.2.1 not now")
        elif behaviour["rcpt_max"] and len(self.recipients) >= behaviour["rcpt_max"]:
            self.reply("452 4.5.3 too many recipients")
        else:
            self.recipients.append(recipient)
            self.reply("250 2.1.5 ok")

    def mail_data(self):
        """Looks for the end of mail data; False when more is needed."""
        if self.input.startswith(b".\r\n"):
            end, after = 0, 3
        else:
            at = self.input.find(b"\r\n.\r\n", max(0, self.searched - 4))
            if at < 0:
                self.searched = len(self.input)
                return False
            end, after = at + 2, at + 5
        raw = bytes(self.input[:end])
        del self.input[:after]
        self.in_data = False
        if (b"\r\n" + raw).count(b"\r\n.") != (b"\r\n" + raw).count(b"\r\n.."):
            self.faults.append("a dot at the start of a line that is not doubled")
        self.message(raw, (b"\r\n" + raw).replace(b"\r\n.", b"\r\n")[2:])
        return True

    def message(self, raw, data):
        """All of a message has come: `raw` as it was sent, and `data`, transparency undone."""
        self.look_at_lines(raw)
        if self.sender is None or not self.recipients:
            self.reply("503 5.5.1 no valid recipients")
            return
        behaviour = self.server.behaviour
        is_refused = self.sender.startswith("baddata")
        is_dropped = behaviour["drop_dots"] != 0
        if is_dropped and behaviour["drop_dots"] > 0:
            behaviour["drop_dots"] -= 1
        if not is_refused:
            self.server.record(self, data, is_answered=not is_dropped)
        self.sender, self.recipients = None, []
        if is_dropped:
            self.drop()
        else:
            self.reply("554 5.6.0 not this" if is_refused else "250 2.0.0 taken")

    def look_at_lines(self, raw):
        """RFC 5321 2.3.8 and 4.5.3.1.6, as the smarthost sees them."""
        if raw.count(b"\n") != raw.count(b"\r\n") or raw.count(b"\r") != raw.count(b"\r\n"):
            self.faults.append("a bare CR or LF in the mail data")
        if max((len(line) for line in raw.split(b"\r\n")), default=0) > 999:
            self.faults.append("a line longer than 1,000 octets")


class Server:
    """The loop: accepts, reads, writes, delays."""

    def __init__(self, port, folder, address, behaviour):
        self.behaviour = {
            "extensions": EXTENSIONS,
            "delay": 0,
            "close_after": [],
            "drop_dots": 0,
            "rcpt_max": 0,
            "later": False,
            "refuse": False,
            "refusal": "550 5.1.1 no such mailbox",
            "no_null": False,
            **behaviour,
        }
        self.selector = selectors.EpollSelector()
        self.listener = socket.create_server((address, port), backlog=128)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.selector.register(sys.stdin, selectors.EVENT_READ, "behaviour")
        self.records = open(os.path.join(folder, "records"), "ab")
        self.data = open(os.path.join(folder, "data"), "ab")
        self.timers = []
        self.ticket = 0
        self.count = 0

    def record(self, connection, data, is_answered):
        offset = self.data.tell()
        self.data.write(data)
        self.data.flush()
        record = Record(
            time.monotonic(),
            connection.sender,
            connection.recipients,
            offset,
            len(data),
            is_answered,
            connection.number,
            connection.faults,
        )
        self.records.write(json.dumps(record).encode() + b"\n")
        self.records.flush()
        connection.faults = []

    def serve(self):
        while True:
            wait = max(0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, events in self.selector.select(wait):
                if key.data is None:
                    self.accept()
                elif key.data == "behaviour":
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self.behaviour.update(json.loads(line))
                    print("ok", flush=True)
                else:
                    self.step(key.data, events)
            while self.timers and self.timers[0][0] <= time.monotonic():
                self.release(heapq.heappop(self.timers)[2])

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.count += 1
            connection = Connection(self, sock, self.count - 1)
            self.selector.register(sock, selectors.EVENT_READ, connection)
            self.flush(connection)

    def step(self, connection, events):
        if connection.socket.fileno() < 0:
            return
        if events & selectors.EVENT_READ:
            try:
                octets = connection.socket.recv(262144)
            except BlockingIOError:
                octets = None
            except OSError:
                octets = b""
            if octets == b"":
                self.close(connection)
                return
            if octets:
                connection.consume(octets)
        self.flush(connection)

    def flush(self, connection):
        """Sends what is pending, now or after the delay."""
        if self.behaviour["delay"] and connection.pending:
            self.ticket += 1
            heapq.heappush(self.timers, (time.monotonic() + self.behaviour["delay"], self.ticket, connection))
            return
        self.release(connection)

    def release(self, connection):
        if connection.socket.fileno() < 0:
            return
        connection.output += "".join(text + "\r\n" for text in connection.pending).encode("latin-1")
        connection.pending.clear()
        try:
            if connection.output:
                connection.output = connection.output[connection.socket.send(connection.output) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close(connection)
            return
        if connection.is_closing and not connection.output:
            self.close(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.output else 0)
        self.selector.modify(connection.socket, events, connection)

    def close(self, connection):
        if connection.faults:
            connection.sender = connection.sender or "(no transaction)"
            self.record(connection, b"", False)
        self.selector.unregister(connection.socket)
        connection.socket.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("port", type=int)
    arguments.add_argument("folder")
    arguments.add_argument("address")
    arguments.add_argument("behaviour", type=json.loads)
    options = arguments.parse_args()
    server = Server(options.port, options.folder, options.address, options.behaviour)
    print("ready", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
