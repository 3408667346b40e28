"""1,000 messages, 1 octet to 5 MiB, dots, 8-bit, long lines, 1 to 200 recipients: octet-identical below
Received, once each.
"""

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

COUNT = 1000


@check("octets", 400)
def octets(world):
    """The whole corpus through the relay to the raw sink, from clients that pipeline or don't, declare a
    size or don't.
    """
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    messages = [mail.corpus(number, world.seed) for number in range(COUNT)]
    sizes = [len(message.data) for message in messages]
    counts = [len(message.recipients) for message in messages]
    expect(
        min(sizes) <= 3 and max(sizes) >= 5 * 2**20 and min(counts) == 1 and max(counts) == 200,
        "the corpus is too tame",
    )
    unsent = load.send_all(relay.port, messages, clients=8, seconds=300)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")
    sink.wait_for(messages, 90)
    sink.wait_quiet()
    wrong = mail.compare(messages, sink)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")
    copies = sum(len(message.recipients) for message in messages)
    return f"{COUNT} messages, {copies} recipients, {sum(sizes) / 2**20:.0f} MiB, each once"


@check("octets.chunking", 120)
def chunking(world):
    """The same in chunks, with and without PIPELINING, and while connections break over them."""
    for name, extensions in (("with", ["PIPELINING", "SIZE", "8BITMIME"]), ("without", ["SIZE", "8BITMIME"])):
        sink = Sink(world, free_port(), name=f"sink-{name}", extensions=[*extensions, "CHUNKING"]).start()
        relay = Relay(world, sink.port, name=name).start()
        messages = [mail.corpus(number, world.seed) for number in range(200)]
        unsent = load.send_all(relay.port, messages, clients=8)
        expect(not unsent, f"{name}: {len(unsent)} not accepted")
        sink.wait_for(messages, 60)
        wrong = mail.compare(messages, sink)
        expect(not wrong, f"{name}: {len(wrong)} faults, the first: {wrong[:3]}")
        sink.behave(drop_dots=3)
        more = [mail.alert(number, 3000, "drop", 2, world.seed) for number in range(30)]
        unsent = load.send_all(relay.port, more, clients=4)
        expect(not unsent, f"{name}: {len(unsent)} not accepted")
        expect(sink.wait_for(more, 60), f"{name}: not all has arrived")
        relay.kill()
    return "2 smarthosts, 460 messages"


@check("octets.without_extensions", 120)
def without_extensions(world):
    """A smarthost that offers nothing: no pipelining, no SIZE; 7-bit mail arrives all the same."""
    sink = Sink(world, free_port(), extensions=[]).start()
    relay = Relay(world, sink.port).start()
    messages = [m for m in (mail.corpus(number, world.seed) for number in range(120)) if not m.is_8bit]
    unsent = load.send_all(relay.port, messages, clients=4)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")
    sink.wait_for(messages, 60)
    wrong = mail.compare(messages, sink)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")
    return f"{len(messages)} messages"
