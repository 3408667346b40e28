"""The wall clock jumps while mail waits, before and after restarts: nothing expires or bounces (C-4.5.4.1-g), and the dates that
we add are right.
"""

import calendar
import email.utils
import time

import load
import mail
from authority import Authority
from board import CONFIG, Board
from checks import expect
from secure import Secure

# Of a board that has no battery; then of one whose clock somebody has set, later than any release of this version.
UNSET = 1000
SET = calendar.timegm((2026, 12, 24, 12, 0, 0))
LATER = calendar.timegm((2036, 6, 1, 12, 0, 0))
COUNT = 10
# What may pass from a step of the clock to the end of what comes before the next one.
SECONDS_MAX = 300


def fields(data, name):
    """The values of the fields `name` of mail data, unfolded."""
    head = data.split(b"\r\n\r\n", 1)[0].decode("latin-1").replace("\r\n\t", " ").replace("\r\n ", " ")
    start = name.lower() + ": "
    return [line[len(start) :] for line in head.split("\r\n") if line.lower().startswith(start)]


def is_near(date, start, what):
    """`date` tells a time between `start` and a few minutes later."""
    late = email.utils.parsedate_to_datetime(date).timestamp() - start
    expect(0 <= late <= SECONDS_MAX, f"{what}: {date}, which is {late:.0f} s off")


class Letters:
    """Messages without a Date, in groups, each with the time that is to stand in them."""

    def __init__(self, world, board, server):
        self.world, self.board, self.server = world, board, server
        self.starts = {}

    def send(self, group, start):
        messages = [mail.alert(number, 1500, f"{group}-", 1, self.world.seed) for number in range(COUNT)]
        unsent = load.send_all(self.board.port, messages, 2, 120)
        expect(not unsent, f"{group}: not accepted: {unsent[:2]}; {self.board.tail()}")
        self.starts[group] = start

    def wait(self):
        """Until all have arrived; then each is there once, with its dates, and nothing else is."""
        wanted = len(self.starts) * COUNT
        deadline = time.monotonic() + 120
        while len(self.server.mail) < wanted:
            expect(time.monotonic() < deadline, f"{len(self.server.mail)} of {wanted} arrived: {self.board.tail()}")
            time.sleep(0.1)
        seen = set()
        for data in self.server.mail:
            sender = email.utils.parseaddr(fields(data, "From")[0])[1]
            group = sender.split("-")[0]
            expect(group in self.starts and sender not in seen, f"a second one, or not ours: {sender}")
            seen.add(sender)
            dates = fields(data, "Date")
            expect(len(dates) == 1, f"{sender}: its Date fields: {dates}")
            is_near(dates[0], self.starts[group], f"Date of {sender}")
            received = fields(data, "Received")[0]
            is_near(received.rsplit(";", 1)[1], self.starts[group], f"Received of {sender}")
        expect(len(seen) == wanted, f"{len(seen)} of {wanted} arrived")


def clock(world, options):
    """From 1970 to 2026, 2036 and back."""
    authority = Authority(world)
    server = Secure(world, authority.issue("good", san="IP:10.0.2.2", last_day=3600))
    # TLS and the waits of the default: only a step of the clock can bring the mail forward.
    config = CONFIG.replace('tls = "none"\n', 'ca_file = "/authority.pem"\n').replace('route_longest = "1s"\n', "")
    config = config.replace("[quirks]\nmissing_fields = false\n", "")
    trusted = ("authority.pem", authority.certificate.read_bytes(), 0o644)
    board = Board(world, options, server.port, config=config, files=[trusted], variables=f"wall={UNSET}")
    board.start()
    letters = Letters(world, board, server)

    def waits(text, times, what):
        deadline = time.monotonic() + 60
        while board.console().count(text) < times:
            expect(time.monotonic() < deadline, f"{what}: {board.tail()}")
            time.sleep(0.1)
        expect(not server.mail[len(letters.starts) * COUNT :], f"{what}: but something left")

    def set_to(start):
        before = board.console().count("the clock was set")
        board.do(f"date -s @{start}")
        return before

    unset = "our clock is not set"
    # What came before the clock was set gets the time that it came at, by the clock that is right when it leaves.
    letters.send("unset", LATER)
    waits(unset, 1, "no word of the clock")
    board.restart_relay()
    letters.send("unset2", LATER)
    waits(unset, 2, "no word of the clock after a restart")
    expect(not server.mail, "something left while no certificate could be judged")

    server.behave = "refuse"
    before = set_to(SET)
    waits("the clock was set", before + 1, "the step was not seen")
    letters.send("set", SET)
    board.restart_relay()
    letters.send("set2", SET)
    set_to(LATER)
    letters.send("later", LATER)
    board.restart_relay()
    letters.send("later2", LATER)
    expect(server.sessions and not server.mail, f"{len(server.sessions)} tries, {len(server.mail)} messages left")
    server.behave = ""
    board.do("kill -USR1 $(pidof postern)")
    letters.wait()

    # Once more the way of most boards: the power comes back, mail comes, and then the time.
    deadline = time.monotonic() + 60
    while not all(seen.is_over for seen in server.sessions):
        expect(time.monotonic() < deadline, "the connection is kept for ever")
        time.sleep(0.1)
    arrived = len(server.mail)
    words = board.console().count(unset)
    board.do(f"date -s @{UNSET}")
    letters.send("last", SET)
    waits(unset, words + 1, "no word of the clock that went back")
    expect(len(server.mail) == arrived, "something left by a clock that went back")
    begun = time.monotonic()
    set_to(SET)
    letters.wait()
    took = time.monotonic() - begun
    console = board.console()
    wrong = [line for line in console.splitlines() if "bounced" in line or "expired" in line or "panicked" in line]
    expect(not wrong, f"{wrong[:3]}")
    return (
        f"{len(server.mail)} messages without a Date over 1970, 2026, 2036 and three restarts: none expired or bounced, each "
        f"arrived once with the time it came at; the last {COUNT} left within {took:.1f} s of the step"
    )
