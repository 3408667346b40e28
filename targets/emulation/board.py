"""The emulated board: a machine of 64 MiB with a 32-bit ARM, its drive, and its port, which stay while its power comes and goes.

What it runs is init beside this file, which is told what to do over its console.
"""

import pathlib
import re
import subprocess
import time

import load
from checks import Failure, expect, free_port

HERE = pathlib.Path(__file__).parent

MODULES = "crc32c_generic ext4 virtio_mmio virtio_blk virtio_net".split()
DRIVE_OCTETS = 48 * 1024 * 1024
BOOT_SECONDS_MAX = 180
# SIGKILL to the relay; init starts no other one while the file is there.
STOP = "touch /tmp/stopped; kill -9 $(pidof postern); while pidof postern; do sleep 0.1; done"
CONFIG = """\
hostname = "board.test.example"
listen = ["0.0.0.0:25"]
allow = ["10.0.2.0/24"]
admin = "admin@test.example"
[smarthost]
host = "10.0.2.2"
port = {port}
tls = "none"
[spool]
path = "/spool/spool"
size = "16MiB"
[limits]
spool_share = "100%"
[retry]
first = "1s"
longest = "5s"
route_longest = "1s"
[quirks]
missing_fields = false
"""


def with_needed(modules, names):
    """The modules `names` behind all that they need, as each says of itself."""
    order = []
    for name in names:
        needed = re.search(rb"\0depends=([^\0]*)", modules[name].read_bytes())
        needed = needed[1].decode().split(",") if needed and needed[1] else []
        order += [module for module in [*with_needed(modules, needed), name] if module not in order]
    return order


def archive(files):
    """A cpio archive (newc) of (path, octets, mode)."""
    out = bytearray()

    def entry(path, octets, mode, number):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(octets), 0, 0, 5 if mode & 0o170000 == 0o020000 else 0, 1, len(name), 0)
        out.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + name)
        out.extend(b"\0" * (-len(out) % 4) + octets)
        out.extend(b"\0" * (-len(out) % 4))

    folders = {str(parent) for path, _, _ in files for parent in pathlib.PurePath(path).parents} - {"."}
    for number, folder in enumerate(sorted(folders | {"dev"})):
        entry(folder, b"", 0o040755, number + 1)
    entry("dev/console", b"", 0o020600, 500)
    for number, (path, octets, mode) in enumerate(files):
        entry(path, octets, 0o100000 | mode, number + 1000)
    entry("TRAILER!!!", b"", 0, 0)
    return bytes(out)


class Board:
    """One machine: its drive and its port stay, its power comes and goes."""

    def __init__(self, world, options, sink_port, *, config=CONFIG, files=(), modules=(), variables="", memory="64M"):
        """`modules` are put there and not loaded, behind what they need; `variables` are init's environment."""
        self.folder = world.folder
        self.port = free_port()
        root = options.machine / "root"
        self.kernel = next((root / "boot").glob("vmlinuz-*"))
        found = {path.stem: path for path in root.glob("lib/modules/*/kernel/**/*.ko")}
        loaded = with_needed(found, MODULES)
        more = [name for name in with_needed(found, modules) if name not in loaded]
        self.variables, self.memory = variables, memory
        files = [
            ("bin/busybox", (root / "bin/busybox").read_bytes(), 0o755),
            ("init", (HERE / "init").read_bytes(), 0o755),
            ("postern", options.binary.read_bytes(), 0o755),
            ("postern.toml", config.format(port=sink_port).encode(), 0o644),
            ("modules/order", "".join(f"{name}\n" for name in loaded).encode(), 0o644),
            ("modules/more", "".join(f"{name}\n" for name in more).encode(), 0o644),
            *files,
        ]
        files += [(f"modules/{name}.ko", found[name].read_bytes(), 0o644) for name in [*loaded, *more]]
        self.initramfs = self.folder / "initramfs"
        self.initramfs.write_bytes(archive(files))
        self.drive = self.folder / "drive"
        with open(self.drive, "wb") as file:
            file.truncate(DRIVE_OCTETS)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.drive)], check=True, stdin=subprocess.DEVNULL)
        self.console_path = self.folder / "console"
        self.log = None
        self.process = None
        self.boots = 0
        world.stack.callback(self.kill)

    def start(self):
        """Power on, and wait until the relay greets."""
        drive = f"driver=raw,node-name=drive,file.driver=file,file.filename={self.drive}"
        if self.log:
            drive = (
                f"driver=blklogwrites,node-name=drive,log-super-update-interval=1,"
                f"file.driver=file,file.filename={self.drive},log.driver=file,log.filename={self.log}"
            )
        command = [
            "qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a7", "-m", self.memory, "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", str(self.kernel), "-initrd", str(self.initramfs), "-append", f"console=ttyAMA0 quiet panic=-1 {self.variables}",
            "-blockdev", drive, "-device", "virtio-blk-device,drive=drive",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:25",
            "-device", "virtio-net-device,netdev=net",
        ]  # fmt: skip
        start = time.monotonic()
        with open(self.console_path, "ab") as console:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=console, stderr=console)
        self.wait_for_greeting()
        self.boots += 1
        return time.monotonic() - start

    def wait_for_greeting(self):
        deadline = time.monotonic() + BOOT_SECONDS_MAX
        while time.monotonic() < deadline:
            expect(self.process.poll() is None, f"the machine ended: {self.tail()}")
            try:
                load.Session(self.port, seconds=10).close()
                return
            except (OSError, load.Closed):
                time.sleep(0.2)
        raise Failure(f"no greeting in {BOOT_SECONDS_MAX} s: {self.tail()}")

    def kill(self):
        """Power off, as it happens."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, line, answer, seconds=60):
        """Says a line to the console and waits until `answer` has been printed since."""
        before = len(self.console())
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        deadline = time.monotonic() + seconds
        while not (found := re.findall(answer, self.console()[before:])):
            expect(time.monotonic() < deadline, f"the console says nothing to {line!r}: {self.tail()}")
            time.sleep(0.1)
        return found

    def do(self, command, seconds=60):
        """Has the board's shell run `command`, which must end with 0."""
        expect(self.ask(f"do {command}", r"init: ended with (\d+)", seconds) == ["0"], f"{command}: {self.tail()}")

    def restart_relay(self):
        """SIGKILL, and the next one when it greets."""
        self.do(STOP)
        self.do("rm /tmp/stopped")
        self.wait_for_greeting()

    def console(self):
        return self.console_path.read_text(errors="replace")

    def tail(self):
        return " | ".join(self.console().splitlines()[-5:])
