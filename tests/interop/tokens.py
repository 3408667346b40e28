"""OAuth 2.0: access tokens asked for at an endpoint of our own, over TLS, and everything that goes wrong there."""

import itertools
import os
import signal
import subprocess
import time

import load
import mail
from authority import Authority, pin
from checks import check, expect
from endpoint import PATH, Endpoint, error, token
from secure import Secure
from sink import Sink
from tls import USER, expect_fault, expect_mail, expect_nothing_in_plain, hand_in, relay_to, secret_file

REFRESH, CLIENT_SECRET = "1//refresh~token", "client secret&more=%"


class Inline(str):
    """An inline table of TOML, as it stands."""

    def __repr__(self):
        return str(self)


def table(world, endpoint, name, grant="refresh_token", host="localhost", **more):
    """(the keys of [smarthost], the file of the refresh token)."""
    keys = {"grant": grant, "token_url": endpoint.url(host=host), "client_id": "client-id"}
    path = None
    if grant == "refresh_token":
        path = world.folder_for(f"refresh-{name}") / "token"
        path.write_text(REFRESH + "\n")
        path.chmod(0o640)
        keys["refresh_token_file"] = str(path)
    keys.update(more)
    inside = ", ".join(f'{key} = "{value}"' for key, value in keys.items())
    return {"user": USER, "oauth2": Inline("{ " + inside + " }")}, path


def put(path, token):
    """A new refresh token in its file, at once and whole: the relay looks at it whenever it likes."""
    new = path.parent / "new"
    new.write_text(token + "\n")
    new.chmod(0o600)
    new.rename(path)


def expect_recorded(relay, count):
    """The smarthost has a message before the relay knows that it has: an end in between sends it again."""
    recorded = lambda: relay.log().count("relayed id=") >= count  # noqa: E731
    expect(Sink.wait_until(recorded, 20), f"not {count} messages are recorded as relayed: {relay.log_tail()}")


def expect_no_token_in(relay, *tokens):
    """SEC-cred-a: at trace level, too."""
    for secret in (REFRESH, CLIENT_SECRET, "1%2F%2Frefresh", "access-", *tokens):
        expect(secret not in relay.log(), f"{secret!r} is in the log")


class Place:
    """An authority, an endpoint, and smarthosts that know its tokens."""

    numbers = itertools.count()

    def __init__(self, world, *answers, **keys):
        # Its file is read at each handshake, so no other place may write over it.
        self.world, self.authority = world, Authority(world, f"authority-{next(self.numbers)}")
        self.certificate = self.authority.issue("good")
        self.endpoint = Endpoint(world, self.certificate, *answers)
        self.server = Secure(world, self.certificate, logins={USER: "access-1"}, **keys)
        self.ca = {"ca_file": str(self.authority.certificate)}

    def relay(self, name, keys, **more):
        return relay_to(self.world, self.server, name=name, **{**self.ca, **keys, **more})


@check("oauth2.grants", 180)
def grants(world):
    """Both grants, with XOAUTH2 and OAUTHBEARER; length, chunks, no length, an octet at a time; kept in memory."""
    secret = secret_file(world, CLIENT_SECRET, name="client")
    places = []
    for mechanism, behave, grant in (
        ("XOAUTH2", "", "refresh_token"),
        ("OAUTHBEARER", "chunked", "refresh_token"),
        ("XOAUTH2", "open", "client_credentials"),
        ("OAUTHBEARER", "drip", "client_credentials"),
    ):
        name = f"{mechanism}-{grant}"
        place = Place(world, token("access-1"), mechanisms=("PLAIN", mechanism))
        place.endpoint.behave = behave
        more = {"scope": "https://mail.example/.default offline"}
        expected = {"grant_type": grant, "client_id": "client-id", **more}
        if grant == "client_credentials":
            more["client_secret_file"] = secret
            expected["client_secret"] = CLIENT_SECRET
        else:
            expected["refresh_token"] = REFRESH
        keys, _ = table(world, place.endpoint, name, grant, **more)
        relay = place.relay(name, keys)
        expect(not place.endpoint.connections, "a token was asked for although there is no mail")
        messages = hand_in(relay)
        expect_mail(place.server, relay)
        changed = mail.difference(messages[0], place.server.mail[0])
        expect(not changed, f"{name}: {changed}")
        places.append((place, relay, expected))
    for place, relay, expected in places:
        seen = place.server.sessions[-1]
        expect(Sink.wait_until(lambda: seen.is_over, 30), "the idle connection is not closed")  # noqa: B023
        hand_in(relay, prefix="second")
        expect_mail(place.server, relay, 2)
        expect(place.server.logins_tried() == 2, "there was to be a login for each connection")
        expect(place.endpoint.connections == 1, "the token was not kept")
        expect(place.endpoint.forms == [expected], f"asked with {place.endpoint.forms}")
        head = place.endpoint.heads[0]
        expect(head.startswith(f"POST {PATH} HTTP/1.1\r\nHost: localhost:{place.endpoint.port}\r\n"), head)
        expect_nothing_in_plain(place.server)
        expect_no_token_in(relay)
        relay.terminate()
    return "4 ways"


