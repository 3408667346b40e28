"""The smarthost's name: servers that are dead, broken or forged, while clients are served without delay."""
import os
import signal
import socket
import struct
import threading
import time

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

HOST = "smarthost.test.example"
A, CNAME, AAAA = 1, 5, 28
# What a client may wait for any one of its replies, on a machine with other work.
REPLY_SECONDS_MAX = 0.5


def encoded(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def record(owner, kind, data, ttl=60):
    return encoded(owner) + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def packet(query, code=0, records=(), flags=0):
    """A reply to `query` with those of `records` that it asks for: (owner, kind, data, ttl)."""
    kind = struct.unpack(">H", query[-4:-2])[0]
    answers = [record(*entry) for entry in records if entry[1] in (kind, CNAME)]
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | flags | code, 1, len(answers), 0, 0)
    return head + query[12:] + b"".join(answers)


def here(owner=HOST, ttl=60):
    return (owner, A, socket.inet_aton("127.0.0.1"), ttl)


class NameServer:
    """Port 53 on one loopback address of this process's own. `script(query, is_tcp)` returns the datagrams or messages to send."""

    def __init__(self, world, number, script):
        pid = os.getpid()
        self.address = f"127.{53 + number}.{pid >> 8 & 255}.{max(1, pid & 255)}"
        self.script = script
        self.asked = 0
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((self.address, 53))
        self.tcp = socket.create_server((self.address, 53))
        for serve in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=serve, daemon=True).start()
        world.stack.callback(self.close)

    def serve_udp(self):
        while True:
            try:
                query, client = self.udp.recvfrom(1024)
            except OSError:
                return
            if not query:
                return
            self.asked += 1
            for reply in self.script(query, False):
                try:
                    self.udp.sendto(reply, client)
                except OSError:
                    pass

    def serve_tcp(self):
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            with client:
                query = client.recv(1024)[2:]
                for reply in self.script(query, True):
                    client.sendall(struct.pack(">H", len(reply)) + reply)

    def close(self):
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


class Resolved:
    """A sink behind a name, a relay that knows only the name, and its own resolv.conf in a mount namespace."""

    def __init__(self, world, *lines):
        self.world = world
        self.sink = Sink(world, free_port()).start()
        self.conf = world.folder / "resolv.conf"
        self.write(*lines)
        self.relay = Relay(world, self.sink.port, smarthost=f'host = "{HOST}"\ntls = "none"\n')
        mount = f"mount --bind {self.conf} /etc/resolv.conf && exec \"$@\""
        self.relay.wrapper = ["unshare", "--mount", "sh", "-c", mount, "sh"]
        self.relay.start()
        self.sent = []

    def write(self, *lines):
        self.conf.write_text("".join(line + "\n" for line in lines))

    def send(self, prefix, count):
        """Sends messages over one connection and over new ones; returns the longest time for one step."""
        slowest = 0
        session = load.Session(self.relay.port)
        for number in range(count):
            start = time.monotonic()
            message = mail.alert(number, 800, prefix, 1, self.world.seed)
            reply = session.transaction(message)
            expect(reply.code == 250, f"{prefix}: {reply.code} {reply.text}")
            slowest = max(slowest, time.monotonic() - start)
            self.sent.append(message)
            start = time.monotonic()
            load.Session(self.relay.port).quit()
            slowest = max(slowest, time.monotonic() - start)
            time.sleep(0.02)
        session.quit()
        expect(slowest < REPLY_SECONDS_MAX, f"{prefix}: a client waited {slowest:.3f} s")
        return slowest

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.relay.process.pid}/fd"))

    def arrives(self, seconds):
        expect(self.sink.wait_for(self.sent, seconds), f"mail did not arrive: {self.relay.log_tail()}")
        copies = self.sink.delivered()
        expect(all(copies[(m.sender, to)] == 1 for m in self.sent for to in m.recipients), "duplicates")


def other_id(query):
    return bytes([query[0] ^ 1]) + query[1:]


def other_name(query):
    return query[:12] + query[12:-4].replace(b"smarthost", b"smartghos") + query[-4:]


def forged(query):
    return [packet(query, 0, [here()])]


# What a server does, and what the log then says of the name.
TROUBLE = {
    "silent": (lambda query, is_tcp: [], "don't reply"),
    "servfail": (lambda query, is_tcp: [packet(query, 2)], "SERVFAIL"),
    "refused": (lambda query, is_tcp: [packet(query, 5)], "REFUSED"),
    "nxdomain": (lambda query, is_tcp: [packet(query, 3)], "NXDOMAIN"),
    "nodata": (lambda query, is_tcp: [packet(query)], "has no address"),
    "garbage": (lambda query, is_tcp: [b"\xc0" * 500, query[:7], b""], "don't reply"),
    "other_id": (lambda query, is_tcp: forged(other_id(query)), "don't reply"),
    "other_name": (lambda query, is_tcp: forged(other_name(query)), "don't reply"),
    "cut_tcp": (lambda query, is_tcp: [] if is_tcp else [packet(query, 0, (), 0x0200)], "can't be reached"),
}


