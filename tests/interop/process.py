"""The process as its supervisor sees it: SIGTERM, few file descriptors, nothing to do."""

import resource
import socket
import time

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink


@check("process.sigterm", 120)
def sigterm(world):
    """Open sessions get 421, the exit code is 0, and what was accepted is relayed after the next start."""
    sink = Sink(world, free_port())
    relay = Relay(world, sink.port).start()
    message = mail.alert(1, 5000, "term", 2, world.seed)
    first = load.Session(relay.port)
    expect(first.transaction(message).code == 250, "not accepted")
    half = load.Session(relay.port)
    half.begin(mail.alert(2, 5000, "half"))
    half.send(b"half of a message\r\n")
    quiet = load.Session(relay.port)
    start = time.monotonic()
    code = relay.terminate()
    took = time.monotonic() - start
    expect(code == 0, f"exit code {code}")
    for name, session in (
        ("an idle session", first),
        ("a session in its data", half),
        ("a new session", quiet),
    ):
        try:
            reply = session.reply()
        except load.Closed as closed:
            reply = None
            reason = str(closed)
        expect(
            reply is not None, f"{name} was closed without a word" + (f": {reason}" if reply is None else "")
        )
        expect(
            reply.code == 421 and "relay.test.example" in reply.text, f"{name} got {reply.code} {reply.text}"
        )
    sink.start()
    relay.start()
    expect(sink.wait_for([message], 20), "what was accepted before SIGTERM did not arrive")
    expect(all(record.sender != "half2@test.example" for record in sink.records()), "a half was delivered")
    return f"ended in {took * 1000:.0f} ms"


@check("process.few_descriptors", 120)
def few_descriptors(world):
    """SEC-dos-e: 16 file descriptors and 60 connections: no busy loop, and service when connections go."""
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port)
    relay.launch()
    resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, (16, 16))
    relay.wait_for_greeting()
    crowd = []
    for _ in range(60):
        client = socket.socket()
        client.settimeout(10)
        client.connect(("127.0.0.1", relay.port))
        crowd.append(client)
    time.sleep(0.3)
    before = relay.cpu_seconds()
    time.sleep(3)
    used = relay.cpu_seconds() - before
    expect(used < 0.3, f"{used:.2f} s of CPU in 3 s while no descriptor is left")
    for client in crowd:
        client.close()
    message = mail.alert(1, 2000, "after", 1, world.seed)
    unsent = load.send_all(relay.port, [message], 1, 40)
    expect(not unsent, f"no service after the crowd has gone: {unsent}")
    expect(sink.wait_for([message], 20), "its mail did not arrive")
    return f"{used:.2f} s of CPU in 3 s"


@check("process.idle", 180)
def idle(world):
    """With nothing to do: no CPU. With a dead smarthost and waiting mail: next to none."""
    sink = Sink(world, free_port())
    relay = Relay(world, sink.port).start()
    before = relay.cpu_seconds()
    time.sleep(2)
    nothing = relay.cpu_seconds() - before
    messages = [mail.alert(n, 1000, "idle", 1, world.seed) for n in range(200)]
    expect(not load.send_all(relay.port, messages, 4, 60), "not accepted")
    before = relay.cpu_seconds()
    time.sleep(4)
    dead = relay.cpu_seconds() - before
    expect(nothing < 0.05, f"{nothing:.2f} s of CPU in 2 s with nothing to do")
    expect(dead < 0.2, f"{dead:.2f} s of CPU in 4 s with a dead smarthost")
    sink.start()
    expect(sink.wait_for(messages, 60), "the mail did not arrive")
    return f"{nothing:.2f} s of CPU idle, {dead:.2f} s with a dead smarthost and 200 messages"
