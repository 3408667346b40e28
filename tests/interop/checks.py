"""What a check is: a name, a folder of its own, a time limit, and things that are stopped when it ends."""

import contextlib
import dataclasses
import os
import pathlib
import random
import shutil
import socket

CHECKS = []


class Failure(Exception):
    """The relay did not do what it must."""


def expect(condition, reason):
    """Ends the check with `reason` unless `condition` holds."""
    if not condition:
        raise Failure(reason)


@dataclasses.dataclass
class Check:
    name: str
    seconds: int
    function: object


def check(name, seconds=60):
    """Registers a function of one World as a check; what it returns is printed behind `ok NAME`."""

    def register(function):
        CHECKS.append(Check(name, seconds, function))
        return function

    return register


class World:
    """All that one check may use. `cleanup` stops what was started, last first."""

    def __init__(self, folder, options):
        self.folder = pathlib.Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.binary = os.environ["POSTERN"]
        self.unset_clock_binary = os.environ.get("POSTERN_UNSET_CLOCK", "")
        self.tiny_binary = os.environ.get("POSTERN_TINY", "")
        self.kills = options.kills
        self.seed = options.seed
        self.soak_seconds = options.soak_seconds
        self.random = random.Random(options.seed)
        self.stack = contextlib.ExitStack()

    def folder_for(self, name):
        """A new folder inside this check's."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def cleanup(self):
        self.stack.close()


PORTS = random.Random(os.getpid())
GIVEN = set()


def free_port():
    """A loopback port below the kernel's own choice of client ports, so no client of ours can take it.

    None is given twice: it may be bound much later.
    """
    for _ in range(1000):
        port = PORTS.randrange(12000, 32000)
        if port in GIVEN:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        GIVEN.add(port)
        return port
    raise OSError("no free port on loopback")
