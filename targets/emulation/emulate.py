"""The emulated board: relays alerts, loses its power, and its drive's writes are replayed. See targets/emulate."""

import argparse
import collections
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "interop"))

import checks  # noqa: E402
import clock  # noqa: E402
import flash  # noqa: E402
import kill  # noqa: E402
import load  # noqa: E402
import mail  # noqa: E402
from board import Board  # noqa: E402
from checks import Failure, expect, free_port  # noqa: E402
from relay import Relay  # noqa: E402
from sink import Sink  # noqa: E402
from verdict import verdict  # noqa: E402

SECTOR = 512


def relays(world, options):
    """500 alerts through the board."""
    sink = Sink(world, free_port()).start()
    board = Board(world, options, sink.port)
    took = board.start()
    without = re.findall(r"memory without the relay: .*", board.console())[-1]
    before = board.ask("memory before", r"memory before: .*")
    time.sleep(1)
    messages = [mail.alert(number, 2000, "alert", 1, world.seed) for number in range(options.alerts)]
    begun = time.monotonic()
    unsent = load.send_all(board.port, messages, 4, 120)
    expect(not unsent, f"{len(unsent)} not accepted: {unsent[:2]}")
    accepted = time.monotonic()
    expect(sink.wait_for(messages, 300), "not all arrived")
    arrived = time.monotonic()
    wrong = mail.compare(messages, sink)
    expect(not wrong, f"{len(wrong)} wrong, the first: {wrong[:3]}")
    after = board.ask("memory after", r"memory after: .*")
    time.sleep(1)
    console = board.console()
    print("\n".join(dict.fromkeys([without, *re.findall(r"memory (?:before|after): .*", console), *before, *after])))
    return (
        f"booted in {took:.1f} s; {len(messages)} alerts of 2 KiB accepted in {accepted - begun:.1f} s, all relayed "
        f"{arrived - begun:.1f} s after the first began"
    )


def cuts(world, options):
    """The power is cut at random moments under load."""
    sink = Sink(world, free_port()).start()
    board = Board(world, options, sink.port)
    board.start()
    stop = threading.Event()
    clients = [kill.Client(number, board.port, stop, world.seed, ()) for number in range(8)]
    for client in clients:
        client.start()
    for _ in range(options.cuts):
        time.sleep(world.random.uniform(0.2, 6))
        board.kill()
        board.start()
    time.sleep(2)
    stop.set()
    print(f"cuts: {options.cuts}, boots: {board.boots}")
    verdict(clients, options.cuts, sink)
    return f"{options.cuts} power cuts, none lost"


Entry = collections.namedtuple("Entry", "place octets is_flush")


def entries(path):
    """The writes and flushes in the log of blklogwrites (the format of dm-log-writes), oldest first."""
    with open(path, "rb") as file:
        magic, version, count, sector_octets = struct.unpack("<QQQI", file.read(28))
        expect((magic, version) == (0x6A736677736872, 1), f"not a log of writes: {magic:x} {version}")
        file.seek(sector_octets)
        for _ in range(count):
            sector, sectors, flags, _ = struct.unpack("<QQQQ", file.read(32))
            file.seek(sector_octets - 32, 1)
            octets = b""
            if sectors and not flags & 4:
                octets = file.read(sectors * sector_octets)
            yield Entry(sector * sector_octets, octets, bool(flags & 1))


class Progress(threading.Thread):
    """Which entries of the log were there at which time, by its length."""

    def __init__(self, path, stop):
        super().__init__(daemon=True)
        self.path, self.stop, self.seen = path, stop, []

    def run(self):
        while not self.stop.is_set():
            begun = time.monotonic()
            self.seen.append((begun, self.path.stat().st_size, time.monotonic()))
            time.sleep(0.002)

    def by(self, moment):
        """The length that surely was reached only after `moment`, or that of the end."""
        return next((size for begun, size, _ in self.seen if begun >= moment), self.seen[-1][1])

    def before(self, moment):
        """A length that surely was reached before `moment`."""
        return max((size for _, size, ended in self.seen if ended <= moment), default=0)


