"""OpenWrt's scripts under busybox's ash, in a root folder of their own where procd and uci are stand-ins, with odd values;
systemd's unit as systemd itself judges it.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

HERE = pathlib.Path(__file__).parent
TARGETS = HERE.parent.parent / "targets"
FILES = TARGETS / "openwrt" / "files"
ODD = [
    "plain",
    "two words",
    " leading and trailing ",
    "it's \"quoted\" \\ and \\n not a newline",
    "$(touch /owned) `touch /owned` $HOME ${x}",
    "Grüße, 東京 ☃",
    "a\nb\n\nc",
    "ends with a newline\n",
    "\ttab\tand\rreturn",
    "# = [table] 'x' , }",
    "*",
    "-n",
    "%s%d\\x41",
    "@",
    ".",
]
SMARTHOST = ["config smarthost", "option host 'smtp.example.com'"]


def uci(value):
    """As `uci export` writes a value."""
    return "'" + value.replace("'", "'\\''") + "'"


class Root:
    """A root folder with busybox, the package's files, and stand-ins."""

    def __init__(self, world, name="root"):
        self.folder = world.folder_for(name)
        for folder in ("bin", "lib", "etc/config", "etc/init.d", "usr/libexec", "var", "tmp", "proc", "dev"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(shutil.which("busybox"), self.folder / "bin/busybox")
        for applet in subprocess.run(["busybox", "--list"], capture_output=True, text=True).stdout.split():
            if applet != "busybox":
                (self.folder / "bin" / applet).symlink_to("busybox")
        shutil.copy(HERE / "openwrt/functions.sh", self.folder / "lib/functions.sh")
        shutil.copy(FILES / "postern-uci", self.folder / "usr/libexec/postern-uci")
        for source, to in ((HERE / "openwrt/rc.common", "etc/rc.common"), (FILES / "postern.init", "etc/init.d/postern")):
            shutil.copy(source, self.folder / to)
            (self.folder / to).chmod(0o755)
        # busybox's own logger and uci would speak to a daemon that isn't there.
        self.script("bin/logger", 'echo "logger|$*" >>/calls')
        self.script("bin/uci", 'cat "/uci/${*##* }" 2>/dev/null')
        (self.folder / "uci").mkdir()
        self.write("proc/mounts", "overlayfs:/overlay / overlay rw 0 0\n")
        self.write("proc/meminfo", "MemTotal: 60000 kB\nMemAvailable:   20000 kB\n")
        self.enter = ["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot"]

    def write(self, path, text):
        (self.folder / path).write_text(text)
        return self

    def script(self, path, text):
        (self.folder / path).unlink(missing_ok=True)
        self.write(path, f"#!/bin/sh\n{text}\n")
        (self.folder / path).chmod(0o755)

    def configure(self, *lines):
        return self.write("etc/config/postern", "package postern\n" + "\n".join(lines) + "\n")

    def run(self, *words, **environment):
        """(exit code, stdout) of a command inside; what it says on stderr is a failure."""
        done = subprocess.run(
            [*self.enter, str(self.folder), *words],
            capture_output=True,
            env={"PATH": "/bin:/usr/bin:/usr/sbin:/sbin", **environment},
            timeout=60,
        )
        expect(not done.stderr, f"{words}: {done.stderr[-300:]!r}")
        return done.returncode, done.stdout

    def toml(self):
        code, octets = self.run("/bin/sh", "/usr/libexec/postern-uci", "/var/etc/secrets")
        expect(code == 0, f"postern-uci ended with {code}")
        return tomllib.loads(octets.decode())

    def init(self, action):
        """What procd and others were called with."""
        (self.folder / "calls").write_text("")
        code, octets = self.run("/bin/sh", "/etc/rc.common", "/etc/init.d/postern", action)
        expect(code == 0, f"{action} ended with {code}")
        return (self.folder / "calls").read_text().splitlines(), octets.decode()

    def is_unhurt(self):
        expect(not (self.folder / "owned").exists(), "a value was run as a command")


@check("packaging.uci", 120)
def convert(world):
    """Each odd value in each kind of place arrives in the TOML file as it is."""
    root = Root(world)
    for value in ODD:
        root.configure(
            "config alias",
            f"option name {uci(value)}",
            f"option address {uci(value)}",
            "config smarthost",
            f"option user {uci(value)}",
            f"option password {uci(value)}",
            f"list pins {uci(value)}",
            f"list pins {uci(value)}",
            "list discard 'x'",
            "config listen",
            f"option address {uci(value)}",
            "option auth '1'",
            "config user",
            f"option name {uci(value)}",
            f"option password_file {uci(value)}",
            "config postern 'main'",
            "option enabled '1'",
            f"option admin {uci(value)}",
            f"list listen {uci(value)}",
            "option announce '0'",
            f"option allow {uci(value)}",
        )
        got = root.toml()
        want = {
            "admin": value,
            "announce": False,
            "allow": [value],
            "listen": [{"address": value, "auth": True}, value],
            "smarthost": {"user": value, "password_file": "/var/etc/secrets/secret-1", "pins": [value] * 2,
                          "discard": ["x"]},
            "aliases": {value: value},
            "users": {value: value},
        }
        expect(got == want, f"{value!r} became {got}")
        secret = root.folder / "var/etc/secrets/secret-1"
        expect(secret.read_bytes() == value.encode() + b"\n", f"the password {value!r} became {secret.read_bytes()!r}")
        expect(secret.stat().st_mode & 0o777 == 0o600, f"a secret with mode {secret.stat().st_mode:o}")
        expect(secret.parent.stat().st_mode & 0o777 == 0o700, "others can look into the secrets' folder")
        root.is_unhurt()
    return f"{len(ODD)} odd values in 11 places"


@check("packaging.uci_types", 60)
def types(world):
    """Numbers and truths become such; several smarthosts a list; and postern takes the shipped file."""
    root = Root(world)
    root.configure(
        *SMARTHOST, "option port '465'", "option allow_plaintext_auth 'off'", *SMARTHOST, "option port 'x'",
        "option auth 'login'", "config limits", "option sessions '5'", "option spool_share '40%'", "config quirks",
        "option helo_junk 'no'", "option bare_lf 'refuse'", "config spool", "option volatile 'maybe'",
        "option size '1MiB'", "config postern 'main'", "option config_file '/x'", "option keep_spool '0'",
    )
    host = "smtp.example.com"
    want = {
        "smarthost": [{"host": host, "port": 465, "allow_plaintext_auth": False},
                      {"host": host, "port": "x", "auth": "login"}],
        "limits": {"sessions": 5, "spool_share": "40%"},
        "quirks": {"helo_junk": False, "bare_lf": "refuse"},
        "spool": {"volatile": "maybe", "size": "1MiB"},
    }
    expect(root.toml() == want, f"it became {root.toml()}")
    root.write("etc/config/postern", (FILES / "postern.uci").read_text().replace("option password ''", "option password 'x'"))
    code, octets = root.run("/bin/sh", "/usr/libexec/postern-uci", "/var/etc/secrets")
    path = root.folder / "postern.toml"
    path.write_bytes(octets)
    done = subprocess.run([world.binary, "check", "--offline", "--config", path], capture_output=True, text=True)
    expect((done.returncode, done.stdout) == (0, "ok\n"), f"the shipped file: {done.returncode} {done.stdout}{done.stderr}")
    return "the shipped file is taken"


@check("packaging.init", 60)
def init(world):
    """What procd is told: command, respawn without end, the mount to wait for; and when nothing is started."""
    root = Root(world)
    main = ["config postern 'main'", "option run_as '4242:4343'"]
    spool = "/mnt/usb \"stick\" é/it's/spool"
    rest = [*SMARTHOST, "option password 'word'", "config spool", f"option path {uci(spool)}"]
    root.configure(*main, *rest)
    calls, _ = root.init("start")
    expect(not calls, f"switched off, and yet: {calls}")
    root.configure(*main, "option enabled '1'", *rest)
    calls, _ = root.init("start")
    for call in (
        "set_param|command|/usr/sbin/postern|serve|--config|/var/etc/postern/postern.toml",
        "set_param|respawn|3600|5|0",
        "set_param|limits|core=0",
    ):
        expect(call in calls, f"{call} is missing in {calls}")
    folder = root.folder / os.path.dirname(spool)[1:]
    secrets = root.folder / "var/etc/postern/secrets"
    for path in (folder, secrets, secrets / "secret-1"):
        owner = (path.stat().st_uid, path.stat().st_gid)
        expect(owner == (4242, 4343) or os.geteuid() != 0, f"{path} is owned by {owner}")
    expect((secrets / "secret-1").stat().st_mode & 0o777 == 0o600, "the secret's mode")
    calls, _ = root.init("service_triggers")
    expect(calls == ["add_reload_trigger|postern", f"add_restart_mount_trigger|{os.path.dirname(spool)}"], f"{calls}")
    expect(root.init("spool_path")[1] == spool + "\n", f"the spool is at {root.init('spool_path')[1]!r}")
    expect(root.init("retry")[0] == ["send_signal|postern|*|USR1"], "retry")
    root.write("proc/mounts", "overlayfs:/tmp/root / overlay rw 0 0\n")
    calls, _ = root.init("start")
    expect(len(calls) == 1 and calls[0].startswith("logger|") and "memory" in calls[0], f"overlay in memory: {calls}")
    root.write("proc/mounts", "/dev/root / ext4 rw 0 0\n")
    root.write("etc/own.toml", '# path = "no"\nrun_as = "4242:4343"\n[smarthost]\npath = "no"\n [ spool ]\n path = "/srv/s"\n')
    root.configure("config postern main", "option enabled 1", "option config_file /etc/own.toml")
    calls, _ = root.init("start")
    expect("set_param|command|/usr/sbin/postern|serve|--config|/etc/own.toml" in calls, f"a file of one's own: {calls}")
    expect(root.init("spool_path")[1] == "/srv/s\n", "the spool of a file of one's own")
    root.is_unhurt()


@check("packaging.events", 60)
def events(world):
    """The WAN and the clock trigger a retry; an upgrade stops the relay and takes the spool along, a backup doesn't."""
    root = Root(world)
    root.script("etc/init.d/postern", 'echo "$*" >>/calls; [ "$1" != spool_path ] || echo /srv/spool')

    def asked(script, **environment):
        root.write("calls", "").write("event", (FILES / script).read_text())
        code, octets = root.run("/bin/sh", "/event", **environment)
        return (root.folder / "calls").read_text().split()

    for expected, script, environment in (
        (["retry"], "postern.iface", {"ACTION": "ifup", "INTERFACE": "wan"}),
        ([], "postern.iface", {"ACTION": "ifup", "INTERFACE": "loopback"}),
        ([], "postern.iface", {"ACTION": "ifdown", "INTERFACE": "wan"}),
        (["retry"], "postern.ntp", {"ACTION": "stratum"}),
        (["retry"], "postern.ntp", {"ACTION": "step"}),
        ([], "postern.ntp", {"ACTION": "periodic"}),
    ):
        got = asked(script, **environment)
        expect(got == expected, f"{script} {environment}: {got}")

    (root.folder / "srv").mkdir()
    root.write("srv/spool", "x" * 100_000)
    upgrade = f"list=/list; : >$list\n{(FILES / 'postern.upgrade').read_text()}\n$sysupgrade_init_conffiles $list; echo on; cat $list"
    run = lambda **environment: (root.write("calls", "").script("up", upgrade), root.run("/up", **environment),
                                 (root.folder / "calls").read_text().split())[1:]
    expect(run(IMAGE="x.bin") == ((0, b"on\n/srv/spool\n"), ["spool_path", "stop"]), f"upgrade: {run(IMAGE='x.bin')}")
    expect(run() == ((0, b"on\n"), []), f"backup: {run()}")
    expect(run(IMAGE="x", CONF_BACKUP_LIST="1") == ((0, b"on\n"), []), "list")
    root.write("uci/postern.main.keep_spool", "0\n")
    expect(run(IMAGE="x") == ((0, b"on\n"), []), "keep_spool 0")
    (root.folder / "uci/postern.main.keep_spool").unlink()
    root.write("proc/meminfo", "MemAvailable: 150 kB\n")
    root.script("up", upgrade.replace(" >&2", ""))
    root.write("calls", "")
    code, said = root.run("/up", IMAGE="x")
    calls = (root.folder / "calls").read_text().split()
    expect(code == 1 and b"no memory" in said and calls == ["spool_path", "stop", "start"], f"{code} {said} {calls}")


def filtered(unit):
    """The system calls that the unit lets through, by its lines in their order."""

    def members(name):
        if not name.startswith("@"):
            return {name}
        text = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
        ).stdout
        lines = [line.strip() for line in text.splitlines()[1:]]
        return set().union(*(members(line) for line in lines if line and not line.startswith("#")))

    allowed = set()
    for words in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        named = set().union(*(members(word) for word in words.lstrip("~").split()))
        allowed = allowed - named if words.startswith("~") else allowed | named
    return allowed


