"""`sender.header_from` and `sender.envelope`, as the email package of Python's standard library reads the result."""

import email
import email.policy
import email.utils
import random
import re

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

ME = "me@test.example"
KEYS = f'[sender]\nheader_from = "{ME}"\nenvelope = "{ME}"\n'
FROM = re.compile(rb"(?im)^(from|sender|reply-to)[ \t]*:[^\n]*\n([ \t][^\n]*\n)*")
# The From field, and what its display name must be for a reader.
FIELDS = [
    (b"From: camera@localhost", "camera@localhost"),
    (b"From: Front Door <camera@localhost>", "Front Door (camera@localhost)"),
    (b"From: \"Door, front\"\r\n\t<camera@nas.lan>", "Door, front (camera@nas.lan)"),
    (b"From:\r\n =?utf-8?q?T=C3=BCr?=\r\n vorn <t@nas.lan>", "T\u00fcr vorn (t@nas.lan)"),
    (b"From: =?iso-8859-1?q?T=FCr?= eins <t@nas.lan>", "T\u00fcr eins (t@nas.lan)"),
    (b"From: Cameras: Front <a@nas.lan>, b@nas.lan;", "Front (a@nas.lan)"),
    (b"From: a@nas.lan (Front (old) Door)", "Front (old) Door (a@nas.lan)"),
    (b"From: \"Say \\\"cheese\\\"\" <a@nas.lan>", 'Say "cheese" (a@nas.lan)'),
    (b"From: <@r.example:a@nas.lan>", "a@nas.lan"),
    (b"From: Ups <ups@site.example>\r\nFrom: other@nas.lan", "Ups (ups@site.example)"),
    (b"From: a@nas.lan\r\nSender: Root\r\n <root@nas.lan>", "a@nas.lan"),
    (b"From:", ""),
    (b"Sender: root@nas.lan", None),
]


def relayed(relay, sink, messages):
    """What arrives of `messages`, in their order, without our Received field."""
    session = load.Session(relay.port)
    for message in messages:
        reply = session.transaction(message)
        expect(reply.code == 250, f"not accepted: {reply.code} {reply.text}")
    wanted = {to for message in messages for to in message.recipients}
    arrived = lambda: {to for record in sink.records() for to in record.recipients}  # noqa: E731
    expect(sink.wait_until(lambda: wanted <= arrived(), 30), "not all has arrived")
    records = {record.recipients[0]: record for record in sink.records()}
    for record in records.values():
        expect(record.sender == ME and not record.faults, f"from {record.sender}: {record.faults}")
    whole = [sink.data(records[message.recipients[0]]) for message in messages]
    return [re.sub(rb"\AReceived: [^\r]*\r\n(?:[ \t][^\n]*\n)*", b"", octets) for octets in whole]


def message_of(number, header, body=b"\r\n.body\r\nFrom: body\r\n"):
    return mail.Message(f"device{number}@nas.lan", [f"r{number}@test.example"], header + body, is_8bit=True)


@check("rewriting.from")
def header_from(world):
    """Folded, encoded, missing, doubled and group-syntax From fields; the rest octet-identical."""
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port, tables=KEYS).start()
    messages = []
    for number, (field, _) in enumerate(FIELDS):
        header = b"To: a@b.example\r\n" + field + b"\r\nSubject: =?utf-8?q?x?=\r\n folded\r\n"
        messages.append(message_of(number, header))
    for number, (octets, message) in enumerate(zip(relayed(relay, sink, messages), messages)):
        field, name = FIELDS[number]
        name = message.sender if name is None else name
        parsed = email.message_from_bytes(octets, policy=email.policy.default)
        expect(not parsed.defects, f"{field}: {parsed.defects}")
        expect(len(parsed.get_all("From")) == 1 and parsed["Sender"] is None, f"{field}: {parsed.items()}")
        (mailbox,) = parsed["From"].addresses
        expect(mailbox.addr_spec == ME, f"{field}: {mailbox}")
        expect(mailbox.display_name == name, f"{field}: {mailbox.display_name!r}, not {name!r}")
        expect(not parsed["From"].defects, f"{field}: {parsed['From'].defects}")
        has_reply_to = b"site.example" in field
        expect((parsed["Reply-To"] == "ups@site.example") == has_reply_to, f"Reply-To: {parsed['Reply-To']}")
        expect(FROM.sub(b"", octets) == FROM.sub(b"", message.data).replace(b"\n.", b"\n."), f"{octets!r}")
    return f"{len(messages)} fields"


@check("rewriting.random", 120)
def random_fields(world):
    """From fields of random pieces: Python finds one From with our address, and all else as it was."""
    draw = random.Random(world.seed)
    pieces = [b'"', b"(", b")", b"<", b">", b",", b";", b":", b"\\", b"@", b" ", b"\r\n ", b"a@nas.lan", b"Door",
              b"=?utf-8?q?x?=", b"=?utf-8?b?", b"\xc3\xa4", b"\xe4", b"\x01", b"x" * 90, b"[1]", b"."]
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port, tables=KEYS).start()
    messages = []
    for number in range(300):
        field = b"".join(draw.choice(pieces) for _ in range(draw.randrange(25)))
        where = draw.choice([b"From: %s\r\nTo: a@b.example\r\n", b"To: a@b.example\r\nfrom :%s\r\n"])
        messages.append(message_of(number, where % field))
    for octets, message in zip(relayed(relay, sink, messages), messages):
        parsed = email.message_from_bytes(octets, policy=email.policy.compat32)
        expect(not parsed.defects, f"{message.data!r}: {parsed.defects}")
        fields = [name for name in parsed.keys() if name.lower() == "from"]
        expect(fields == ["From"], f"{message.data!r}: {octets!r}")
        field = re.search(rb"(?m)^From:([^\n]*\n([ \t][^\n]*\n)*)", octets).group(1)
        ((_, address),) = email.utils.getaddresses([field.decode("latin-1").replace("\r\n", "")])
        expect(address == ME, f"{message.data!r}: {field!r}")
        expect(FROM.sub(b"", octets) == FROM.sub(b"", message.data), f"{message.data!r}: {octets!r}")
    return f"{len(messages)} fields"