@check("names.trouble", 180)
def trouble(world):
    """In each trouble clients are served all the while with no delay, the log names it, and the mail leaves when it is over."""
    server = NameServer(world, 0, lambda query, is_tcp: [packet(query, 0, [here(ttl=0)])])
    good = server.script
    resolved = Resolved(world, f"nameserver {server.address}", "options timeout:1 attempts:2")
    base = resolved.send("base", 30)
    resolved.arrives(20)
    slowest = {}
    descriptors = resolved.descriptors()
    for name, (script, reason) in TROUBLE.items():
        # A new connection, hence a new resolution: the old one ends, and SIGUSR1 forgets the old answer.
        resolved.sink.stop()
        resolved.sink.start()
        server.script = script
        time.sleep(0.2)
        resolved.relay.process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        seen = len(resolved.relay.log())
        before = resolved.relay.cpu_seconds()
        slowest[name] = resolved.send(name, 60)
        deadline = time.monotonic() + 8
        while reason not in resolved.relay.log()[seen:]:
            expect(time.monotonic() < deadline, f"{name}: the log does not say {reason!r}: {resolved.relay.log_tail()}")
            time.sleep(0.05)
        used = resolved.relay.cpu_seconds() - before
        expect(used < 1, f"{name}: {used:.2f} s of CPU")
        expect(not resolved.sink.wait_for(resolved.sent[-1:], 0.2), f"{name}: it left, but how?")
        server.script = good
        resolved.arrives(20)
        resolved.sink.stop()
        time.sleep(0.2)
        expect(resolved.descriptors() <= descriptors, f"{name}: file descriptors are left open")
        resolved.sink.start()
    server.script = TROUBLE["silent"][0]
    resolved.relay.process.send_signal(signal.SIGUSR1)
    resolved.send("last", 1)
    start = time.monotonic()
    code = resolved.relay.terminate()
    expect(code == 0 and time.monotonic() - start < 0.8, f"ended with {code} after {time.monotonic() - start:.1f} s")
    worst = max(slowest, key=slowest.get)
    return f"slowest step {base * 1000:.0f} ms with names, {slowest[worst] * 1000:.0f} ms without ({worst})"


@check("names.servers", 60)
def servers(world):
    """No server, then a silent first one, an alias that fits only over TCP from the second, and a file that changes."""
    chain = [(HOST, CNAME, encoded("mx.test.example"), 60), here("mx.test.example")]
    first = NameServer(world, 0, lambda query, is_tcp: [])
    second = NameServer(world, 1, lambda query, is_tcp: [packet(query, 0, chain) if is_tcp else packet(query, 0, (), 0x0200)])
    resolved = Resolved(world, "nameserver 127.99.99.99", "options timeout:1")
    resolved.send("nobody", 5)
    time.sleep(1)
    expect("can't be reached" in resolved.relay.log(), resolved.relay.log_tail())
    expect(first.asked + second.asked == 0, "asked whom nobody named")
    resolved.write("search lan", f"nameserver {first.address}", f"nameserver {second.address}", "options timeout:1")
    resolved.arrives(10)
    expect(first.asked > 0, "the first server was not asked first")
    asked = second.asked
    for round in range(3):
        resolved.sink.stop()
        resolved.sink.start()
        resolved.send(f"round{round}", 2)
        resolved.arrives(10)
    return f"{asked} questions for the first connection, {second.asked - asked} for 3 more"


@check("names.addresses", 60)
def addresses(world):
    """An IPv6 that refuses, an address that is silent, then the one that works: first time seconds, afterwards none."""
    hole = socket.socket()
    entries = [
        (HOST, AAAA, socket.inet_pton(socket.AF_INET6, "::1"), 60),
        (HOST, A, socket.inet_aton("127.0.0.88"), 60),
        here(),
    ]
    server = NameServer(world, 0, lambda query, is_tcp: [packet(query, 0, entries)])
    resolved = Resolved(world, f"nameserver {server.address}")
    # Open, but its backlog is full: the kernel drops what comes.
    hole.bind(("127.0.0.88", resolved.sink.port))
    hole.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.settimeout(0.1)
        fillers.append(filler)
        try:
            filler.connect(("127.0.0.88", resolved.sink.port))
        except OSError:
            break
    took = []
    for round in range(2):
        start = time.monotonic()
        resolved.send(f"round{round}", 1)
        resolved.arrives(15)
        took.append(time.monotonic() - start)
        resolved.sink.stop()
        time.sleep(0.2)
        resolved.sink.start()
    for filler in fillers:
        filler.close()
    hole.close()
    expect(2 < took[0] < 6, f"the first connection took {took[0]:.1f} s")
    expect(took[1] < 2, f"the second connection took {took[1]:.1f} s")
    return f"{took[0]:.1f} s, then {took[1]:.1f} s"