@check("packaging.filter", 120)
def system_calls(world):
    """Everything that the relay asks of the kernel from its start to its end is let through by the unit."""
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port, size="1MiB")
    trace = world.folder / "trace"
    relay.wrapper = ["strace", "-f", "-qq", "-o", str(trace)]
    relay.start()
    messages = [mail.alert(n, 3000, "call", 2, world.seed) for n in range(20)]
    expect(not load.send_all(relay.port, messages, 4, 60), "not accepted")
    expect(sink.wait_for(messages, 60), "not relayed")
    relay.terminate_traced()
    text = trace.read_text(errors="replace")
    # The first call starts the program, and is the unit's supervisor's.
    used = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE)) - {"execve"}
    expect({"fdatasync", "epoll_wait", "capset", "prctl"} & used, f"a trace without the usual calls: {sorted(used)}")
    forbidden = used - filtered((TARGETS / "systemd/postern.service").read_text())
    expect(not forbidden, f"the unit forbids {sorted(forbidden)}")
    return f"{len(used)} different calls"


@check("packaging.systemd", 60)
def systemd(world):
    """The unit is clean and rated below 2.0, its user can be made, and postern takes the configuration beside it."""
    folder = world.folder_for("systemd")
    unit = (TARGETS / "systemd/postern.service").read_text().replace("/usr/sbin/postern", os.path.abspath(world.binary))
    (folder / "postern.service").write_text(unit)
    run = lambda *words: subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=folder)
    done = run("systemd-analyze", "verify", "--man=no", "./postern.service")
    said = [line for line in (done.stdout + done.stderr).splitlines() if "postern" in line]
    expect(done.returncode == 0 and not said, f"verify: {done.returncode} {said}")
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", "./postern.service")
    rating = re.search(r"exposure level for postern.service: ([0-9.]+)", done.stdout)
    expect(rating and float(rating[1]) < 2.0, f"security: {done.stdout[-300:]}{done.stderr}")
    users = run("systemd-sysusers", "--dry-run", str(TARGETS / "systemd/postern.sysusers"))
    expect(users.returncode == 0 and "postern" in users.stdout + users.stderr, f"sysusers: {users.stdout}{users.stderr}")
    config = str(TARGETS / "systemd/postern.toml")
    done = run(world.binary, "check", "--offline", "--config", config)
    expect((done.returncode, done.stdout) == (0, "ok\n"), f"postern.toml: {done.stdout}{done.stderr}")
    return f"exposure {rating[1]}"


