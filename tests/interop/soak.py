"""The relay under mixed load for minutes, with a smarthost that misbehaves: afterwards all is as before.

Well-behaved clients, clients that stall, break off, talk rubbish or never read; a smarthost that is slow,
drops, defers and closes. Then the load ends, the smarthost is well, the queue drains, and

    descriptors   are as many as before
    memory        (private, written) is what it was before, give or take GROWTH_KIB_MAX
    blocks        are all free: a message of the whole announced size may begin
    slots         are all free: as many sessions as there are slots are greeted at once, none is evicted

Before is measured after a first load that has used all there is, the spool's blocks and the slots, since what
is used once stays mapped.
"""

import json
import os
import random
import re
import threading
import time

import load
import mail
from checks import check, expect, free_port
from kill import Client
from relay import Relay
from sink import Sink
from tools import answer

CLIENTS = 8
NUISANCES = 8
SLOTS = 64
GROWTH_KIB_MAX = 128
DRAIN_SECONDS_MAX = 300
MOODS = [
    {},
    {"delay": 0.02},
    {"close_after": [3, 0, 7, 0]},
    {"drop_dots": 5},
    {"later": True},
    {"rcpt_max": 1},
    {"extensions": []},
]
WELL = {
    "delay": 0, "close_after": [], "drop_dots": 0, "later": False, "rcpt_max": 0,
    "extensions": ["PIPELINING", "SIZE 20000000", "8BITMIME", "ENHANCEDSTATUSCODES"],
}


class Nuisance(threading.Thread):
    """A client that does everything wrong that ends by itself."""

    def __init__(self, number, port, stop):
        super().__init__(daemon=True)
        self.port, self.stop = port, stop
        self.random = random.Random(number)

    def run(self):
        while not self.stop.is_set():
            try:
                session = load.Session(self.port, seconds=5)
                self.annoy(session)
                session.close()
            except (load.Closed, OSError):
                time.sleep(0.05)

    def annoy(self, session):
        half = b"MAIL FROM:<n@example.org>\r\nRCPT TO:<later@example.net>\r\nDATA\r\n"
        octets = self.random.choice([
            b"MAIL FR",
            half + b"Subject: half\r\n\r\nno end",
            half + b"x" * 50_000,
            os.urandom(500),
            b"NOOP\r\n" * 200,
            b"MAIL FROM:<n@example.org> SIZE=3000000\r\n",
            b"RSET\r\nQUIT\r\n",
        ])
        session.send(octets)
        time.sleep(self.random.uniform(0, 1.5))


def descriptors(relay):
    return len(os.listdir(f"/proc/{relay.process.pid}/fd"))


def private_kib(relay):
    text = open(f"/proc/{relay.process.pid}/smaps_rollup", encoding="ascii").read()
    return int(re.search(r"Private_Dirty:\s+(\d+)", text)[1])


def storm(world, relay, sink, seconds, first):
    """Load for so long, by clients with numbers from `first` on; returns the messages that were accepted."""
    stop = threading.Event()
    clients = [
        Client(number, relay.port, stop, world.seed, ()) for number in range(first, first + CLIENTS)
    ]
    nuisances = [Nuisance(number, relay.port, stop) for number in range(NUISANCES)]
    for thread in clients + nuisances:
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sink.behave(**{**WELL, **world.random.choice(MOODS)})
        time.sleep(min(1, max(0, end - time.monotonic())))
    stop.set()
    # Each wait of theirs is bounded; what they had under way is counted.
    for thread in clients + nuisances:
        thread.join()
    sink.behave(**WELL)
    return [message for client in clients for message in client.accepted]


def use_all(world, relay, sink):
    """Holds a message in each slot, and fills the spool while the smarthost is down; returns what was taken."""
    held = [load.Session(relay.port) for _ in range(SLOTS)]
    for number, session in enumerate(held):
        expect(session.begin(mail.alert(number, 500, "held")).code == 354, "a slot takes no message")
        session.send(b"half of a message\r\n" * 300)
    for session in held:
        session.close()
    stop = threading.Event()
    clients = [Client(number, relay.port, stop, world.seed, ()) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    is_full = sink.wait_until(lambda: all(client.unsent for client in clients), DRAIN_SECONDS_MAX)
    stop.set()
    for client in clients:
        client.join()
    expect(is_full, "the spool does not fill")
    return [message for client in clients for message in client.accepted]


def is_idle(relay):
    status = json.loads(answer(relay, "status", "--json"))
    return not (status["spool"]["waiting"] or status["clients_connected"] or status["smarthosts_connected"])


def rest(relay, sink, accepted):
    """Waits until what was accepted has come, nothing comes any more, and nobody is connected."""
    sink.wait_for(accepted, DRAIN_SECONDS_MAX)
    sink.wait_quiet(12, DRAIN_SECONDS_MAX)
    expect(sink.wait_until(lambda: is_idle(relay), 60), "messages wait, or somebody is connected still")
    expect(relay.is_running(), "the relay has ended")
    return descriptors(relay), private_kib(relay)


def all_blocks_are_free(relay):
    """Frees may wait for two syncs of 2 s each; a message of the announced size needs them all."""
    for _ in range(20):
        session = load.Session(relay.port)
        reply = session.command("EHLO whole.test.example")
        size = int(re.search(r"SIZE (\d+)", str(reply.text))[1])
        code = session.command(f"MAIL FROM:<whole@example.org> SIZE={size}").code
        session.quit()
        if code == 250:
            return size
        time.sleep(1)
    return None


def all_slots_are_free(relay):
    sessions = [load.Session(relay.port, greet=False) for _ in range(SLOTS)]
    greeted = sum(session.reply().code == 220 for session in sessions)
    answers = sum(session.command("NOOP").code == 250 for session in sessions)
    for session in sessions:
        session.close()
    return greeted == answers == SLOTS


@check("soak", seconds=3000)
def soak(world):
    sink = Sink(world, free_port())
    relay = Relay(world, sink.port, size="16MiB", top='log = "warn"\n').start()
    accepted = use_all(world, relay, sink)
    sink.start()
    accepted += storm(world, relay, sink, 5, 100)
    before = rest(relay, sink, accepted)
    accepted += storm(world, relay, sink, world.soak_seconds, 200)
    after = rest(relay, sink, accepted)
    expect(accepted, "nothing was accepted: no load")
    expect(sink.wait_for(accepted, 1), "not all that was accepted has come")
    expect(before[0] == after[0], f"descriptors: {before[0]} before, {after[0]} after")
    growth = after[1] - before[1]
    expect(growth <= GROWTH_KIB_MAX, f"memory: {before[1]} KiB before, {after[1]} KiB after")
    size = all_blocks_are_free(relay)
    expect(size, "blocks: a message of the announced size can't begin")
    expect(all_slots_are_free(relay), "slots: not all sessions were served at once")
    return (
        f"{world.soak_seconds} s, {len(accepted)} accepted; descriptors {after[0]}, "
        f"memory {before[1]} -> {after[1]} KiB, all blocks free for {size} octets, {SLOTS} slots free"
    )
