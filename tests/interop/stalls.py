"""Clients that stop half-way, tables that are full, spools that are full: the next client gets through,
nothing deadlocks.
"""

import concurrent.futures
import socket
import statistics
import time

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

TABLE_MAX = 300


def half_open(relay, where, number):
    """A client that stops in the middle of something and stays."""
    session = load.Session(relay.port)
    message = mail.alert(number, 3000, "half", 2)
    if where == "command":
        session.send(b"MAIL FROM:<half")
    elif where == "transaction":
        session.command(f"MAIL FROM:<{message.sender}>")
    elif where == "recipients":
        session.command(f"MAIL FROM:<{message.sender}>")
        session.send(b"RCPT TO:<a@test.example>\r\nRCPT TO:<b@te")
    else:
        expect(session.begin(message).code == 354, "a half could not begin its data")
        data = message.transparent()
        session.send(data[: len(data) // 2] if where == "data" else data[:-2])
    return session


@check("stalls.eleventh", 180)
def eleventh(world):
    """Ten clients stop in the middle of a command, between commands, in the data, before the last LF; the
    eleventh is not delayed.
    """
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    places = ("command", "transaction", "recipients", "data", "end")
    stalled = [half_open(relay, places[number % len(places)], number) for number in range(10)]
    messages = [mail.alert(number, 2000, "eleventh", 2, world.seed) for number in range(50)]
    begin = time.monotonic()
    session = load.Session(relay.port)
    waits = []
    for message in messages:
        start = time.monotonic()
        reply = session.transaction(message)
        waits.append(time.monotonic() - start)
        expect(reply.code == 250, f"the eleventh got {reply.code} {reply.text}")
    took = time.monotonic() - begin
    slowest = max(waits)
    # A machine that stands still for some seconds makes one or another wait.
    expect(statistics.median(waits) < 2 and slowest < 15, f"the eleventh waited {slowest:.1f} s")
    expect(sink.wait_for(messages, 20), "the eleventh's mail did not arrive")
    sink.wait_quiet(0.3)
    wrong = mail.compare(messages, sink)
    expect(not wrong, f"{wrong[:3]}")
    data = mail.alert(3, 3000, "half", 2).transparent()
    stalled[3].send(data[len(data) // 2 :])
    reply = stalled[3].reply()
    expect(reply.code == 250, f"a stalled client that goes on got {reply.code} {reply.text}")
    return f"50 messages in {took:.2f} s beside ten that stopped, the slowest {slowest * 1000:.0f} ms"


@check("stalls.full_table", 180)
def full_table(world):
    """As many idle sessions as there is room for, and more: a new client is served, the longest without
    progress gets 421.
    """
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    idle = []
    evicted = None
    for number in range(TABLE_MAX):
        idle.append(load.Session(relay.port))
        evicted = next((n for n, session in enumerate(idle) if is_ended(session)), None)
        if evicted is not None:
            break
    expect(evicted is not None, f"{TABLE_MAX} sessions at once and none was evicted")
    expect(evicted == 0, f"session {evicted} was evicted, not the one longest without progress")
    reply = idle[0].reply()
    expect(reply.code == 421, f"the evicted session got {reply.code} {reply.text}")
    message = mail.alert(1, 2000, "new", 1, world.seed)
    start = time.monotonic()
    expect(
        load.Session(relay.port).transaction(message).code == 250,
        "a new client was not served by a full table",
    )
    took = time.monotonic() - start
    expect(sink.wait_for([message], 30), "its mail did not arrive")
    return f"{len(idle) - 1} sessions at once; a new client served in {took * 1000:.0f} ms"


def is_ended(session):
    """True when the relay has said something unasked, or closed."""
    session.socket.settimeout(0.002)
    try:
        session.socket.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    except OSError:
        pass
    finally:
        session.socket.settimeout(30)
    return True


def expect_recorded(sink, relay, count):
    """The sink has a message before the relay knows that it has: an end in between sends it again."""
    recorded = lambda: relay.log().count("relayed id=") >= count  # noqa: E731
    expect(sink.wait_until(recorded, 30), f"not {count} are recorded as relayed: {relay.log_tail()}")


def fill(relay, make, limit=20_000):
    """Sends until the relay says 452; returns what was accepted and the reply."""
    accepted = []
    session = load.Session(relay.port)
    while len(accepted) < limit:
        message = make(len(accepted))
        reply = session.transaction(message)
        if reply.code != 250:
            session.quit()
            return accepted, reply
        accepted.append(message)
    session.quit()
    return accepted, None


@check("full.partly_delivered", 240)
def partly_delivered(world):
    """A spool full of mail that is delivered to one recipient and deferred for the other; then the
    smarthost takes all.
    """
    sink = Sink(world, free_port(), later=True).start()
    relay = Relay(world, sink.port, size="1MiB").start()

    def make(number):
        message = mail.alert(number, 5000, "part", 1, world.seed)
        message.recipients.append(f"later{number}@test.example")
        return message

    accepted, reply = fill(relay, make)
    expect(reply is not None and reply.code == 452, f"a full spool answered {reply}")
    expect(len(accepted) > 20, f"only {len(accepted)} messages in 1 MiB")
    firsts = [mail.Message(m.sender, m.recipients[:1], m.data) for m in accepted]
    expect(sink.wait_for(firsts, 30), "with a full spool the recipients that are taken did not get it")
    more, reply = fill(relay, lambda n: make(10_000 + n))
    accepted += more
    expect_recorded(sink, relay, len(accepted))
    relay.kill()
    relay.start()
    sink.behave(later=False)
    expect(
        sink.wait_for(accepted, 40),
        f"{len(sink.delivered())} recipients of {2 * len(accepted)} got it: a deadlock",
    )
    sink.wait_quiet(1)
    wrong = mail.compare(accepted, sink)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")
    last = mail.alert(1, 5000, "afterwards", 1, world.seed)
    unsent = load.send_all(relay.port, [last], 1, 20)
    expect(not unsent, f"the empty spool refuses mail: {unsent[0][1] if unsent else ''}")
    expect(sink.wait_for([last], 30), "mail after the drain did not arrive")
    return f"{len(accepted)} messages filled 1 MiB, 452, and drained"


@check("full.refused", 240)
def refused(world):
    """A flood of mail that is refused for good, over a small spool: the relay answers, defers new mail
    properly, keeps relaying, tells a bounded number of senders, starts again, and is empty in the end.
    """
    # As late as this, so that the checks of both stay in the order of interop.py.
    from tools import queue

    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port, size="1MiB").start()

    def make(number):
        message = mail.alert(number, 5000, "bad", 1, world.seed)
        message.recipients = [f"refused{number}@test.example", f"ok{number}@test.example"]
        return message

    session = load.Session(relay.port)
    accepted, refusals = [], 0
    for number in range(600):
        reply = session.transaction(make(number))
        expect(
            reply.code in (250, 452),
            f"amid refused mail a client got {reply.code} {reply.text}",
        )
        if reply.code == 250:
            accepted.append(make(number))
        refusals += reply.code == 452
    good = [mail.Message(m.sender, m.recipients[1:], m.data) for m in accepted]
    expect(sink.wait_for(good, 30), "recipients that the smarthost takes did not get their mail")
    taken = len(accepted)
    for number in (9998, 9999):
        expect_recorded(sink, relay, taken)
        relay.kill()
        relay.start()
        reply = load.Session(relay.port).transaction(make(number))
        expect(reply.code in (250, 452), f"after a restart a client got {reply.code} {reply.text}")
        taken += reply.code == 250
    is_empty = lambda: queue(relay)["messages"] == []  # noqa: E731
    expect(sink.wait_until(is_empty, 30), "messages of which nobody waits are still in the queue")
    sink.wait_quiet(1)
    expect(all(not to.startswith("refused") for _, to in sink.delivered()), "a refused recipient got it")
    again = [pair for pair, count in sink.delivered().items() if count > 1]
    expect(not again, f"delivered again after a restart: {again[:3]}")
    cpu = relay.cpu_seconds()
    time.sleep(2)
    cpu = relay.cpu_seconds() - cpu
    expect(cpu < 0.3, f"the relay with a full spool and nothing to do used {cpu:.2f} s of CPU in 2 s")
    told = len(sink.notices())
    # Sixty in an hour of each of the three runs.
    expect(0 < told <= 180, f"{told} notices about {len(accepted)} messages")
    large = mail.alert(10_000, 450_000, "large", 1, world.seed)
    reply = load.Session(relay.port).transaction(large)
    expect(reply.code == 250, f"refused mail still takes room: {reply.code} {reply.text}")
    return f"{len(accepted)} accepted, {refusals} answered 452, {told} notices"


@check("full.halves", 240)
def halves(world):
    """64 clients send a half and wait, in a spool too small for all of them; a whole message gets through
    within bounded time.
    """
    sink = Sink(world, free_port()).start()
    relay = Relay(
        world, sink.port, size="1MiB", tables='[limits]\ndata_timeout = "10s"\ncommand_timeout = "10s"\n'
    ).start()

    def half(number):
        message = mail.alert(number, 40_000, "half", 1, world.seed)
        try:
            session = load.Session(relay.port, 20)
            reply = session.begin(message, pipelining=False, size=number % 2 == 0)
            if reply.code == 354:
                data = message.transparent()
                session.send(data[: len(data) // 2])
            return session, reply.code
        except load.Closed as closed:
            return None, int(str(closed)[:3]) if str(closed)[:3].isdigit() else str(closed)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        begun = list(pool.map(half, range(64)))
    codes = {code for _, code in begun}
    expect(codes <= {354, 452, 421}, f"the halves got {codes}")
    message = mail.alert(1, 40_000, "whole", 1, world.seed)
    start, seen = time.monotonic(), set()
    while time.monotonic() - start < 60:
        try:
            session = load.Session(relay.port)
            reply = session.transaction(message)
            seen.add(reply.code)
            expect(reply.code in (250, 452), f"the whole message got {reply.code} {reply.text}")
            if reply.code == 250:
                break
        except load.Closed as closed:
            seen.add(str(closed)[:20])
        time.sleep(0.2)
    took = time.monotonic() - start
    expect(250 in seen, f"in 60 s the whole message got only {seen}")
    expect(sink.wait_for([message], 30), "the whole message did not arrive")
    expect(all(not r.sender.startswith("half") for r in sink.records()), "a half was delivered")
    after = [mail.alert(n, 100_000, "after", 1, world.seed) for n in range(4)]
    unsent = load.send_all(relay.port, after, 1, 60)
    expect(
        not unsent,
        f"after the halves' time is over their blocks are not free: {unsent[0][1] if unsent else ''}",
    )
    begun.clear()
    return f"64 halves; the whole message accepted after {took:.1f} s"
