"""A smarthost that is down, slow, closes, drops, refuses: nothing is lost, all arrives when it is well
again.
"""

import collections
import signal

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink


def alerts(world, prefix, count, recipients=2):
    return [mail.alert(n, 200 + 97 * n, prefix, recipients, world.seed) for n in range(count)]


def accepted(relay, messages, clients=4):
    unsent = load.send_all(relay.port, messages, clients)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")


def all_arrive(sink, messages, seconds=60, exactly_once=True):
    sink.wait_for(messages, seconds)
    sink.wait_quiet(1.5)
    wrong = mail.compare(messages, sink, exactly_once=exactly_once)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")


@check("faults.down", 90)
def down(world):
    """Nobody listens; the relay is stopped and started meanwhile; then the smarthost comes, goes, and
    comes.
    """
    sink = Sink(world, free_port())
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "down", 100)
    accepted(relay, messages[:50])
    relay.terminate()
    relay.start()
    accepted(relay, messages[50:80])
    sink.start()
    expect(sink.wait_for(messages[:5], 20), "the smarthost is back and nothing comes")
    sink.stop()
    accepted(relay, messages[80:])
    sink.start()
    all_arrive(sink, messages, exactly_once=False)
    doubled = sum(n - 1 for n in sink.delivered().values() if n > 1)
    expect(doubled <= 2, f"{doubled} recipients doubled by one lost connection")
    return f"{len(messages)} messages, {doubled} recipients doubled by the stop of the sink"


@check("faults.slow", 90)
def slow(world):
    """Each batch of replies takes 100 ms, and then nothing is said at all; clients are not slowed by it."""
    sink = Sink(world, free_port(), delay=0.1).start()
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "slow", 40)
    accepted(relay, messages[:20])
    sink.process.send_signal(signal.SIGSTOP)
    accepted(relay, messages[20:])
    early = len(sink.records())
    sink.process.send_signal(signal.SIGCONT)
    all_arrive(sink, messages, 60)
    expect(early < len(messages), "the clients had to wait for the smarthost")
    return f"{len(messages)} messages, {early} of them relayed when the last was accepted"


@check("faults.close_after_each_reply", 120)
def close_after_each_reply(world):
    """Connection by connection the smarthost closes one reply later: after the greeting, EHLO, MAIL, RCPT,
    354, the 250.
    """
    sink = Sink(world, free_port(), close_after=[1, 2, 3, 4, 5, 6, 7]).start()
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "close", 6)
    accepted(relay, messages)
    sink.wait_for(messages, 25)
    in_the_storm = len(sink.delivered())
    sink.behave(close_after=[])
    all_arrive(sink, messages)
    return f"{len(messages)} messages, {in_the_storm} recipients while it went on"


@check("faults.drop_after_dot", 90)
def drop_after_dot(world):
    """The connection goes after the final dot, before the reply: sent again until a reply is read; never
    lost.
    """
    sink = Sink(world, free_port(), drop_dots=5).start()
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "dot", 30)
    accepted(relay, messages)
    all_arrive(sink, messages)
    unanswered = sum(not record.is_answered for record in sink.records())
    expect(unanswered == 5, f"{unanswered} drops seen, 5 were set")
    return f"{len(messages)} messages, {unanswered} sent again after a drop"


@check("faults.refusals", 90)
def refusals(world):
    """Per recipient: 550 is not tried again, 451 is until it is taken; a 554 to the data is not tried
    again.
    """
    sink = Sink(world, free_port(), later=True).start()
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "mixed", 20, 1)
    for number, message in enumerate(messages):
        message.recipients += [f"refused{number}@test.example", f"later{number}@test.example"]
    refused_data = alerts(world, "baddata", 3, 1)
    accepted(relay, messages + refused_data)
    at_once = [mail.Message(m.sender, m.recipients[:1], m.data) for m in messages]
    expect(sink.wait_for(at_once, 20), "the recipients that the smarthost takes did not get it")
    sink.behave(later=False)
    wanted = [mail.Message(m.sender, [m.recipients[0], m.recipients[2]], m.data) for m in messages]
    all_arrive(sink, wanted, 30)
    # The sink has a message before the relay knows that it has: an end in between sends it again.
    recorded = lambda: relay.log().count("relayed id=") >= 2 * len(messages)  # noqa: E731
    expect(sink.wait_until(recorded, 20), f"not all is recorded as relayed: {relay.log_tail()}")
    relay.terminate()
    relay.start()
    sink.wait_quiet(3)
    again = [pair for pair, count in sink.delivered().items() if count > 1]
    expect(not again, f"after a restart recipients got it again: {again[:3]}")
    return (
        f"{len(messages)} messages with a 250, a 550 and a 451 each; {len(refused_data)} refused at the dot"
    )


@check("faults.recipient_limit", 60)
def recipient_limit(world):
    """A smarthost that takes 10 recipients a transaction and answers 452 to the rest."""
    sink = Sink(world, free_port(), rcpt_max=10).start()
    relay = Relay(world, sink.port).start()
    messages = [mail.alert(n, 500, "limit", 35, world.seed) for n in range(4)]
    accepted(relay, messages)
    all_arrive(sink, messages, 50)
    sizes = collections.Counter(len(record.recipients) for record in sink.records())
    expect(max(sizes) <= 10, f"{max(sizes)} recipients in one transaction")
    return f"4 messages of 35 recipients in {len(sink.records())} transactions"
