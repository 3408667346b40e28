"""The network comes up, in a network namespace of its own: mail that waits for it leaves at once."""

import argparse
import re
import subprocess
import sys
import time

import load
import mail
from checks import Failure, World, check, expect, free_port
from relay import Relay
from sink import Sink

HOST = "192.0.2.1"
# A rest that is this long is not over by itself while it is looked for what ends it.
REST_SECONDS_MIN = 24
HURRIED = 'reason="the network has changed"'


def unshared():
    """The start of a command line that runs in a network namespace of its own; none where that isn't allowed."""
    for options in (["--net"], ["--net", "--map-root-user"]):
        command = ["unshare", *options]
        done = subprocess.run([*command, "ip", "link", "set", "lo", "up"], capture_output=True)
        if done.returncode == 0:
            return command
    return None


@check("network.comes_up", 400)
def comes_up(world):
    command = unshared()
    if not command:
        return "passed over: network namespaces are not allowed here"
    done = subprocess.run([*command, sys.executable, __file__, world.folder / "inside"], capture_output=True, text=True)
    expect(done.returncode == 0, done.stdout + done.stderr)
    return done.stdout.strip()


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def rest_s(relay):
    rests = re.findall(r"next-try=(\d+)s", relay.log())
    return int(rests[-1]) if rests else 0


def comes_up_inside(world):
    ip("link", "set", "lo", "up")
    port = free_port()
    # The last rest is longer than the whole check takes.
    relay = Relay(
        world, port, smarthost=f'host = "{HOST}"\ntls = "none"\n', retry='route_longest = "1h"\n'
    ).start()
    sink = Sink(world, port, address="0.0.0.0").start()
    messages = [mail.alert(number) for number in range(3)]
    expect(not load.send_all(relay.port, messages, clients=1), "not accepted")
    expect(Sink.wait_until(lambda: rest_s(relay) >= REST_SECONDS_MIN, 150), f"it doesn't rest: {relay.log_tail()}")
    # The loopback came up before the relay did, and nothing else has.
    expect(HURRIED not in relay.log(), "hurried for nothing")

    start = time.monotonic()
    ip("address", "add", f"{HOST}/32", "dev", "lo")
    expect(sink.wait_for(messages, REST_SECONDS_MIN / 2), f"not relayed in {REST_SECONDS_MIN / 2} s: {relay.log_tail()}")
    took = time.monotonic() - start
    expect(relay.log().count(HURRIED) == 1, relay.log_tail())

    # While nothing waits, more of the kind is nobody's business.
    for number in range(2, 60):
        ip("address", "add", f"192.0.2.{number}/32", "dev", "lo")
    more = [mail.alert(number) for number in range(3, 6)]
    expect(not load.send_all(relay.port, more, clients=1), "not accepted")
    expect(sink.wait_for(more, 60), f"not relayed: {relay.log_tail()}")
    expect(relay.log().count(HURRIED) == 1, relay.log_tail())
    return f"relayed {took:.1f} s after the address came"


def main():
    options = argparse.Namespace(kills=0, soak_seconds=0, seed=1)
    world = World(sys.argv[1], options)
    try:
        print(comes_up_inside(world))
    except Failure as failure:
        print(failure)
        return 1
    finally:
        world.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
