"""What the relay costs this machine: memory, wake-ups, writes. Prints a line a figure; see targets/sizes."""

import argparse
import os
import pathlib
import re
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "interop"))

import checks  # noqa: E402
import load  # noqa: E402
import mail  # noqa: E402
from authority import Authority  # noqa: E402
from checks import Failure, expect, free_port  # noqa: E402
from relay import Relay  # noqa: E402
from secure import Secure  # noqa: E402
from sink import Sink  # noqa: E402

IDLE_OCTETS_MAX = 512 * 1024
# Of the kernel's and the test's own doing: a figure is a count of what the relay does, not of what happens to it.
WAKE_UPS_MAX = 0


def begin(world, port, name, **keys):
    """A relay whose log is no file on a disk: a syslog or procd takes it in the field, and it is no part of a figure."""
    relay = Relay(world, port, name=name, size="16MiB", **keys)
    folder = world.stack.enter_context(tempfile.TemporaryDirectory(prefix="postern-", dir="/dev/shm"))
    relay.log_path = pathlib.Path(folder) / "log"
    return relay.start()


def process(relay, file):
    return pathlib.Path(f"/proc/{relay.process.pid}/{file}").read_text()


def private(relay):
    """Octets of memory that the process alone has and has written to."""
    os.sync()
    return 1024 * int(re.search(r"Private_Dirty: +(\d+)", process(relay, "smaps_rollup"))[1])


def wake_ups(relay):
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", process(relay, "status"), re.MULTILINE)[1])


def writes(relay):
    """(calls, octets that go to a disk)."""
    text = process(relay, "io")
    return int(re.search(r"syscw: (\d+)", text)[1]), int(re.search(r"^write_bytes: (\d+)", text, re.MULTILINE)[1])


def octets_written(relay):
    return writes(relay)[1]


def settle(relay, figure=octets_written):
    """Until what follows the last event has been done: the sync of the frees comes within 5 s, but for a busy
    machine. What goes on for longer than all this is of the relay's own doing, and counted.
    """
    for _ in range(10):
        before = figure(relay)
        time.sleep(7)
        if figure(relay) == before:
            return


def idle_for(relay, seconds):
    """(wake-ups, calls that write, octets written) while nothing is asked of the relay."""
    before = wake_ups(relay), *writes(relay)
    time.sleep(seconds)
    after = wake_ups(relay), *writes(relay)
    return [then - now for then, now in zip(after, before)]


def memory(world, sessions):
    sink = Sink(world, free_port()).start()
    relay = begin(world, sink.port, "memory")
    settle(relay)
    idle = private(relay)
    print(f"private memory, idle: {idle:,}")
    held = []
    for number in range(sessions):
        session = load.Session(relay.port)
        expect(session.begin(mail.alert(number, 500, "open", 1, world.seed)).code == 354, "no 354")
        session.send(b"half of a message\r\n" * 100)
        held.append(session)
    time.sleep(0.5)
    full = private(relay)
    print(f"private memory, {sessions} sessions within their mail data: {full:,}, so {(full - idle) // sessions:,} each")
    for session in held:
        session.close()
    relay.kill()
    expect(idle <= IDLE_OCTETS_MAX, f"more than {IDLE_OCTETS_MAX:,} octets, idle")


def tls(world):
    authority = Authority(world)
    server = Secure(world, authority.issue("good"), logins={"u": "word"})
    secret = world.folder / "secret"
    secret.write_text("word\n")
    secret.chmod(0o600)
    smarthost = f'host = "localhost"\nca_file = "{authority.certificate}"\nuser = "u"\npassword_file = "{secret}"\n'
    relay = begin(world, server.port, "tls", smarthost=smarthost)
    settle(relay)
    idle, peak = private(relay), 0
    messages = [mail.alert(number, 2000, "tls", 1, world.seed) for number in range(200)]
    for message in messages:
        expect(not load.send_all(relay.port, [message], 1, 60), "not accepted")
        peak = max(peak, private(relay))
    deadline = time.monotonic() + 120
    while len(server.mail) < len(messages):
        expect(time.monotonic() < deadline, f"only {len(server.mail)} relayed: {relay.log_tail()}")
        time.sleep(0.01)
    print(f"private memory, with a TLS connection to the smarthost: {peak:,}, idle before: {idle:,}")
    relay.kill()


def quiet(world, seconds):
    sink = Sink(world, free_port())
    relay = begin(world, sink.port, "quiet", retry='route_longest = "5m"\n')
    settle(relay, wake_ups)
    woken, calls, octets = idle_for(relay, seconds)
    print(f"idle, {seconds} s: {woken} wake-ups, {calls} writes, {octets} octets to the disk")
    expect((woken, calls, octets) == (WAKE_UPS_MAX, 0, 0), "not idle")
    messages = [mail.alert(number, 2000, "wait", 1, world.seed) for number in range(100)]
    expect(not load.send_all(relay.port, messages, 1, 60), "not accepted")
    settle(relay)
    tries = relay.log().count("WARN route ")
    woken, calls, octets = idle_for(relay, seconds)
    tries = relay.log().count("WARN route ") - tries
    print(
        f"100 messages wait and no smarthost answers, {seconds} s: {woken} wake-ups for {tries} tries, "
        f"{calls} writes (the log's), {octets} octets to the disk"
    )
    expect(octets == 0, "a dead route writes to the disk")
    relay.kill()


def flash(world):
    sink = Sink(world, free_port()).start()
    relay = begin(world, sink.port, "flash")
    settle(relay)
    before = writes(relay)[1]
    for number in range(100):
        message = mail.alert(number, 2048 - 150, "flash", 1, world.seed)
        expect(not load.send_all(relay.port, [message], 1, 60), "not accepted")
        expect(sink.wait_for([message], 60), "not relayed")
    settle(relay)
    octets = writes(relay)[1] - before
    print(f"written to the disk for 100 alerts of 2 KiB, one after the other: {octets:,}, so {octets // 100:,} each")
    relay.kill()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=pathlib.Path, required=True)
    arguments.add_argument("--sessions", type=int, required=True)
    arguments.add_argument("--seconds", type=int, default=600)
    options = arguments.parse_args()
    os.environ["POSTERN"] = str(options.binary.absolute())
    options.seed, options.kills, options.soak_seconds = 1, 0, 0
    world = checks.World(pathlib.Path("target/sizes").absolute(), options)
    try:
        memory(world, options.sessions)
        tls(world)
        flash(world)
        quiet(world, options.seconds)
    except Failure as failure:
        print(f"sizes: {failure}; see {world.folder}", file=sys.stderr)
        return 1
    finally:
        world.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
