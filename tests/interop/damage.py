"""Damaged spools: the start never fails, nothing wrong or mixed is delivered, the log says what it set aside.

One spool is made by the relay itself, with messages of one and of several blocks that wait, messages
delivered in part, freed blocks and a message that was cut off in the middle. Of this file many damaged
copies are made, and a relay is started on each, twice. Which block belongs to what is not known here: a
block is known as used by the names that stand in it. A block that is replaced whole leaves nothing to be
noticed, when it was the only one of its message: for those variants the log need not say anything. A
superblock of an older state is a disk that undid a write it had called durable: there only what arrives is
judged.
"""

import concurrent.futures
import random
import re
import threading

import load
import mail
from checks import Failure, check, expect, free_port
from relay import Relay
from sink import Sink
from tools import tool

BLOCK = 4096
REPLACED = re.compile(r"block \d+ (zeroed|of an older|written over)|swapped|^cut")
SIZE = "1MiB"
SAID = re.compile(r"set.?aside|damage|interrupted|broken|corrupt|renamed", re.IGNORECASE)
ASIDE = re.compile(r"spool: .*set aside")
DAMAGED = re.compile(r"spool: (?:the head of )?message (\S+) (?:in block \d+ )?is damaged")
# Ids in one report.
NAMED_MAX = 16
ADMIN = "admin@test.example"
WORKERS = 4
# Longer than any copy takes on a busy machine.
SETTLE_SECONDS_MAX = 40


class Original:
    """The undamaged spool: its octets, an older state of them, and what still has to arrive from it."""

    def __init__(self, world):
        sink = Sink(world, free_port(), name="sink_before", later=True).start()
        relay = Relay(world, sink.port, name="original", size=SIZE).start()
        fresh = relay.spool.read_bytes()
        done = [mail.alert(n, (300, 9000)[n % 2], "done", 1, world.seed) for n in range(10)]
        part = [mail.alert(n, (300, 9000)[n % 2], "part", 1, world.seed) for n in range(4)]
        for message in part:
            message.recipients.append(f"later.{message.sender}")
        self.accept(relay, done + part)
        taken = done + [mail.Message(m.sender, m.recipients[:1], m.data) for m in part]
        expect(sink.wait_for(taken, 60), "the messages before the damage did not arrive")
        sink.stop()
        relay.kill()
        self.older = relay.spool.read_bytes()
        relay.start()
        waiting = [
            mail.alert(n, (200, 2500, 14_000)[n % 3], "wait", 1 + n % 4, world.seed) for n in range(15)
        ]
        self.accept(relay, waiting)
        half = load.Session(relay.port)
        half.begin(mail.alert(1, 9000, "half"))
        half.send(mail.alert(1, 9000, "half").data[:6000])
        relay.kill()
        self.octets = relay.spool.read_bytes()
        self.messages = {message.sender: message for message in done + part + waiting}
        self.pending = {(m.sender, to) for m in part for to in m.recipients[1:]} | {
            (m.sender, to) for m in waiting for to in m.recipients
        }
        count = len(self.octets) // BLOCK
        self.used = [n for n in range(2, count) if b"@test.example" in self.block(n)]
        # The last block of a message may be one in which no name stands.
        self.end = 1 + max(n for n in range(2, count) if self.block(n) != self.block(n, fresh))
        self.port = relay.port

    @staticmethod
    def accept(relay, messages):
        unsent = load.send_all(relay.port, messages, 2, 120)
        expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")

    def block(self, number, octets=None):
        return (octets or self.octets)[number * BLOCK : (number + 1) * BLOCK]

    def with_block(self, number, block):
        return self.octets[: number * BLOCK] + block + self.octets[(number + 1) * BLOCK :]


def flipped(original, number, offset, draw):
    block = bytearray(original.block(number))
    block[offset] ^= 1 << draw.randrange(8)
    return original.with_block(number, bytes(block))


