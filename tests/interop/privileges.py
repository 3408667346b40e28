"""Root only until the ports are bound: who the process is afterwards, what it may still do, and what it owns."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

IDS = "4242:4343"
NONE = "0000000000000000"


def status(relay):
    """/proc/PID/status as a dictionary of its lines."""
    lines = pathlib.Path(f"/proc/{relay.process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def low_port():
    for port in range(700, 1024):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port below 1024")


def place(world, owner=(0, 0), mode=0o755):
    """A folder on a disk that every user can reach, unlike that of the check perhaps."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="postern-privileges-", dir="/var/tmp"))
    world.stack.callback(shutil.rmtree, top, True)
    top.chmod(0o755)
    folder = top / "spool"
    folder.mkdir()
    os.chown(folder, *owner)
    folder.chmod(mode)
    return folder


def changed(relay, folder, **lines):
    """The relay's configuration with its spool in `folder` and whole values replaced."""
    text = relay.config.read_text().replace(f'"{relay.spool}"', f'"{folder}/spool"')
    for name in ("submit.sock", "control.sock"):
        text = text.replace(f'"{relay.folder}/{name}"', f'"{folder}/{name}"')
    for old, new in lines.values():
        text = text.replace(old, new)
    relay.config = folder.parent / "postern.toml"
    relay.config.write_text(text)
    relay.config.chmod(0o644)
    relay.spool = folder / "spool"
    return relay


def refusal(world, config, **options):
    done = subprocess.run(
        [world.binary, "serve", "--config", str(config)], capture_output=True, text=True, timeout=20, **options
    )
    lines = done.stderr.splitlines()
    expect(len(lines) == 1, f"{len(lines)} lines: {done.stderr[-300:]!r}")
    return done.returncode, lines[0]


def is_bare(relay, uid, gid, groups):
    """The process is that user in all respects, and has nothing left."""
    said = status(relay)
    expect(said["Uid"].split() == [str(uid)] * 4, f"Uid: {said['Uid']}")
    expect(said["Gid"].split() == [str(gid)] * 4, f"Gid: {said['Gid']}")
    expect(said["Groups"].split() == groups, f"Groups: {said['Groups']}")
    kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if said[name] != NONE]
    expect(not kept, f"capabilities are left in {kept}")
    is_hardened(relay, said)


def is_hardened(relay, said):
    process = pathlib.Path(f"/proc/{relay.process.pid}")
    expect(said["NoNewPrivs"] == "1", "new privileges are possible")
    expect(said["Umask"] == "0077", f"umask {said['Umask']}")
    core = next(line for line in (process / "limits").read_text().splitlines() if "core file" in line)
    expect(core.split()[4:6] == ["0", "0"], core)
    # The files of a process that can't be dumped are root's.
    expect((process / "environ").stat().st_uid == 0, "the process can be dumped")


@check("privileges.run_as", 90)
def run_as(world):
    """SEC-drop-a: by numbers and by name, on a port below 1024: relays, is nobody else, comes back after a kill."""
    if os.geteuid() != 0:
        return "not checked: needs root"
    sink = Sink(world, free_port()).start()
    nobody = pwd.getpwnam("nobody")
    for number, (who, uid, gid) in enumerate(((IDS, 4242, 4343), ("nobody", nobody.pw_uid, nobody.pw_gid))):
        folder = place(world)
        relay = Relay(world, sink.port, name=f"relay{number}", size="1MiB", top=f'run_as = "{who}"\n')
        port = low_port()
        socket_path = folder / "run" / "submit.sock"
        changed(
            relay, folder, port=(f":{relay.port}", f":{port}"),
            submit=(f'"{folder}/submit.sock"', f'"{socket_path}"'),
        )
        relay.port = port
        relay.start()
        is_bare(relay, uid, gid, [])
        owner = relay.spool.stat()
        expect((owner.st_uid, owner.st_gid, owner.st_mode & 0o777) == (uid, gid, 0o600), "the spool's owner")
        message = mail.alert(number, 3000, "own", 2, world.seed)
        expect(not load.send_all(relay.port, [message], 1, 20), "not accepted")
        expect(sink.wait_for([message], 20), "not relayed")
        relay.kill()
        relay.start()
        is_bare(relay, uid, gid, [])
        mode = socket_path.stat().st_mode & 0o777
        expect(mode == 0o666 and socket_path.parent.stat().st_uid == uid, f"sendmail's socket: {mode:o}")
        expect(relay.terminate() == 0, "not ended with 0")
        expect(not socket_path.exists(), "the socket is left behind")
        expect("running as root" not in relay.log(), "it says that it is root")
    return f"port {port}; no capability, group or way to a core file is left"


def queue(relay, uid):
    """What `postern queue` as that user ends with."""
    command = [relay.binary, "queue", "--config", str(relay.config)]
    return subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True, timeout=20).returncode


