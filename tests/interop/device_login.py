"""`postern login`: a code for a machine without a browser, from a scripted endpoint (RFC 8628)."""

import os
import subprocess
import time

from authority import Authority
from checks import check, expect
from endpoint import Endpoint, error, token
from secure import Secure
from tls import USER, expect_mail, hand_in, relay_to
from tokens import Inline, expect_no_token_in

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH, DEVICE_CODE = "1//from the device", "device~code"


def code(**more):
    return 200, {
        "device_code": DEVICE_CODE,
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://example.com/device",
        "expires_in": 60,
        "interval": 1,
        **more,
    }


class Device:
    """An endpoint that gives a code, then answers polls one after the other; a configuration that names it."""

    def __init__(self, world, name, *answers, certificate=None, device=True, first=None, **more):
        self.world, self.name = world, name
        self.authority = Authority(world)
        self.polls, self.times = list(answers), []
        self.endpoint = Endpoint(world, certificate or self.authority.issue("good"), self.answer)
        self.first = first or code()
        self.folder = world.folder_for(f"tokens-{name}")
        self.file = self.folder / "refresh"
        keys = {
            "grant": "refresh_token",
            "token_url": self.endpoint.url("/token"),
            "client_id": "client-id",
            "refresh_token_file": str(self.file),
            "scope": "https://outlook.office.com/SMTP.Send offline_access",
            **({"device_url": self.endpoint.url("/devicecode")} if device else {}),
            **more,
        }
        inside = ", ".join(f'{key} = "{value}"' for key, value in keys.items())
        self.keys = {"user": USER, "ca_file": str(self.authority.certificate), "oauth2": Inline(f"{{ {inside} }}")}
        self.config = world.folder / f"{name}.toml"
        table = "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in self.keys.items())
        self.config.write_text(f'hostname = "relay.test.example"\n[smarthost]\nhost = "localhost"\n{table}')

    def answer(self, form):
        if form.get("grant_type") == GRANT:
            self.times.append(time.monotonic())
            return self.polls.pop(0)
        return self.first if "grant_type" not in form else token("access-1")

    def login(self, seconds=60):
        done = subprocess.run(
            [self.world.binary, "login", "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        expect(REFRESH not in done.stdout + done.stderr and DEVICE_CODE not in done.stdout + done.stderr, "shown")
        return done


@check("login.device", 180)
def device(world):
    """The code is shown, the interval kept and made longer, the token stored 0600; a waiting relay goes on."""
    pending, slower = error("authorization_pending"), error("slow_down")
    device = Device(world, "login", pending, slower, pending, token("access-0", refresh_token=REFRESH))
    server = Secure(world, device.authority.issue("smarthost"), logins={USER: "access-1"}, mechanisms=("XOAUTH2",))
    relay = relay_to(world, server, **device.keys)
    hand_in(relay)
    done = device.login()
    expect(done.returncode == 0 and not done.stderr, f"{done.returncode}: {done.stderr}")
    for words in ("https://example.com/device", "WDJB-MJHT", f"as {USER}", str(device.file)):
        expect(words in done.stdout, f"{words!r} is not shown: {done.stdout}")
    expect(device.file.read_text() == REFRESH + "\n", "not stored")
    expect(device.file.stat().st_mode & 0o7777 == 0o600, f"mode {device.file.stat().st_mode:o}")
    expect(os.listdir(device.folder) == ["refresh"], f"left behind: {os.listdir(device.folder)}")
    first, second, third, fourth = device.times
    expect(second - first >= 0.9 and third - second >= 5.9 and fourth - third >= 5.9, "the interval is not kept")
    forms = device.endpoint.forms
    scope = "https://outlook.office.com/SMTP.Send offline_access"
    expect(forms[0] == {"client_id": "client-id", "scope": scope}, f"asked with {forms[0]}")
    expect(forms[1] == {"grant_type": GRANT, "device_code": DEVICE_CODE, "client_id": "client-id"}, f"{forms[1]}")
    expect_mail(server, relay, seconds=60)
    expect(device.endpoint.forms[-1]["refresh_token"] == REFRESH, "the relay asks with another token")
    expect_no_token_in(relay, REFRESH)
    return f"{len(device.times)} polls"


@check("login.refused", 120)
def refused(world):
    """What goes wrong is one line in plain words and an exit code, and the old token stays."""
    pending = error("authorization_pending")
    stranger = Authority(world, "stranger").issue("stranger")
    cases = {
        "declined": (1, "somebody has refused it there", [pending, error("access_denied", status=403)], {}),
        "expired": (1, "nobody has typed the code in; run it again", [pending, error("expired_token")], {}),
        "late": (1, "nobody has typed the code in", [pending] * 9, {"first": code(expires_in=2)}),
        "scope": (78, "it refuses the scope (invalid_scope: Invalid device flow scope)", [],
                  {"first": error("invalid_scope", "Invalid device flow scope")}),
        "client": (78, "client_id or client_secret_file is wrong", [error("invalid_client", "x", 401)], {}),
        "portal": (69, "what it answers is no login; see the address", [],
                   {"first": b"HTTP/1.1 200 OK\r\n\r\n<html>log in</html>"}),
        "terminal": (69, "what it answers is no login", [], {"first": code(user_code="\x1b[2Jx")}),
        "no-refresh": (78, "no refresh token came with it", [token("access-0")], {}),
        "certificate": (74, "its certificate is from no trusted authority", [], {"certificate": stranger}),
        "no-device": (78, "has no smarthost.oauth2.device_url", [], {"device": False}),
        "no-folder": (78, "there is no such folder", [], {"refresh_token_file": "/nowhere/at/all/token"}),
    }
    for name, (exit_code, words, polls, more) in cases.items():
        device = Device(world, name, *polls, **more)
        device.file.write_text("old\n")
        device.file.chmod(0o600)
        done = device.login()
        expect(
            done.returncode == exit_code and words in done.stderr and done.stderr.count("\n") == 1,
            f"{name}: {done.returncode} {done.stderr}",
        )
        expect(device.file.read_text() == "old\n", f"{name}: the old token is gone")
    # Nobody there.
    device = Device(world, "nobody")
    device.endpoint.close()
    done = device.login()
    expect(done.returncode == 74 and "device_url: no connection" in done.stderr, done.stderr)
    return f"{len(cases) + 1} ways"
