"""Round trips a message, behind a proxy that adds 100 ms each way.

What is judged is the number of times that the relay had to wait for the smarthost, not the time it took.
"""

import collections
import selectors
import socket
import threading
import time

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

MESSAGES = 100
DELAY_SECONDS = 0.1
# EHLO, and a relay that is stopped between two writes until what the first one asked for is answered.
TRIPS_MORE_MAX = 15


class Proxy(threading.Thread):
    """One connection at a time to `target`; octets arrive `DELAY_SECONDS` later, on either side."""

    def __init__(self, world, port, target):
        super().__init__(daemon=True)
        self.port, self.target = port, target
        self.trips = self.connections = self.segments = 0
        self.is_over = False
        world.stack.callback(self.end)

    def end(self):
        self.is_over = True
        self.join(10)

    def run(self):
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            listener.settimeout(0.2)
            while not self.is_over:
                try:
                    relay, _ = listener.accept()
                except TimeoutError:
                    continue
                with relay, socket.create_connection(("127.0.0.1", self.target)) as smarthost:
                    self.connections += 1
                    self.carry(relay, smarthost)

    def carry(self, relay, smarthost):
        """Until one side closes. A trip: something from the smarthost arrived, and the relay answers."""
        selector = selectors.DefaultSelector()
        for side, other in ((relay, smarthost), (smarthost, relay)):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(side, selectors.EVENT_READ, other)
        under_way = collections.deque()
        has_heard = False
        while not self.is_over:
            wait = max(0, under_way[0][0] - time.monotonic()) if under_way else 0.2
            for key, _ in selector.select(wait):
                octets = key.fileobj.recv(262144)
                if not octets:
                    return
                if key.fileobj is relay:
                    self.segments += 1
                    self.trips += has_heard
                    has_heard = False
                under_way.append((time.monotonic() + DELAY_SECONDS, key.data, octets))
            while under_way and under_way[0][0] <= time.monotonic():
                _, side, octets = under_way.popleft()
                side.sendall(octets)
                has_heard |= side is relay


def queued(world, name, extensions):
    """The proxy after 100 messages that waited have gone through it, and the seconds from first to last."""
    sink = Sink(world, free_port(), name=f"sink-{name}", extensions=extensions).start()
    port = free_port()
    relay = Relay(world, port, name=name).start()
    messages = [mail.alert(number, 1500, name, 1, world.seed) for number in range(MESSAGES)]
    session = load.Session(relay.port)
    for message in messages:
        reply = session.transaction(message)
        expect(reply.code == 250, f"not accepted: {reply.code} {reply.text}")
    proxy = Proxy(world, port, sink.port)
    proxy.start()
    expect(sink.wait_for(messages, 300), f"{name}: {len(sink.records())} have arrived, and no more")
    records = sink.records()
    faults = [fault for record in records for fault in record.faults]
    expect(not faults, f"{name}: {faults[:3]}")
    expect(len(records) == MESSAGES, f"{name}: {len(records)} transactions")
    expect(proxy.connections == 1, f"{name}: {proxy.connections} connections")
    relay.kill()
    return proxy, records[-1].time - records[0].time


@check("trips.queued", 900)
def trips(world):
    """100 queued messages over one connection: round trips a message with CHUNKING, with PIPELINING alone, and
    with neither. The first message has EHLO before it, the last one no message behind it.
    """
    figures = []
    for name, extensions, trips_max in (
        ("chunking", ["PIPELINING", "CHUNKING", "8BITMIME", "SIZE"], 1),
        ("pipelining", ["PIPELINING", "8BITMIME", "SIZE"], 1),
        ("neither", ["8BITMIME", "SIZE"], 4),
    ):
        proxy, seconds = queued(world, name, extensions)
        expect(
            proxy.trips <= MESSAGES * trips_max + TRIPS_MORE_MAX,
            f"{name}: {proxy.trips} round trips for {MESSAGES} messages",
        )
        figures.append(f"{name} {proxy.trips / MESSAGES:.2f} ({proxy.segments} segments, {seconds:.1f} s)")
    return f"round trips a message: {', '.join(figures)}"
