"""The tiny board: two sessions and an 8 MiB spool carry 5 MiB to 200 recipients."""

import os

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink


@check("tiny", 300)
def tiny(world):
    expect(os.access(world.tiny_binary, os.X_OK), "no binary for the tiny board: set POSTERN_TINY")
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port, size="8MiB", binary=world.tiny_binary).start()
    big = mail.corpus(333, world.seed)
    big.recipients = [f"r{number}@test.example" for number in range(200)]
    expect(len(big.data) >= 5 * 2**20, f"only {len(big.data)} octets")
    small = [mail.alert(number, 1000, "tiny", 2, world.seed) for number in range(20)]
    unsent = load.send_all(relay.port, [big, *small], clients=2, seconds=120)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")
    sink.wait_for([big, *small], 90)
    sink.wait_quiet(1.5)
    wrong = mail.compare([big, *small], sink)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")
    transactions = sum(record.sender == big.sender for record in sink.records())
    return f"{len(big.data)} octets to 200 recipients in {transactions} transactions"