def variants(original, draw):
    """(name, octets, how many messages may be missing) of each damaged copy."""
    used = original.used
    everything = len(original.messages)
    yield "undamaged", original.octets, 0
    for number in used:
        for offset in (draw.randrange(96), draw.randrange(96, BLOCK)):
            yield f"block {number} octet {offset} flipped", flipped(original, number, offset, draw), 1
    for slot in (0, 1):
        for offset in [*range(0, 64, 7), draw.randrange(64, BLOCK)]:
            yield f"superblock {slot} octet {offset} flipped", flipped(original, slot, offset, draw), 0
        yield f"superblock {slot} zeroed", original.with_block(slot, bytes(BLOCK)), 0
        yield f"superblock {slot} random", original.with_block(slot, draw.randbytes(BLOCK)), 0
        for cut in (512, 1024, 2048):
            torn = original.block(slot)[:cut] + draw.randbytes(BLOCK - cut)
            yield f"superblock {slot} torn at {cut}", original.with_block(slot, torn), 0
            torn = draw.randbytes(cut) + original.block(slot)[cut:]
            yield f"superblock {slot} torn before {cut}", original.with_block(slot, torn), 0
        older = original.block(slot, original.older)
        yield f"superblock {slot} of an older state", original.with_block(slot, older), everything
    for number in draw.sample(used, min(6, len(used))):
        other = draw.choice(used)
        yield f"block {number} zeroed", original.with_block(number, bytes(BLOCK)), 1
        yield f"block {number} of an older state", original.with_block(
            number, original.block(number, original.older)
        ), 1
        yield f"block {number} written over by {other}", original.with_block(number, original.block(other)), 2
        for cut in (512, 2048, 3584):
            torn = original.block(number)[:cut] + original.block(other)[cut:]
            yield f"block {number} torn at {cut} with {other}", original.with_block(number, torn), 1
    for number, other in (draw.sample(used, 2) for _ in range(6)):
        swapped = original.with_block(number, original.block(other))
        swapped = swapped[: other * BLOCK] + original.block(number) + swapped[(other + 1) * BLOCK :]
        yield f"blocks {number} and {other} swapped", swapped, 2
    for number in range(8):
        many = bytearray(original.octets)
        for _ in range(2 + 4 * number):
            many[draw.choice(used) * BLOCK + draw.randrange(BLOCK)] ^= 1 << draw.randrange(8)
        yield f"{2 + 4 * number} octets flipped", bytes(many), 2 + 4 * number
    last = original.end * BLOCK
    for cut, missing in (
        (len(original.octets) - 1, 0),
        (len(original.octets) - 5 * BLOCK, 0),
        (last + 17, 1),
        (last - 1, 1),
        (last // 2, everything),
        (9 * BLOCK + 100, everything),
        (2 * BLOCK, everything),
        (BLOCK + 7, everything),
    ):
        yield f"cut to {cut} octets", original.octets[:cut], missing
    yield "longer than it was", original.octets + draw.randbytes(3 * BLOCK + 5), 0


def attempt(world, original, index, name, octets, missing_max, sinks):
    """Starts a relay twice on one damaged copy; returns (text of what is wrong or None, missing messages,
    doubled recipients).
    """
    sink = sinks.pop()
    try:
        relay = Relay(world, sink.port, name=f"copy{index}", size=SIZE)
        relay.spool.write_bytes(octets)
        first = len(sink.records())
        relay.start()
        settle(relay, sink)
        code = relay.terminate()
        if code != 0:
            return f"{name}: SIGTERM gave {code}", 0, 0
        relay.start()
        settle(relay, sink)
        relay.terminate()
        return judge(original, sink, first, relay, name, missing_max)
    except Failure as failure:
        return f"{name}: {failure}", 0, 0
    finally:
        sinks.append(sink)


def settle(relay, sink):
    """Waits until nothing waits in the relay any more."""

    def is_idle():
        code, octets, _ = tool(relay, "queue", "--json")
        return code == 0 and b'"waiting":0,' in octets

    sink.wait_until(is_idle, SETTLE_SECONDS_MAX)


def judge_reports(sink, reports, log):
    """Told to admin: what was found at the start, with its ids, and what came to light later, once."""
    if any(record.recipients != [ADMIN] for record in reports):
        return "a report to others"
    if len(reports) != log.count("damage-reported id="):
        return f"{len(reports)} reports have come"
    if len(reports) > 2 or bool(reports) != bool(ASIDE.search(log)):
        return f"{len(reports)} reports of damage"
    texts = b"".join(sink.data(record) for record in reports)
    ids = DAMAGED.findall(log)
    if len(ids) <= NAMED_MAX and not all(f"queue remove {id}\r\n".encode() in texts for id in ids):
        return f"not all of {ids} are in the report"
    return None


def judge(original, sink, first, relay, name, missing_max):
    """Nothing wrong, nothing mixed, few missing, and what is missing is said, to admin too."""
    records = sink.records()[first:]
    reports = [record for record in records if record.sender == ADMIN]
    wrong = judge_reports(sink, reports, relay.log())
    if wrong:
        return f"{name}: {wrong}: {relay.log_tail()}", 0, 0
    came = []
    for record in records:
        if record in reports:
            continue
        message = original.messages.get(record.sender)
        if message is None:
            return f"{name}: delivered unknown mail from {record.sender}", 0, 0
        changed = mail.difference(message, sink.data(record))
        if changed or record.faults:
            return f"{name}: delivered {record.sender} wrong: {changed} {record.faults}", 0, 0
        if not set(record.recipients) <= set(message.recipients):
            return f"{name}: delivered {record.sender} to {record.recipients}", 0, 0
        came += [(record.sender, to) for to in record.recipients]
    missing = {sender for sender, to in original.pending - set(came)}
    doubled = len(came) - len(set(came)) + len(set(came) - original.pending)
    if len(missing) > missing_max:
        return (
            f"{name}: {len(missing)} messages missing, at most {missing_max} can be hit",
            len(missing),
            doubled,
        )
    if missing and not REPLACED.search(name) and not SAID.search(relay.log()):
        return (
            f"{name}: {sorted(missing)[:2]} missing and the log does not say so: {relay.log_tail()}",
            len(missing),
            doubled,
        )
    return None, len(missing), doubled


@check("damage.blocks", 900)
def blocks(world):
    """All variants, some at a time."""
    original = Original(world)
    expect(len(original.used) >= 30, f"only {len(original.used)} used blocks found")
    sinks = [Sink(world, free_port(), name=f"sink{number}").start() for number in range(WORKERS)]
    copies = list(variants(original, random.Random(world.seed)))
    lock = threading.Lock()
    results = []

    def one(indexed):
        index, (name, octets, missing_max) = indexed
        result = attempt(world, original, index, name, octets, missing_max, sinks)
        with lock:
            results.append(result)

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, enumerate(copies)))
    wrong = [text for text, _, _ in results if text]
    expect(not wrong, f"{len(wrong)} of {len(copies)}: " + "; ".join(wrong[:8]))
    missing = sum(count for _, count, _ in results)
    doubled = sum(count for _, _, count in results)
    return (
        f"{len(copies)} damaged copies of {len(original.used)} used blocks, {missing} messages set aside, "
        f"{doubled} recipients again"
    )


