"""The core of tests/interop for a board's binary: receive, keep over SIGKILL, relay over TLS with a login. See targets/smoke."""

import argparse
import os
import pathlib
import shlex
import ssl
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "interop"))

import checks  # noqa: E402
import load  # noqa: E402
import mail  # noqa: E402
from authority import Authority  # noqa: E402
from checks import Failure, expect  # noqa: E402
from relay import Relay  # noqa: E402
from secure import Secure  # noqa: E402

USER, PASSWORD = "board@test.example", "a word"
ALERTS = 20
SECONDS_MAX = 120


def wait_for(condition, what):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        expect(time.monotonic() < deadline, f"{what}: not in {SECONDS_MAX} s")
        time.sleep(0.05)


def core(world, options, version):
    authority = Authority(world, f"authority-{version.name}")
    server = Secure(world, authority.issue("good"), version=(version, version), behave="refuse", logins={USER: PASSWORD})
    secret = world.folder / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    smarthost = (
        f'host = "localhost"\nca_file = "{authority.certificate}"\nuser = "{USER}"\npassword_file = "{secret}"\n'
    )
    relay = Relay(world, server.port, name=version.name, size="4MiB", smarthost=smarthost)
    relay.wrapper = shlex.split(options.emulator)
    relay.start()
    messages = [mail.alert(number, 3000, "core", 2, world.seed) for number in range(ALERTS)]
    unsent = load.send_all(relay.port, messages, 2, 60)
    expect(not unsent, f"not accepted: {unsent[:2]}; {relay.log_tail()}")
    relay.kill()
    expect(not server.mail, "something went although STARTTLS was refused")
    relay.start()
    kept = f"messages={ALERTS} "
    expect(kept in relay.log().split("started ")[-1], f"no {kept}after SIGKILL: {relay.log_tail()}")
    server.behave = ""
    wait_for(lambda: len(server.mail) >= ALERTS, f"{len(server.mail)} relayed over TLS; {relay.log_tail()}")
    for message in messages:
        copies = [data for data in server.mail if mail.difference(message, data) is None]
        expect(len(copies) == 1, f"{message.sender}: {len(copies)} whole copies")
    expect(all(seen.version in (None, version.name.replace("v1_", "v1.")) for seen in server.sessions), "the version")
    expect(PASSWORD.encode() not in server.plaintext(), "the password went in plain")
    expect(relay.terminate(60) == 0, f"SIGTERM: {relay.log_tail()}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=pathlib.Path, required=True)
    arguments.add_argument("--emulator", default="")
    arguments.add_argument("--folder", type=pathlib.Path, required=True)
    options = arguments.parse_args()
    os.environ["POSTERN"] = str(options.binary.absolute())
    options.seed, options.kills, options.soak_seconds = 1, 0, 0
    world = checks.World(options.folder.absolute(), options)
    start = time.monotonic()
    try:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            core(world, options, version)
    except Failure as failure:
        print(f"smoke: {failure}; see {world.folder}", file=sys.stderr)
        return 1
    finally:
        world.cleanup()
    print(
        f"smoke: {ALERTS} alerts received, kept over SIGKILL, relayed with TLS 1.2 and 1.3 and a login "
        f"({time.monotonic() - start:.1f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