@check("oauth2.stale", 180)
def stale(world):
    """A kept token that is refused is replaced at once, in the same session; one whose time is over is not tried."""
    place = Place(world, token("access-1"), token("access-2"), token("access-3", 1), token("access-4"),
                  mechanisms=("XOAUTH2",))
    keys, _ = table(world, place.endpoint, "stale")
    relay = place.relay("stale", keys)
    server = place.server

    def next_mail(count, accepted):
        server.logins = {USER: accepted}
        hand_in(relay, prefix=f"m{count}x")
        expect_mail(server, relay, count)
        seen = server.sessions[-1]
        expect(Sink.wait_until(lambda: seen.is_over, 30), "the idle connection is not closed")
        return seen

    next_mail(1, "access-1")
    seen = next_mail(2, "access-2")
    expect(seen.logins == 2 and len(server.sessions) == 2, "not replaced in one session")
    seen = next_mail(3, "access-3")
    expect(seen.logins == 2, "not replaced")
    expect("fault=" not in relay.log(), relay.log_tail())
    expect("the smarthost refused it" in relay.log(), "nothing tells that a token was dropped")
    expect(len(place.endpoint.forms) == 3, f"{len(place.endpoint.forms)} requests")
    # Wrong for good: one more token, then the login rests; and what comes next asks anew.
    server.logins = {USER: "none"}
    hand_in(relay, 2, prefix="last")
    expect_fault(relay, "it refused the login")
    logins, asked = server.logins_tried(), len(place.endpoint.forms)
    expect(asked == 4, f"{asked} requests")
    time.sleep(3)
    expect(server.logins_tried() == logins and len(place.endpoint.forms) == asked, "hammered")
    expect("deferred" not in relay.log() and "failed" not in relay.log(), "a message was charged")
    expect_no_token_in(relay)
    return f"{logins} logins, {asked} requests"


@check("oauth2.rotation", 120)
def rotation(world):
    """A new refresh token is in its file with mode and owner, whole, before the next one is needed."""
    place = Place(
        world,
        token("access-1", refresh_token="1//second"),
        lambda form: token("access-1") if form["refresh_token"] == "1//second" else error("invalid_grant"),
        lambda form: token("access-1", refresh_token="1//third"),
        mechanisms=("XOAUTH2",),
    )
    keys, path = table(world, place.endpoint, "rotation")
    os.chown(path, 4321, 4322)
    relay = place.relay("rotation", keys)
    hand_in(relay)
    expect_mail(place.server, relay)
    expect(path.read_text() == "1//second\n", f"the file has {path.read_text()!r}")
    state = path.stat()
    expect((state.st_uid, state.st_gid, state.st_mode & 0o7777) == (4321, 4322, 0o640), f"{state}")
    expect(os.listdir(path.parent) == [path.name], f"left behind: {os.listdir(path.parent)}")
    expect_recorded(relay, 1)
    relay.kill()
    relay.start({"RUST_LOG": "trace"})
    hand_in(relay, prefix="second")
    expect_mail(place.server, relay, 2)
    expect_recorded(relay, 2)
    relay.terminate()
    # Its file can't be written: what is there is a mount of its own, which nothing can be renamed onto.
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True, timeout=10)
    world.stack.callback(lambda: subprocess.run(["umount", str(path)], check=True, timeout=10))
    relay.start({"RUST_LOG": "trace"})
    hand_in(relay, prefix="third")
    expect_mail(place.server, relay, 3)
    expect("can't save the new refresh token" in relay.log(), "nothing tells that it was not saved")
    expect(path.read_text() == "1//second\n", "half a file")
    place.server.logins = {USER: "access-2"}
    place.endpoint.answers = [
        lambda form: token("access-2") if form["refresh_token"] == "1//third" else error("invalid_grant")
    ]
    seen = place.server.sessions[-1]
    expect(Sink.wait_until(lambda: seen.is_over, 30), "the idle connection is not closed")
    hand_in(relay, prefix="fourth")
    expect_mail(place.server, relay, 4)
    expect_no_token_in(relay, "1//second", "1//third")
    return f"{len(place.endpoint.forms)} requests"


