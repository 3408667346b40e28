"""One `postern serve` on loopback: its configuration, its log, its spool, and the ways to end it."""

import os
import pathlib
import signal
import socket
import subprocess
import time

from checks import Failure, free_port

START_SECONDS_MAX = 30


class Relay:
    """A relay in `folder`. It keeps port, configuration and spool over restarts, and appends to one log."""

    def __init__(self, world, smarthost_port, *, name="relay", size="64MiB", top="", tables="", binary=None,
                 smarthost='host = "127.0.0.1"\ntls = "none"\n', retry='route_longest = "1s"\n', users=None, more_listeners=""):
        self.folder = world.folder_for(name)
        self.port = free_port()
        self.spool = self.folder / "spool"
        self.submit = self.folder / "submit.sock"
        self.control = self.folder / "control.sock"
        self.log_path = self.folder / "log"
        self.config = self.folder / "postern.toml"
        self.binary = binary or world.binary
        self.process = None
        self.wrapper = []
        listener = f'"127.0.0.1:{self.port}"'
        if users:
            listener = f"{{ address = {listener}, auth = true, allow_plaintext_auth = true }}"
            tables += "[users]\n"
        for user, password in (users or {}).items():
            secret = self.folder / f"{user}.secret"
            secret.write_text(password + "\n")
            secret.chmod(0o600)
            tables += f'{user} = "{secret}"\n'
        # One client plays all devices, and octets are compared.
        share = '[limits]\nspool_share = "100%"\n'
        limits = tables.replace("[limits]\n", share) if "[limits]" in tables else share + tables
        self.config.write_text(
            f'hostname = "relay.test.example"\n'
            f"listen = [{listener}{more_listeners}]\n"
            f'admin = "admin@test.example"\n'
            f"{top}"
            f"[smarthost]\nport = {smarthost_port}\n{smarthost}"
            f'[spool]\npath = "{self.spool}"\nsize = "{size}"\n'
            f'[retry]\nfirst = "1s"\nlongest = "5s"\n{retry}'
            f"[quirks]\nmissing_fields = false\n"
            f'[control]\npath = "{self.control}"\n'
            f'[submit]\npath = "{self.submit}"\n'
            f"{limits}"
        )
        world.stack.callback(self.end)

    def launch(self, environment=None):
        """Starts the process and does not wait for it."""
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [*self.wrapper, self.binary, "serve", "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=bool(self.wrapper),
        )
        log.close()
        return self

    def start(self, environment=None):
        """Starts the process and waits until it greets."""
        self.launch(environment)
        self.wait_for_greeting()
        return self

    def wait_for_greeting(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            code = self.process.poll()
            if code is not None:
                raise Failure(f"the relay ended with {code} at its start: {self.log_tail()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                    greeting = probe.recv(512)
                    if greeting.startswith(b"220"):
                        probe.sendall(b"QUIT\r\n")
                        probe.recv(512)
                        return
                    if greeting and not greeting.startswith(b"421"):
                        raise Failure(f"the relay greeted with {greeting!r}")
            except OSError:
                pass
            time.sleep(0.005)
        raise Failure(f"no greeting in {START_SECONDS_MAX} s: {self.log_tail()}")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL: what a power cut does to the process (not to the disk)."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds=10):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running {seconds} s after SIGTERM") from None

    def terminate_traced(self):
        """SIGTERM to the relay when it runs as the child of a wrapper, and the end of both."""
        children = (
            pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        return self.process.wait(60)

    def end(self):
        """At the end of a check: it must have lived until now, or been ended on purpose."""
        if self.process is None or self.process.returncode is not None:
            return
        code = self.process.poll()
        if self.wrapper:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        if code is not None:
            raise Failure(f"the relay ended by itself with {code}: {self.log_tail()}")

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self):
        return " | ".join(self.log().splitlines()[-3:])

    def cpu_seconds(self):
        """User and system time of the process so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