def record(world, options, board, sink):
    """Load with the smarthost away and there by turns, while each write is recorded; returns what was seen when."""
    board.log = world.folder / "writes"
    board.log.write_bytes(b"")
    base = world.folder / "base"
    shutil.copy(board.drive, base)
    stop = threading.Event()
    board.start()
    progress = Progress(board.log, stop)
    progress.start()
    accepted = {}

    def send(first, count, session=None):
        for number in range(first, first + count):
            message = mail.alert(number, (300, 2000, 9000)[number % 3], "w", 1 + number % 3, world.seed)
            session = session or load.Session(board.port, seconds=30)
            expect(session.transaction(message).code == 250, "not accepted")
            accepted[message.sender] = (time.monotonic(), message)

    for turn in range(4):
        threads = [threading.Thread(target=send, args=(turn * 1000 + i * 100, 30), daemon=True) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        sink.start() if turn % 2 == 0 else sink.stop()
        time.sleep(world.random.uniform(1, 3))
    sink.stop()
    time.sleep(1)
    board.kill()
    stop.set()
    progress.join()
    expect(len(accepted) == 4 * 3 * 30, f"{len(accepted)} were accepted")
    return base, progress, accepted


def apply(image, entry, torn=None):
    """One write of the log to the drive's image, or, by the dice in `torn`, every other of its sectors."""
    for at in range(0, len(entry.octets), SECTOR if torn else max(1, len(entry.octets))):
        octets = entry.octets[at : at + SECTOR] if torn else entry.octets
        if not torn or torn.random() < 0.5:
            image[entry.place + at : entry.place + at + len(octets)] = octets


def replays(world, options):
    """Recovery from what a power cut may leave of the recorded writes."""
    sink = Sink(world, free_port())
    board = Board(world, options, sink.port)
    base, progress, accepted = record(world, options, board, sink)
    log = list(entries(board.log))
    flushes = [index for index, entry in enumerate(log) if entry.is_flush]
    # The log's length up to each entry, to compare with what was seen of it.
    ends, at = [], SECTOR
    for entry in log:
        at += SECTOR + len(entry.octets)
        ends.append(at)
    first_ack = min(progress.by(when) for when, _ in accepted.values())
    points = [k for k, index in enumerate(flushes) if ends[index] >= first_ack]
    expect(len(points) > 20, f"only {len(points)} flushes while messages came: {len(log)} entries")
    delivered = collections.defaultdict(list)
    for item in sink.records():
        if item.is_answered:
            for to in item.recipients:
                delivered[item.sender, to].append(progress.before(item.time))
    chosen = sorted(world.random.sample(points, min(options.replays, len(points))))
    image, done, outcomes = bytearray(base.read_bytes()), 0, collections.Counter()
    flushes.append(len(log))
    for number, k in enumerate(chosen):
        for entry in log[done : flushes[k - 1] + 1]:
            apply(image, entry)
        unflushed = bytes(image)
        for entry in log[flushes[k - 1] + 1 : flushes[k] + 1]:
            apply(image, entry)
        done = flushes[k] + 1
        following = log[done : flushes[k + 1]]
        cut = world.random.randrange(len(following) + 1)
        # A 250 that was read before the log was as long as here must be kept.
        length = ends[done + cut - 1]
        owed = {(sender, to) for sender, (when, message) in accepted.items() if progress.by(when) <= length
                for to in message.recipients}  # fmt: skip
        gone = {key for key, lengths in delivered.items() if min(lengths) <= length}
        if not outcomes["shown"] and outcomes["doctored"] < 20:
            # Without the last flushed writes, as if their flush had not been asked for: this must be found.
            outcomes["doctored"] += 1
            outcomes["shown"] += bool(owed - gone - recovered(world, options, f"doctored{number}", unflushed).keys())
        copy = bytearray(image)
        for entry in following[:cut]:
            fate = world.random.random()
            if fate < 0.6:
                apply(copy, entry, torn=world.random if fate > 0.45 else None)
        found = recovered(world, options, number, copy)
        lost = owed - gone - found.keys()
        outcomes["owed"] += len(owed)
        outcomes["recovered"] += len(found)
        outcomes["doubled"] += len(gone & found.keys())
        outcomes["lost"] += len(lost)
        changed = [sender for (sender, _), copies in found.items() if sender in accepted
                   for data in copies if mail.difference(accepted[sender][1], data)]  # fmt: skip
        expect(not changed, f"replay {number}: arrived changed: {changed[:3]}")
        expect(not lost, f"replay {number}, flush {k}, {cut} entries behind it: lost {sorted(lost)[:3]}")
    expect(outcomes["shown"], f"{outcomes['doctored']} states without their last flush, and nothing was missed")
    print(f"entries of the log: {len(log)}, flushes: {len(flushes) - 1}, of them replayed: {len(chosen)}")
    print(f"recipients acknowledged before the cuts: {outcomes['owed']}, recovered and relayed: {outcomes['recovered']}, "
          f"of those a second time: {outcomes['doubled']}, lost: {outcomes['lost']}")
    return f"{len(chosen)} states of the drive, none lost"


def recovered(world, options, number, image):
    """What the host's binary relays from the spool on the drive `image`: (sender, recipient) -> mail data."""
    folder = world.folder_for(f"replay{number}")
    drive = folder / "drive"
    drive.write_bytes(image)
    checked = subprocess.run(["e2fsck", "-f", "-y", str(drive)], capture_output=True, text=True)
    expect(checked.returncode in (0, 1), f"replay {number}: no file system: {checked.stdout[-300:]}")
    sink = Sink(world, free_port(), name=f"replay{number}/sink").start()
    relay = Relay(world, sink.port, name=f"replay{number}/relay", size="16MiB", binary=str(options.host_binary))
    subprocess.run(["debugfs", "-R", f"dump /spool {relay.spool}", str(drive)], capture_output=True, check=True)
    expect(relay.spool.exists() and relay.spool.stat().st_size, f"replay {number}: no spool")
    relay.spool.chmod(0o600)
    relay.start()
    begun = re.search(r"started .* messages=(\d+)", relay.log())
    expect(begun, f"replay {number}: {relay.log_tail()}")
    expect("was not a spool" not in relay.log(), f"replay {number}: the spool was not known: {relay.log_tail()}")
    deadline = time.monotonic() + 60
    while len({r.sender for r in sink.records() if r.is_answered}) < int(begun[1]) and time.monotonic() < deadline:
        time.sleep(0.02)
    found = collections.defaultdict(list)
    for item in sink.records():
        if item.is_answered:
            for to in item.recipients:
                found[item.sender, to].append(sink.data(item))
    relay.kill()
    sink.stop()
    shutil.rmtree(folder)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--machine", type=pathlib.Path, required=True)
    arguments.add_argument("--binary", type=pathlib.Path, required=True)
    arguments.add_argument("--host-binary", type=pathlib.Path, default=pathlib.Path("target/release/postern"))
    arguments.add_argument("--alerts", type=int, default=500)
    arguments.add_argument("--cuts", type=int, default=0)
    arguments.add_argument("--replays", type=int, default=0)
    arguments.add_argument("--clock", action="store_true")
    arguments.add_argument("--flash-cuts", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    os.environ.setdefault("POSTERN", str(options.host_binary))
    options.kills, options.soak_seconds = 0, 0
    chosen = flash.flash if options.flash_cuts else clock.clock if options.clock else replays if options.replays else cuts if options.cuts else relays
    world = checks.World(pathlib.Path("target/emulate").absolute() / chosen.__name__, options)
    start = time.monotonic()
    try:
        figures = chosen(world, options)
        print(f"ok {chosen.__name__}: {figures} ({time.monotonic() - start:.0f} s)")
        return 0
    except Failure as failure:
        print(f"FAIL {chosen.__name__}: {failure}; see {world.folder}")
        return 1
    finally:
        world.cleanup()


if __name__ == "__main__":
    sys.exit(main())