@check("packaging.folders", 60)
def folders(world):
    """The unit's configuration, with its folders given as systemd gives them: spool and secret are found there, or it says where not."""
    sink = Sink(world, free_port()).start()
    state, credentials = world.folder_for("state"), world.folder_for("credentials")
    folder, port = world.folder_for("run"), free_port()
    environment = {"PATH": os.environ["PATH"], "STATE_DIRECTORY": f"{state}:/nowhere", "CREDENTIALS_DIRECTORY": str(credentials)}
    config = folder / "postern.toml"
    written = (TARGETS / "systemd/postern.toml").read_text()
    for theirs, ours in (
        ("127.0.0.1:25", f"127.0.0.1:{port}"),
        ('host = "smtp.example.com"', f'host = "127.0.0.1"\nport = {sink.port}\ntls = "none"\nallow_plaintext_auth = true'),
    ):
        expect(theirs in written, f"postern.toml: no {theirs}")
        written = written.replace(theirs, ours)
    config.write_text(f'{written}\n[control]\npath = "{folder}/control.sock"\n')
    command = [world.binary, "serve", "--config", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    where = credentials / "smarthost"
    expect(done.returncode == 78 and f"smarthost: {where}: " in done.stderr, f"no secret: {done.returncode} {done.stderr}")
    where.write_text("a word\n")
    where.chmod(0o440)
    with open(folder / "log", "wb") as log:
        serving = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    world.stack.callback(serving.kill)
    found = sink.wait_until(lambda: b"started " in (folder / "log").read_bytes() or serving.poll() is not None, 30)
    expect(found and serving.poll() is None, f"not started: {(folder / 'log').read_text()}")
    expect((state / "spool").stat().st_size >= 16 * 1024 * 1024, "the spool isn't in STATE_DIRECTORY")
    serving.terminate()
    expect(serving.wait(20) == 0, "SIGTERM")
    return f"spool and secret found, a missing one named as {where.name} in its folder"
