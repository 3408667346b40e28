"""Messages by number, the same for the same seed, and the comparison of what was sent with what arrived.

A message is known by its reverse-path: even one of a single octet can be told from all others, and its mail
data stays what it is.
"""

import collections
import dataclasses
import random
import re

DOMAIN = "test.example"
RECEIVED = re.compile(rb"\AReceived: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*\Z")
LINE_OCTETS_MAX = 998
ASCII = bytes(range(33, 127))
EIGHT_BIT = bytes(octet for octet in range(256) if octet not in (0, 10, 13))


@dataclasses.dataclass
class Message:
    """What one client sends: names, and mail data before transparency that ends in CRLF (or is empty)."""

    sender: str
    recipients: list
    data: bytes
    is_8bit: bool = False

    def transparent(self):
        """The mail data with dots doubled, and its end."""
        return (b"\r\n" + self.data).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def lines(draw, octets, width, alphabet, start=b""):
    """About `octets` octets of text in lines of `width`, each begun with `start`."""
    table = bytes(alphabet[i % len(alphabet)] for i in range(256))
    text = draw.randbytes(octets).translate(table)
    step = max(1, width - len(start))
    return b"".join(start + text[at : at + step] + b"\r\n" for at in range(0, max(1, len(text)), step))


def recipients(draw, count):
    return [f"r{draw.randrange(10**6)}.{number}@{DOMAIN}" for number in range(count)]


def alert(number, octets=600, prefix="m", count=1, seed=0):
    """An ordinary alert; its sender stands in each of its lines, so that it is seen in each of its blocks."""
    sender = f"{prefix}{number}@{DOMAIN}"
    draw = random.Random(f"{seed} {sender}")
    head = f"From: <{sender}>\r\nSubject: alert {number}\r\n\r\n".encode()
    body = lines(draw, octets, 72, ASCII, f"{sender} ".encode())
    return Message(sender, recipients(draw, count), head + body)


KINDS = ("plain", "dots", "8bit", "long", "short", "only_dots", "empty_lines")


def corpus(number, seed=1):
    """Message `number` of the 1,000: sizes 1 octet to 5 MiB, all kinds of lines, 1 to 200 recipients."""
    draw = random.Random(f"{seed} corpus {number}")
    kind = KINDS[number % len(KINDS)]
    octets = number + 1 if number < 100 else int(2 ** draw.uniform(7, 17))
    if number % 100 == 50:
        octets = draw.randrange(500_000, 1_500_000)
    if number in (333, 666):
        octets = 5 * 1024 * 1024
    count = 1 if draw.random() < 0.7 else draw.randrange(2, 30)
    if number % 50 == 7:
        count = draw.randrange(60, 201)
    if number % 250 == 8:
        count = 200
    data = {
        "plain": lambda: lines(draw, octets, 78, ASCII),
        "dots": lambda: lines(draw, octets, 40, ASCII, b"."),
        "8bit": lambda: lines(draw, octets, 120, EIGHT_BIT),
        "long": lambda: lines(draw, octets, LINE_OCTETS_MAX, ASCII),
        "short": lambda: lines(draw, octets, 1, ASCII),
        "only_dots": lambda: lines(draw, octets, draw.randrange(1, 5), b"."),
        "empty_lines": lambda: b"\r\n" * max(1, octets // 2),
    }
    if number in (333, 666):
        kind = "dots" if number == 333 else "8bit"
    if kind in ("short", "only_dots", "empty_lines"):
        octets = min(octets, 200_000)
    text = data[kind]()
    return Message(f"c{number}@{DOMAIN}", recipients(draw, count), text, is_8bit=kind == "8bit")


def difference(message, arrived):
    """None when `arrived` is one Received field and then the message's octets; else where it is not."""
    cut = len(arrived) - len(message.data)
    if cut < 0:
        return f"{len(arrived)} octets arrived of {len(message.data)}"
    if arrived[cut:] != message.data:
        place = next((i for i, (a, b) in enumerate(zip(arrived[cut:], message.data)) if a != b), -1)
        return f"octet {place} of {len(message.data)} differs (first octets arrived: {arrived[:60]!r})"
    if not RECEIVED.match(arrived[:cut]):
        return f"above the data stands {arrived[:cut][:200]!r}, not one Received field"
    return None


def compare(messages, sink, *, exactly_once=True):
    """All that is wrong with what `sink` got of `messages`: lost, doubled, changed, unknown. A list of
    texts.
    """
    wanted = {message.sender: message for message in messages}
    copies = collections.defaultdict(collections.Counter)
    wrong = []
    for record in sink.records():
        wrong += [f"{record.sender}: {fault}" for fault in record.faults]
        message = wanted.get(record.sender)
        if message is None:
            wrong.append(f"unknown message from {record.sender}")
            continue
        changed = difference(message, sink.data(record))
        if changed:
            wrong.append(f"{record.sender}: {changed}")
        if record.is_answered:
            copies[record.sender].update(record.recipients)
    for message in messages:
        got = copies[message.sender]
        lost = [r for r in message.recipients if not got[r]]
        doubled = [r for r in message.recipients if got[r] > 1]
        strange = set(got) - set(message.recipients)
        if lost:
            wrong.append(
                f"{message.sender}: {len(lost)} of {len(message.recipients)} recipients did not get it"
            )
        if doubled and exactly_once:
            wrong.append(f"{message.sender}: {len(doubled)} recipients got it more than once")
        if strange:
            wrong.append(f"{message.sender}: went to {sorted(strange)[:3]}")
    return wrong
