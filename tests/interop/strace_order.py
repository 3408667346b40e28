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
SYNCS = ("fdatasync", "fsync")
READS = ("read", "readv", "recvfrom", "recvmsg")
SENDS = ("write", "writev", "sendto", "sendmsg")
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")


@dataclasses.dataclass
class Connection:
    """What the trace showed of one client's connection."""

    in_data: bool = False
    last_read: int = -1
    received: bytes = b""
    sent: bytes = b""


def octets(text):
    """The octets of all strings in strace's arguments."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    return "".join(found).encode("latin-1").decode("unicode_escape").encode("latin-1")


def violations(lines, spool, port):
    """Reads a trace; returns (texts of what is unlawful, number of verdicts 250, number of syncs)."""
    wrong, verdicts, syncs = [], 0, []
    last_write = {}
    connections = {}
    for number, line in enumerate(lines):
        if "<unfinished" in line or "resumed>" in line:
            wrong.append(f"line {number + 1}: calls of several threads overlap")
            continue
        match = LINE.match(line)
        file = match and FILE.match(match[2])
        if not file:
            continue
        call, arguments, result = match[1], match[2], int(match[3])
        descriptor, name = file[1], file[2]
        if name.endswith(str(spool)):
            if call in SYNCS and result == 0:
                syncs.append(number)
            elif call in WRITES and result > 0:
                for sender in set(SENDER.findall(octets(arguments))):
                    last_write[sender] = number
        elif f":{port}->" in name:
            if call == "close":
                connections.pop(descriptor, None)
            elif call in READS and result > 0:
                connection = connections.setdefault(descriptor, Connection())
                connection.last_read = number
                connection.received += octets(arguments)
            elif call in SENDS and result > 0:
                connection = connections.setdefault(descriptor, Connection())
                connection.sent += octets(arguments)[:result]
                for code, sender in replies(connection):
                    verdicts += code == 250
                    if code == 250:
                        wrong += judge(number, connection, sender, last_write, syncs)
    return wrong, verdicts, len(syncs)


def replies(connection):
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


def judge(number, connection, sender, last_write, syncs):
    """Rules 2 and 3 for one 250 at line `number`."""
    place = f"line {number + 1}: 250 to {(sender or b'?').decode()}"
    if not any(sync > connection.last_read for sync in syncs):
        return [f"{place} without a sync since the end of its data was read"]
    if sender not in last_write:
        return [f"{place} and no block of it was written"]
    if not syncs[-1] > last_write[sender]:
        return [f"{place} and its last block was written after the last sync"]
    return []


def doctored(lines, spool, port):
    """The trace with one fault each: name -> lines."""
    syncs = [
        n
        for n, line in enumerate(lines)
        if re.match(r"^(\d+ +)?f(data)?sync\(", line) and line.rstrip().endswith("= 0")
    ]
    at = next(
        s
        for s in syncs[len(syncs) // 2 :]
        if any(spool_write(lines[n], spool) for n in range(max(0, s - 6), s))
    )
    write = next(
        n for n in range(at, -1, -1) if spool_write(lines[n], spool) and SENDER.search(octets(lines[n]))
    )
    reply = next(n for n in range(at, len(lines)) if f":{port}->" in lines[n] and '"250 ' in lines[n])
    failed = re.sub(r"= 0\s*$", "= -1 EIO (Input/output error)\n", lines[at])
    return {
        "a sync taken out": lines[:at] + lines[at + 1 :],
        "a sync that failed": lines[:at] + [failed] + lines[at + 1 :],
        "a 250 before its sync": lines[:at]
        + [lines[reply], lines[at]]
        + lines[at + 1 : reply]
        + lines[reply + 1 :],
        "a block after its sync": lines[:write]
        + lines[write + 1 : at + 1]
        + [lines[write]]
        + lines[at + 1 :],
    }


def spool_write(line, spool):
    return re.match(rf"^(\d+ +)?p?write(v|64|v2)?\(\d+<{re.escape(str(spool))}>", line)


@check("strace_order", 120)
def strace_order(world):
    """20 clients, messages of one block and of several, under strace; the trace is read, and doctored."""
    expect(shutil.which("strace"), "strace is missing")
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port)
    trace = world.folder / "trace"
    relay.wrapper = [
        "strace",
        "-f",
        "-qq",
        "-yy",
        "-x",
        "-s",
        "70000",
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
        for n in range(400)
    ]
    unsent = load.send_all(relay.port, messages, clients=20, seconds=60)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")
    sink.wait_for(messages, 30)
    relay.terminate_traced()
    lines = trace.read_text(errors="replace").splitlines(keepends=True)
    wrong, verdicts, syncs = violations(lines, relay.spool, relay.port)
    expect(not wrong, f"{len(wrong)} unlawful, the first: {wrong[:2]}")
    expect(
        verdicts == len(messages), f"{verdicts} verdicts in the trace, {len(messages)} messages were accepted"
    )
    for fault, changed in doctored(lines, relay.spool, relay.port).items():
        if not violations(changed, relay.spool, relay.port)[0]:
            raise Failure(f"the check does not see {fault}")
    return f"{verdicts} verdicts, each behind its sync; {syncs} syncs; 4 doctored traces found out"