@check("damage.foreign_file", 240)
def foreign_file(world):
    """A file that is no spool, or whose superblocks are both gone, is renamed aside with not an octet
    changed; a new spool works.
    """
    original = Original(world)
    draw = random.Random(world.seed)
    files = {
        "a mailbox": b"From root Tue Nov 24\n" + b"Subject: keep me\n\n" * 30_000,
        "a short text": b"hello\n",
        "zeros and a short tail": bytes(BLOCK) + b"hello\n",
        "random octets": draw.randbytes(2**20),
        "random octets, shorter": draw.randbytes(3 * BLOCK + 11),
        "both superblocks random": draw.randbytes(2 * BLOCK) + original.octets[2 * BLOCK :],
    }
    sink = Sink(world, free_port()).start()
    wrong = []
    for index, (name, octets) in enumerate(files.items()):
        relay = Relay(world, sink.port, name=f"foreign{index}", size=SIZE)
        relay.spool.write_bytes(octets)
        first = len(sink.records())
        relay.start()
        message = mail.alert(index, 3000, "new", 2, world.seed)
        reply = load.Session(relay.port).transaction(message)
        expect(reply.code == 250, f"{name}: a new message got {reply.code} {reply.text}")
        expect(sink.wait_for([message], 60), f"{name}: a new message did not arrive")
        kept = [
            path.name
            for path in relay.folder.iterdir()
            if path.is_file() and path != relay.spool and path.read_bytes() == octets
        ]
        came = {r.sender for r in sink.records()[first:]}
        recovered = {sender for sender, _ in original.pending} <= came
        if not kept and not (name.startswith("both") and recovered):
            wrong.append(f"{name}: the file is gone: {[p.name for p in relay.folder.iterdir()]}")
        elif not SAID.search(relay.log()) and not recovered:
            wrong.append(f"{name}: the log does not say so: {relay.log_tail()}")
        expect(relay.terminate() == 0, f"{name}: SIGTERM")
        relay.start()
        expect(relay.terminate() == 0, f"{name}: SIGTERM")
    expect(not wrong, "; ".join(wrong))
    return f"{len(files)} files kept as they were"
