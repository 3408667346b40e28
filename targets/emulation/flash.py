"""The spool on UBIFS, on raw flash that the kernel simulates (nandsim): UBI and UBIFS cut the power themselves, in the midst of a
write, as their debugfs has it. What was being written is then garbage, and nothing is written any more until the file
system is mounted anew, from what the flash holds.
"""

import subprocess
import threading
import time

import kill
from board import CONFIG, HERE, STOP, Board
from checks import expect, free_port
from sink import Sink
from verdict import verdict

# Of the chip that ubifs beside this file makes.
PAGE, BLOCK = 512, 16 * 1024
VOLUME = "[spool]\nmode=ubi\nvol_id=0\nvol_type=dynamic\nvol_name=spool\nvol_size=12MiB\n"
MODULES = ("nandsim", "deflate", "zstd", "ubi", "ubifs")
DEBUG = "/sys/kernel/debug"
# UBIFS waits for up to a minute or 10,000 operations; then each has a chance to be the last.
UBIFS_CUT = f"echo 1 >{DEBUG}/ubifs/ubi0_0/tst_recovery"
# UBI counts the headers that it writes, of erased blocks (1) or of those in use (2).
UBI_CUT = (
    f"echo 1 >{DEBUG}/ubi/ubi0/tst_emulate_power_cut_min; echo {{headers}} >{DEBUG}/ubi/ubi0/tst_emulate_power_cut_max; "
    f"echo {{kind}} >{DEBUG}/ubi/ubi0/tst_emulate_power_cut"
)
IS_CUT = "dmesg | grep -q -i 'power cut emulated\\|emulating a power cut'"
CUT_SECONDS_MAX = 400
CLIENTS = 4
# Nothing that the kernel remembers of the flash, nor the relay, comes over this.
ANEW = (
    "umount /spool && rmmod ubifs ubi && insmod /modules/ubi.ko mtd=0 && insmod /modules/ubifs.ko && "
    "mount -t ubifs -o noatime ubi0:spool /spool"
)


def image(world):
    """The chip's content: UBI with one empty volume, which UBIFS formats when it is first mounted."""
    written, path = world.folder / "ubi.ini", world.folder / "ubi"
    written.write_text(VOLUME)
    subprocess.run(["ubinize", "-o", path, "-m", str(PAGE), "-p", str(BLOCK), "-s", "256", written], check=True)
    return path.read_bytes()


def cut(world, board, number):
    """One cut, when it has come, and a start from what the flash then holds."""
    board.do("dmesg -c >/dev/null")
    ubi = UBI_CUT.format(headers=world.random.randrange(2, 300), kind=1 + number // 2 % 2)
    board.do(ubi if number % 2 else UBIFS_CUT)
    board.do(f"until {IS_CUT}; do sleep 0.2; done", CUT_SECONDS_MAX)
    # The relay meets the failing disk for a while.
    time.sleep(world.random.uniform(0, 2))
    board.do(STOP)
    board.do(ANEW)
    board.do("rm /tmp/stopped")
    board.wait_for_greeting()


def flash(world, options):
    """Power cuts within UBI and UBIFS under load."""
    sink = Sink(world, free_port()).start()
    config = CONFIG.replace('size = "16MiB"', 'size = "4MiB"')
    files = [("ubifs", (HERE / "ubifs").read_bytes(), 0o644), ("ubi", image(world), 0o644)]
    # The chip's content is in the board's memory, too.
    board = Board(
        world, options, sink.port, config=config, files=files, modules=MODULES, variables="flash=1", memory="128M"
    )
    board.start()
    board.do("grep -q '^ubi0:spool /spool ubifs rw' /proc/mounts")
    stop = threading.Event()
    clients = [kill.Client(number, board.port, stop, world.seed, ()) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for number in range(options.flash_cuts):
        cut(world, board, number)
    time.sleep(2)
    stop.set()
    print(f"cuts: {options.flash_cuts}, by UBIFS and by UBI in turns")
    verdict(clients, options.flash_cuts, sink, has_failing_disk=True)
    return f"{options.flash_cuts} power cuts on UBIFS, none lost"
