"""A crowd that wants nothing but our time: 2,000 connections that send an octet a second."""
import multiprocessing
import pathlib
import selectors
import socket
import statistics
import time

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

CROWD = 2000
SECONDS = 25
WAIT_MAX = 5
# A machine that stands still for some seconds makes one or another wait for longer, and so does a busy one,
# on which our own client is too slow and comes again.
WAIT_ONCE_MAX = 20
CPU_MAX = 0.2
FORK = multiprocessing.get_context("fork")


class Crowd(FORK.Process):
    """Connections that each send an octet a second; one that is closed comes back at once.

    In a process of its own: a fresh client that says nothing for 100 ms makes way for others, and ours must
    not be held up by the interpreter.
    """

    def __init__(self, world, port):
        super().__init__(daemon=True)
        self.port, self.is_over, self.closed = port, FORK.Event(), FORK.Value("L", 0)
        self.selector = None
        world.stack.callback(self.kill)

    def connect(self):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", self.port))
        self.selector.register(client, selectors.EVENT_READ)
        return client

    def run(self):
        self.selector = selectors.DefaultSelector()
        clients = {self.connect() for _ in range(CROWD)}
        next_octet = time.monotonic() + 1
        while not self.is_over.is_set():
            for key, _ in self.selector.select(max(0, next_octet - time.monotonic())):
                try:
                    is_gone = not key.fileobj.recv(4096)
                except BlockingIOError:
                    is_gone = False
                except OSError:
                    is_gone = True
                if is_gone:
                    self.closed.value += 1
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                    clients.discard(key.fileobj)
                    clients.add(self.connect())
            if time.monotonic() >= next_octet:
                next_octet += 1
                for client in clients:
                    try:
                        client.send(b"x")
                    except OSError:
                        pass
        for client in clients:
            client.close()


def resident(relay):
    """The relay's memory in KiB."""
    status = pathlib.Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@check("stalls.crowd", 240)
def crowd(world):
    """SEC-dos-a, SEC-dos-b: 2,000 connections that send an octet a second: a client that behaves is served
    within 5 s throughout, memory is flat, and the processor has little to do.
    """
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    crowd = Crowd(world, relay.port)
    crowd.start()
    time.sleep(3)
    memory, cpu, begin = resident(relay), relay.cpu_seconds(), time.monotonic()
    waits, messages = [], []
    while time.monotonic() - begin < SECONDS:
        message = mail.alert(len(messages), 2000, "crowd", 1, world.seed)
        start = time.monotonic()
        while True:
            try:
                session = load.Session(relay.port, 30)
                reply = session.transaction(message)
                if reply.code == 421:
                    # We were too slow ourselves, and come again: that counts as waiting.
                    raise load.Closed(reply.text)
                expect(reply.code == 250, f"{reply.code} {reply.text}")
                session.quit()
                break
            except load.Closed:
                expect(time.monotonic() - start < 30, "never served")
        waits.append(time.monotonic() - start)
        messages.append(message)
    took = time.monotonic() - begin
    used = (relay.cpu_seconds() - cpu) / took
    grown = resident(relay) - memory
    crowd.is_over.set()
    crowd.join(10)
    rate = crowd.closed.value / (took + 3)
    waited = f"waited {max(waits):.1f} s, {sum(waits) / len(waits):.1f} s on average"
    figures = f"{rate:.0f} evicted a second, {used:.0%} of a core"
    is_served = statistics.median(waits) < WAIT_MAX and max(waits) < WAIT_ONCE_MAX
    expect(is_served, f"a client that behaves {waited}; {figures}")
    expect(used < CPU_MAX, f"{used:.0%} of a core")
    expect(grown < 1024, f"memory grew by {grown} KiB")
    expect(sink.wait_for(messages, 20), "mail did not arrive")
    return (
        f"{len(waits)} served, longest {max(waits):.2f} s, {figures}, "
        f"{grown} KiB more"
    )
