"""Bad configurations: one line that names file, key and what is allowed, and exit code 78 (EX_CONFIG) or 74
(EX_IOERR).
"""

import os
import pathlib
import socket
import subprocess

from checks import check, expect, free_port

CODES = (74, 78)


def configuration(folder, **changes):
    """A good configuration as a list of lines, with whole lines replaced by their key."""
    lines = {
        "hostname": 'hostname = "relay.test.example"',
        "listen": f'listen = ["127.0.0.1:{free_port()}"]',
        "admin": 'admin = "admin@test.example"',
        "allow": "",
        "smarthost": '[smarthost]\nhost = "127.0.0.1"\nport = 9\ntls = "none"',
        "spool": f'[spool]\npath = "{folder}/spool"\nsize = "1MiB"',
        "retry": '[retry]\nfirst = "1s"\nlongest = "5s"\nroute_longest = "1s"',
    }
    lines.update(changes)
    return "\n".join(lines.values()) + "\n"


def refusal(world, name, text, *words, codes=CODES, seconds=30):
    """Starts with `text` as configuration; returns None, or what is wrong with how it ended."""
    folder = world.folder_for(name.replace(" ", "_"))
    path = folder / "postern.toml"
    if text is not None:
        path.write_text(text.replace("FOLDER", str(folder)))
    try:
        done = subprocess.run(
            [world.binary, "serve", "--config", str(path)],
            capture_output=True,
            timeout=seconds,
            env={k: v for k, v in os.environ.items() if k != "RUST_LOG"},
        )
    except subprocess.TimeoutExpired:
        return f"{name}: it started"
    said = (done.stdout + done.stderr).decode(errors="replace")
    lines = said.splitlines()
    if done.returncode not in codes:
        return f"{name}: exit code {done.returncode}, said {said[-200:]!r}"
    if len(lines) != 1:
        return f"{name}: {len(lines)} lines: {said[-300:]!r}"
    missing = [word for word in (str(path), *words) if word not in lines[0]]
    if missing:
        return f"{name}: {lines[0]!r} does not name {missing}"
    return None


@check("settings.refused", 120)
def refused(world):
    """Each case: name, changed lines, words that the one line must have beside the file's name."""
    cases = [
        ("unknown key", {"hostname": 'hostnam = "x.example"'}, ["hostnam"]),
        ("unknown table", {"retry": '[retries]\nfirst = "1s"'}, ["retries"]),
        ("unknown key in a table", {"retry": '[retry]\nfrist = "1s"'}, ["frist"]),
        ("key in the wrong table", {"retry": '[retry]\nfirst = "1s"\npath = "/x"'}, ["path"]),
        ("wrong type", {"admin": "admin = 5"}, ["admin"]),
        ("wrong type of listen", {"listen": "listen = true"}, ["listen"]),
        ("port out of range", {"listen": 'listen = ["127.0.0.1:99999"]'}, ["listen", "99999"]),
        ("listen without a port", {"listen": 'listen = ["127.0.0.1"]'}, ["listen"]),
        ("bad network", {"allow": 'allow = ["192.168.1.0/33"]'}, ["allow", "192.168.1.0/33"]),
        ("no network", {"allow": 'allow = ["lan"]'}, ["allow", "lan", "on-link"]),
        ("everybody", {"allow": 'allow = ["0.0.0.0/0"]'}, ["allow"]),
        ("bad size", {"spool": '[spool]\npath = "FOLDER/spool"\nsize = "many"'}, ["size"]),
        ("a size too small", {"spool": '[spool]\npath = "FOLDER/spool"\nsize = "1KiB"'}, ["size"]),
        ("bad duration", {"retry": '[retry]\nfirst = "soon"'}, ["first"]),
        ("no smarthost", {"smarthost": ""}, ["smarthost"]),
        ("a smarthost without host", {"smarthost": "[smarthost]\nport = 25"}, ["host"]),
        ("bad tls", {"smarthost": '[smarthost]\nhost = "127.0.0.1"\ntls = "maybe"'}, ["tls", "none"]),
        ("bad admin", {"admin": 'admin = "not an address"'}, ["admin"]),
        ("not TOML", {"admin": "admin = = x"}, []),
        ("doubled key", {"admin": 'admin = "a@test.example"\nadmin = "b@test.example"'}, ["admin"]),
        ("bad hostname", {"hostname": 'hostname = "two words"'}, ["hostname"]),
        (
            "spool in a missing folder",
            {"spool": '[spool]\npath = "FOLDER/no/such/folder/spool"\nsize = "1MiB"'},
            ["path"],
        ),
        ("spool is a folder", {"spool": '[spool]\npath = "FOLDER"\nsize = "1MiB"'}, ["path"]),
    ]
    wrong = []
    for name, changes, words in cases:
        wrong.append(refusal(world, name, configuration("FOLDER", **changes), *words))
    wrong.append(refusal(world, "missing file", None))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        lines = configuration("FOLDER", listen=f'listen = ["127.0.0.1:{port}"]')
        wrong.append(refusal(world, "port in use", lines, "listen", str(port)))
    wrong = [text for text in wrong if text]
    expect(not wrong, f"{len(wrong)} of {len(cases) + 2}: " + "; ".join(wrong))
    return f"{len(cases) + 2} bad configurations"


@check("settings.tmpfs", 90)
def tmpfs(world):
    """A spool in memory is refused; with spool.volatile it is taken."""
    shared = pathlib.Path("/dev/shm")
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(shared)], capture_output=True, text=True
    ).stdout.strip()
    expect(kind == "tmpfs", f"{shared} is {kind or 'missing'}, not tmpfs: can't check")
    folder = shared / f"postern-interop-{os.getpid()}"
    folder.mkdir()
    world.stack.callback(lambda: [path.unlink() for path in folder.iterdir()] and folder.rmdir())
    spool = f'[spool]\npath = "{folder}/spool"\nsize = "1MiB"'
    wrong = refusal(world, "tmpfs", configuration("FOLDER", spool=spool), "spool")
    expect(not wrong, str(wrong))
    wrong = refusal(world, "volatile", configuration("FOLDER", spool=f"{spool}\nvolatile = true"), seconds=5)
    expect(wrong == "volatile: it started", f"with volatile = true: {wrong or 'refused'}")
    return "refused, and taken with volatile = true"


@check("settings.second_relay", 120)
def second_relay(world):
    """A second relay on the spool of a running one is refused, and the first goes on."""
    from relay import Relay

    relay = Relay(world, free_port()).start()
    spool = f'[spool]\npath = "{relay.spool}"\nsize = "64MiB"'
    wrong = refusal(world, "second", configuration("FOLDER", spool=spool))
    expect(not wrong, str(wrong))
    relay.wait_for_greeting()
    return "refused"
