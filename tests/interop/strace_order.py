"""No 250 to mail data leaves between the writes of its blocks and the sync that covers them, by system calls.

SIGKILL can't see a missing sync, since the kernel's cache survives it. So the relay runs under strace and
load, and the trace is read:

1. For each client's connection, its replies are followed; the reply after a 354 is the verdict on mail
   data, and the last octets read before it hold the end of that data.
2. A verdict 250 is lawful only if a sync of the spool, begun after the end of the data was read, returned 0
   before the 250 was written.
3. The message is known by its sender, which stands in every line of it and so in each of its blocks. The
   last write to the spool before the verdict that carries this sender must have returned before such a sync
   began, and there must be one.

A trace that is doctored (a sync taken out, failed, or moved behind the 250; a write moved behind the sync)
must be found unlawful: the check doctors its own trace each time to show that it can fail.
"""

import dataclasses
import re
import shutil
import typing

import load
import mail
from checks import Failure, check, expect, free_port
from relay import Relay
from sink import Sink

CALLS = (
    "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync,close"
)
LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
FILE = re.compile(r"^(\d+)<((?:[^>]|(?<=-)>)*)>")
SENDER = re.compile(rb"(?<![a-z0-9])(t\d+-\d+-\d+@test\.example)")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
SYNCS = ("fdatasync", "fsync")
READS = ("read", "readv", "recvfrom", "recvmsg")
SENDS = ("write", "writev", "sendto", "sendmsg")
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")


class Event(typing.NamedTuple):
    """One system call on a file or socket."""

    line: int
    call: str
    descriptor: str
    name: str
    octets: bytes
    result: int

    def is_sync(self, spool):
        return self.call in SYNCS and self.result == 0 and self.name.endswith(spool)

    def is_write(self, spool):
        return self.call in WRITES and self.result > 0 and self.name.endswith(spool)


@dataclasses.dataclass
class Connection:
    """What the trace showed of one client's connection."""

    in_data: bool = False
    last_read: int = -1
    received: bytes = b""
    sent: bytes = b""


def parse(lines):
    """The calls of a trace, in order. Calls of several threads overlap: then no order is known."""
    events = []
    for number, line in enumerate(lines, 1):
        if "<unfinished" in line or "resumed>" in line:
            raise Failure(f"line {number} of the trace: calls of several threads overlap")
        match = LINE.match(line)
        file = match and FILE.match(match[2])
        if file:
            text = "".join(STRING.findall(match[2]))
            octets = text.encode("latin-1").decode("unicode_escape").encode("latin-1")
            events.append(Event(number, match[1], file[1], file[2], octets, int(match[3])))
    return events


def violations(events, spool, port):
    """Returns (texts of what is unlawful, place and sender of each verdict 250, number of syncs)."""
    wrong, verdicts, syncs = [], [], []
    last_write = {}
    connections = {}
    for number, event in enumerate(events):
        if event.is_sync(spool):
            syncs.append(number)
        elif event.is_write(spool):
            for sender in set(SENDER.findall(event.octets)):
                last_write[sender] = number
        elif f":{port}->" in event.name:
            connection = connections.setdefault(event.descriptor, Connection())
            if event.call == "close":
                connections.pop(event.descriptor)
            elif event.call in READS and event.result > 0:
                connection.last_read = number
                connection.received += event.octets
            elif event.call in SENDS and event.result > 0:
                connection.sent += event.octets[: event.result]
                for code, sender in verdicts_in(connection):
                    if code == 250:
                        verdicts.append((number, sender))
                        wrong += judge(event, connection, sender, last_write, syncs)
    return wrong, verdicts, len(syncs)


def verdicts_in(connection):
    """The verdicts among the whole replies sent so far, each with the sender of its message."""
    found = []
    while b"\r\n" in connection.sent:
        line, connection.sent = connection.sent.split(b"\r\n", 1)
        if line[3:4] == b"-":
            continue
        if connection.in_data:
            connection.in_data = False
            end = connection.received.find(b"\r\n.\r\n")
            senders = SENDER.findall(connection.received[:end] if end >= 0 else b"")
            connection.received = connection.received[end + 5 :]
            found.append((int(line[:3]), senders[-1] if senders else None))
        elif line.startswith(b"354"):
            connection.in_data = True
    return found


def judge(event, connection, sender, last_write, syncs):
    """Rules 2 and 3 for one 250."""
    place = f"line {event.line}: 250 to {(sender or b'?').decode()}"
    if not any(sync > connection.last_read for sync in syncs[-1:]):
        return [f"{place} without a sync since the end of its data was read"]
    if sender not in last_write:
        return [f"{place} and no block of it was written"]
    if not syncs[-1] > last_write[sender]:
        return [f"{place} and its last block was written after the last sync"]
    return []


def doctored(events, spool, verdicts):
    """The trace with one fault each, all at the verdict in the middle: name -> events."""
    reply, sender = verdicts[len(verdicts) // 2]
    write = max(n for n in range(reply) if events[n].is_write(spool) and sender in events[n].octets)
    syncs = [n for n in range(write, reply) if events[n].is_sync(spool)]
    before = events[: syncs[0]]
    unsynced = [event for n, event in enumerate(events) if n not in syncs]
    failed = [event._replace(result=-1) if n in syncs else event for n, event in enumerate(events)]
    early = before + [events[reply]] + events[syncs[0] : reply] + events[reply + 1 :]
    late = events[:write] + events[write + 1 : reply] + [events[write]] + events[reply:]
    return {
        "a sync taken out": unsynced,
        "a sync that failed": failed,
        "a 250 before its sync": early,
        "a block after its sync": late,
    }


@check("strace_order", 360)
def strace_order(world):
    """20 clients, messages of one block and of several, under strace; the trace is read, and doctored."""
    expect(shutil.which("strace"), "strace is missing")
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port)
    relay.start()
    relay.terminate()
    trace = world.folder / "trace"
    relay.wrapper = [
        "strace",
        "-f",
        "-qq",
        "-yy",
        "-x",
        "-s",
        "8192",
        "-e",
        f"trace={CALLS}",
        "-e",
        "signal=none",
        "-o",
        str(trace),
    ]
    relay.start()
    messages = [
        mail.alert(n, (80, 2000, 9000, 40_000)[n % 4], f"t{n % 20}-{n}-", 1 + n % 3, world.seed)
        for n in range(300)
    ]
    unsent = load.send_all(relay.port, messages, clients=20, seconds=120)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")
    sink.wait_for(messages, 90)
    relay.terminate_traced()
    events = parse(trace.read_text(errors="replace").splitlines())
    spool = str(relay.spool)
    wrong, verdicts, syncs = violations(events, spool, relay.port)
    expect(not wrong, f"{len(wrong)} unlawful, the first: {wrong[:2]}")
    expect(
        len(verdicts) == len(messages),
        f"{len(verdicts)} verdicts in the trace, {len(messages)} messages were accepted",
    )
    for fault, changed in doctored(events, spool, verdicts).items():
        if not violations(changed, spool, relay.port)[0]:
            raise Failure(f"the check does not see {fault}")
    return f"{len(verdicts)} verdicts, each behind its sync; {syncs} syncs; 4 doctored traces found out"