@check("oauth2.refused", 240)
def refused(world):
    """A refused refresh token and its like: one clear line, mail waits, and a new token in the file ends it."""
    cases = {
        "expired": (
            error("invalid_grant", "AADSTS700082: The refresh token has expired.\r\nTrace ID: 1"),
            "no access token from token_url: the refresh token has expired or was revoked; ",
            'reply="400 invalid_grant: AADSTS700082: The refresh token has expired.  Trace ID: 1"',
        ),
        "client": (
            error("invalid_client", "AADSTS7000215", 401),
            "no access token from token_url: client_id or client_secret_file is wrong",
            'reply="401 invalid_client: AADSTS7000215"',
        ),
        "telltale": (
            error("invalid_grant", f"unknown: {REFRESH}"),
            "no access token from token_url: the refresh token has expired or was revoked; ",
            'reply="400 (nothing more was said)"',
        ),
    }
    waiting = []
    for name, (answer, fault, reply) in cases.items():
        place = Place(world, answer, mechanisms=("XOAUTH2",))
        keys, path = table(world, place.endpoint, name)
        relay = place.relay(name, keys)
        hand_in(relay, 3)
        expect_fault(relay, fault)
        expect(reply in relay.log() and "waiting=" in relay.log(), relay.log_tail())
        waiting.append((place, relay, path))
    time.sleep(2)
    for place, relay, path in waiting:
        expect(len(place.endpoint.forms) == 1, "hammered")
        expect(relay.log().count("fault=") == 1, "more than one line")
        expect(not place.server.logins_tried() and not place.server.mail, "it went on without a token")
        expect("deferred" not in relay.log() and "failed" not in relay.log(), "a message was charged")
        place.endpoint.answers = [token("access-1")]
        put(path, "1//another")
    for place, relay, _ in waiting:
        expect_mail(place.server, relay, 3, seconds=60)
        expect(place.endpoint.forms[-1]["refresh_token"] == "1//another", "asked with the old one")
        expect(place.server.logins_tried() == 1, "more than one login")
        expect_no_token_in(relay, "1//another")
        relay.terminate()
    # None yet: the relay starts, takes mail, and says what is missing.
    place = Place(world, token("access-1"), mechanisms=("XOAUTH2",))
    keys, path = table(world, place.endpoint, "missing")
    path.unlink()
    relay = place.relay("missing", keys)
    hand_in(relay)
    expect_fault(relay, "no access token from token_url: there is no refresh token: the secret's file does not")
    expect(not place.endpoint.connections, "asked without a refresh token")
    put(path, REFRESH)
    expect_mail(place.server, relay, seconds=60)
    return f"{len(cases) + 1} ways"