@check("privileges.tools", 60)
def tools(world):
    """Who may ask a relay that is root no longer: root, and the user that it runs as. In a folder that it made it removes
    the socket's name; one that is root's keeps that, and the next start isn't in the way of it."""
    if os.geteuid() != 0:
        return "not checked: needs root"
    top = place(world)
    # Where the users of this check can run it.
    binary = shutil.copy(world.binary, top.parent / "postern")
    os.chmod(binary, 0o755)
    for made in (True, False):
        relay = Relay(world, free_port(), name=f"relay{made}", size="1MiB", top=f'run_as = "{IDS}"\n', binary=binary)
        control = top / "control" / "control.sock" if made else top / "control.sock"
        changed(relay, top, control=(f'"{top}/control.sock"', f'"{control}"'))
        for ending in (relay.kill, relay.terminate):
            relay.start()
            owner = control.stat()
            expect((owner.st_uid, owner.st_gid, owner.st_mode & 0o777) == (4242, 4343, 0o600), f"made={made}: {owner}")
            relay.process.send_signal(signal.SIGHUP)
            codes = [queue(relay, uid) for uid in (0, 4242, 4244)]
            expect(codes == [0, 0, 77], f"made={made}: queue ended with {codes} for root, itself, another user")
            ending()
            expect(queue(relay, 0) == 69, f"made={made}: there is no relay, and queue says something else")
        expect(control.exists() != made, f"made={made}: the socket's name")
        relay.spool.unlink()
    return "root and the user that it became, nobody else"


@check("privileges.groups", 30)
def groups(world):
    """The groups that /etc/group names are joined, and only those; root's own are not kept."""
    if os.geteuid() != 0:
        return "not checked: needs root"
    member = next((user for user in pwd.getpwall() if user.pw_uid and groups_of(user.pw_name)), None)
    if member is None:
        subprocess.run(["usermod", "-a", "-G", "mail", "nobody"], check=True)
        world.stack.callback(subprocess.run, ["gpasswd", "-d", "nobody", "mail"], capture_output=True)
        member = pwd.getpwnam("nobody")
    relay = Relay(world, free_port(), size="1MiB", top=f'run_as = "{member.pw_name}"\n')
    changed(relay, place(world)).start()
    is_bare(relay, member.pw_uid, member.pw_gid, groups_of(member.pw_name))
    return f"{member.pw_name} is in {' '.join(groups_of(member.pw_name))}"


def groups_of(name):
    """In the order of their numbers, as the kernel shows them."""
    fields = [line.split(":") for line in pathlib.Path("/etc/group").read_text().splitlines()]
    return sorted((f[2] for f in fields if name in f[3].split(",") and f[2] != "0"), key=int)


@check("privileges.refused", 60)
def refused(world):
    """What can't be had as that user is told at the start, before anything is answered."""
    if os.geteuid() != 0:
        return "not checked: needs root"
    folder = place(world)
    secret = folder.parent / "secret"
    secret.write_text("word\n")
    secret.chmod(0o600)
    login = f'host = "127.0.0.1"\ntls = "none"\nuser = "u"\npassword_file = "{secret}"\nallow_plaintext_auth = true\n'
    relay = changed(
        Relay(world, free_port(), size="1MiB", top=f'run_as = "{IDS}"\n', smarthost=login), folder
    )
    code, line = refusal(world, relay.config)
    expect(code == 78 and str(secret) in line, f"root's own secret: {code} {line}")
    os.chown(secret, 0, 4343)
    secret.chmod(0o640)
    relay.start()
    is_bare(relay, 4242, 4343, [])
    relay.terminate()
    # A hard link in the user's folder is not a way to another file.
    os.chown(folder, 4242, 4343)
    relay.spool.unlink()
    os.link(secret, relay.spool)
    code, line = refusal(world, relay.config)
    expect(code == 78 and secret.stat().st_uid == 0, f"a second name of a file: {code} {line}")
    relay.spool.unlink()
    text = relay.config.read_text()
    for who in ("no-such-user", "0:0", "root", "4242"):
        relay.config.write_text(text.replace(IDS, who))
        code, line = refusal(world, relay.config)
        expect(code == 78 and "run_as" in line, f"{who}: {code} {line}")
    relay.config.write_text(text)
    code, line = refusal(world, relay.config, user=4244, group=4244, extra_groups=[])
    expect(code == 78 and "run_as: only root" in line, f"another user than root: {code} {line}")
    return "an unreadable secret, a second name, unknown users, no root to begin with"


@check("privileges.none", 60)
def none(world):
    """Without run_as: another user than root works on a high port and keeps nothing; root is warned."""
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port, size="1MiB")
    if os.geteuid() != 0:
        relay.start()
        is_hardened(relay, status(relay))
        return "as the user of this check"
    changed(relay, place(world, (4242, 4343)))
    relay.wrapper = ["setpriv", "--reuid", "4242", "--regid", "4343", "--clear-groups", "--inh-caps=+net_bind_service",
                     "--ambient-caps=+net_bind_service"]
    relay.start()
    said = status(relay)
    expect(said["Uid"].split() == ["4242"] * 4, f"Uid: {said['Uid']}")
    kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if said[name] != NONE]
    expect(not kept, f"capabilities are left in {kept}")
    is_hardened(relay, said)
    message = mail.alert(1, 3000, "own", 2, world.seed)
    expect(not load.send_all(relay.port, [message], 1, 20), "not accepted")
    expect(sink.wait_for([message], 20), "not relayed")
    relay.kill()
    root = Relay(world, sink.port, name="root", size="1MiB").start()
    is_hardened(root, status(root))
    expect("running as root" in root.log(), "root is not warned")
    return "as a plain user with a capability, which it gives up; root is warned"