@check("oauth2.unwell", 180)
def unwell(world):
    """5yz, garbage, drops, nobody there: faults of the route, tried again with back-off; then all leaves."""
    html = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Please log in to this WLAN</html>"
    ways = {
        "503": ("", (503, {"error": "temporarily_unavailable"}), "it can't answer now"),
        "429": ("", (429, {}), "it can't answer now"),
        "404": ("", (404, {"message": "no"}), "what it answers is no token; see token_url"),
        "portal": ("", html, "what it answers is no token; see token_url"),
        "moved": ("", b"HTTP/1.1 302 Found\r\nLocation: https://b/\r\n\r\n", "what it answers is no token"),
        "smtp": ("", b"220 smtp.test.example ESMTP\r\n" * 100, "what it answers is no token"),
        "endless": ("", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, "what it answers is no token"),
        "fields": ("", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000, "what it answers is no token"),
        "mac": ("", (200, {"access_token": "access-1", "token_type": "mac"}), "what it answers is no token"),
        "drop": ("drop", token("access-1"), "the connection was lost"),
        "close": ("close", token("access-1"), "the connection was lost"),
    }
    for name, (behave, answer, fault) in ways.items():
        place = Place(world, answer, mechanisms=("XOAUTH2",))
        place.endpoint.behave = behave
        keys, _ = table(world, place.endpoint, name)
        relay = place.relay(name, keys)
        hand_in(relay)
        words = f'fault="no access token from token_url: {fault}'
        expect(
            Sink.wait_until(lambda: relay.log().count(words) > 1, 20),  # noqa: B023
            f"{name}: not {fault!r} twice: {relay.log_tail()}",
        )
        expect(not place.server.logins_tried(), "it logged in without a token")
        place.endpoint.behave, place.endpoint.answers = "", [token("access-1")]
        expect_mail(place.server, relay)
        expect("deferred" not in relay.log() and "failed" not in relay.log(), "a message was charged")
        expect_no_token_in(relay)
        relay.kill()
    place.endpoint.close()
    relay.start({"RUST_LOG": "trace"})
    hand_in(relay, prefix="nobody")
    expect_fault(relay, "no access token from token_url: no connection")
    expect("deferred" not in relay.log() and "failed" not in relay.log(), "a message was charged")
    return f"{len(ways) + 1} ways"


@check("oauth2.slow", 300)
def slow(world):
    """Endpoints that never answer are given up after 45 s; clients are served all the while, nothing spins."""
    worlds = []
    for behave in ("silent", "deaf"):
        place = Place(world, token("access-1"), mechanisms=("XOAUTH2",))
        place.endpoint.behave = behave
        keys, _ = table(world, place.endpoint, behave)
        relay = place.relay(behave, keys)
        hand_in(relay)
        worlds.append((place, relay))
    start = time.monotonic()
    for place, relay in worlds:
        expect(Sink.wait_until(lambda: place.endpoint.stuck, 20), "not asked")  # noqa: B023
        # The next try, a second after the first is given up, has its answer.
        place.endpoint.behave = ""
        before = relay.cpu_seconds()
        took = time.monotonic()
        hand_in(relay, 20, prefix="meanwhile")
        took = time.monotonic() - took
        expect(took < 20, f"clients waited {took:.1f} s")
        time.sleep(2)
        expect(relay.cpu_seconds() - before < 1, "waiting keeps the processor busy")
    for place, relay in worlds:
        expect_fault(relay, "no access token from token_url: it doesn't answer", seconds=80)
        expect_mail(place.server, relay, 21, seconds=40)
        expect("deferred" not in relay.log() and "failed" not in relay.log(), "a message was charged")
    return f"given up after {time.monotonic() - start:.0f} s"


@check("oauth2.certificates", 120)
def certificates(world):
    """The endpoint's certificate is checked like the smarthost's, and nothing is asked where it fails."""
    authority, stranger = Authority(world), Authority(world, "stranger")
    good = authority.issue("good")
    bad = {
        "wrong-name": (authority.issue("other", "DNS:login.other.example"), "its certificate is for another name"),
        "expired": (authority.issue("old", first_day=-30, last_day=-1), "its certificate has expired, or our"),
        "not-yet": (authority.issue("new", first_day=2, last_day=30), "its certificate is not valid yet, or our"),
        "stranger": (stranger.issue("stranger"), "its certificate is from no trusted authority"),
    }
    for name, (certificate, fault) in bad.items():
        endpoint = Endpoint(world, certificate, token("access-1"))
        # The smarthost's own pin says nothing about the endpoint.
        server = Secure(world, good, logins={USER: "access-1"}, mechanisms=("XOAUTH2",))
        keys, _ = table(world, endpoint, name)
        relay = relay_to(
            world, server, name=name, ca_file=str(authority.certificate), pins=[pin(good[0])], **keys
        )
        hand_in(relay)
        expect_fault(relay, f"no access token from token_url: {fault}")
        expect(Sink.wait_until(lambda: endpoint.connections > 1, 20), "no further try")  # noqa: B023
        expect(not endpoint.forms and not server.mail, f"{name}: something was asked")
        expect_no_token_in(relay)
        relay.terminate()
    # A clock that nobody has set: nothing is asked at all.
    if world.unset_clock_binary:
        endpoint = Endpoint(world, good, token("access-1"))
        server = Secure(world, good, logins={USER: "access-1"}, mechanisms=("XOAUTH2",))
        keys, _ = table(world, endpoint, "unset")
        keys.update(ca_file=str(authority.certificate), pins=[pin(good[0])])
        relay = relay_to(world, server, name="unset", binary=world.unset_clock_binary, **keys)
        hand_in(relay)
        expect_fault(relay, "our clock is not set")
        expect(not endpoint.connections, "asked with a clock that nobody has set")
        relay.terminate()
        relay = relay_to(
            world,
            server,
            name="ignored",
            binary=world.unset_clock_binary,
            tables='[clock]\nuntrusted = "ignore-dates"\n',
            **keys,
        )
        hand_in(relay)
        expect_mail(server, relay)
    return f"{len(bad)} bad ones"


@check("oauth2.reload", 120)
def reload(world):
    """SIGHUP while a token is awaited: what is on its way is not lost, a new refresh token in it least of all."""
    place = Place(world, token("access-1", refresh_token="1//second"), mechanisms=("XOAUTH2",))
    place.endpoint.behave = "drip"
    place.endpoint.may_end.clear()
    keys, path = table(world, place.endpoint, "reload")
    relay = place.relay("reload", keys)
    hand_in(relay)
    expect(Sink.wait_until(lambda: place.endpoint.forms, 20), "not asked")
    for count in range(3):
        relay.process.send_signal(signal.SIGHUP)
        expect(Sink.wait_until(lambda: relay.log().count("reloaded") > count, 20), "not reloaded")  # noqa: B023
    expect(not place.server.mail, "it went on without a token")
    place.endpoint.may_end.set()
    expect_mail(place.server, relay)
    expect(path.read_text() == "1//second\n", "the new refresh token is lost")
    expect(len(place.endpoint.forms) == 1, f"{len(place.endpoint.forms)} requests")
    # A kept token outlives a reload.
    seen = place.server.sessions[-1]
    expect(Sink.wait_until(lambda: seen.is_over, 30), "the idle connection is not closed")
    hand_in(relay, prefix="second")
    expect_mail(place.server, relay, 2)
    expect(len(place.endpoint.forms) == 1, f"{len(place.endpoint.forms)} requests")
    expect_no_token_in(relay, "1//second")
    return "3 reloads"


@check("oauth2.stopping", 90)
def stopping(world):
    """SIGTERM while a token is awaited: it ends at once, and the mail is there after the next start."""
    place = Place(world, token("access-1"), mechanisms=("XOAUTH2",))
    place.endpoint.behave = "silent"
    keys, _ = table(world, place.endpoint, "stopping")
    relay = place.relay("stopping", keys)
    messages = hand_in(relay)
    expect(Sink.wait_until(lambda: place.endpoint.forms, 20), "not asked")
    start = time.monotonic()
    code = relay.terminate()
    took = time.monotonic() - start
    expect(code == 0 and took < 15, f"ended with {code} after {took:.1f} s")
    place.endpoint.behave = ""
    relay.start({"RUST_LOG": "trace"})
    expect_mail(place.server, relay)
    expect(not mail.difference(messages[0], place.server.mail[0]), "the mail has changed")
    unsent = load.send_all(relay.port, [mail.alert(9, 600, prefix="after")], clients=1)
    expect(not unsent, "no more mail is taken")
    return f"ended in {took * 1000:.0f} ms"
