"""The administrator's tools against a running relay: what waits and why, retry, removal, status, reload."""

import json
import os
import signal
import subprocess
import threading
import time

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from secure import Secure
from sink import Sink
from tls import PASSWORD, USER, secret_file, settings

SLOW = 'route_longest = "1h"\nauth = "1h"\n'


def tool(relay, *words, config=None, **keys):
    """One run of a tool: exit code, output, errors."""
    command = [relay.binary, *words, "--config", str(config or relay.config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, **keys)
    return done.returncode, done.stdout, done.stderr.decode()


def answer(relay, *words):
    """The output of a tool that must succeed."""
    code, output, errors = tool(relay, *words)
    expect(code == 0, f"{words} ended with {code}: {errors}")
    return output.decode()


def queue(relay):
    return json.loads(answer(relay, "queue", "--json"))


def alerts(world, prefix, count, octets=600):
    return [mail.alert(number, octets, prefix, 1, world.seed) for number in range(count)]


def accepted(relay, messages, clients=8):
    unsent = load.send_all(relay.port, messages, clients)
    expect(not unsent, f"{len(unsent)} not accepted, the first: {[(m.sender, r) for m, r in unsent[:2]]}")


def wait_until(condition, seconds, reason):
    expect(Sink.wait_until(condition, seconds), reason)


@check("tools.password", 180)
def password(world):
    """A wrong password: the queue says so, in words and for programs; a right one and a retry let all go."""
    server = Secure(world, tls="none", plain_mechanisms=("PLAIN", "LOGIN"), logins={USER: PASSWORD})
    secret = secret_file(world, "wrong password")
    keys = settings("127.0.0.1", tls="none", user=USER, password_file=secret)
    keys += "allow_plaintext_auth = true\n"
    relay = Relay(world, server.port, smarthost=keys, retry=SLOW).start()
    messages = alerts(world, "password", 5)
    accepted(relay, messages)
    wait_until(lambda: queue(relay)["routes"][0]["reply"], 20, "no login was tried")
    text = answer(relay, "queue")
    top = text.splitlines()[0]
    says_why = top.startswith("smarthost 127.0.0.1: ") and ": 535 5.7.8 wrong, for " in top
    expect(says_why, f"the first line is {top}")
    expect("\n5 messages wait\n" in text, text)
    shown = queue(relay)
    expect({m["reverse_path"] for m in shown["messages"]} == {m.sender for m in messages}, shown)
    route = shown["routes"][0]
    expect(route["state"] == "resting" and route["next_try_s"] > 2000, route)
    expect([m["recipients"][0]["state"] for m in shown["messages"]] == ["waiting"] * 5, shown)
    sent = {message.sender: message.data for message in messages}
    for message in shown["messages"]:
        code, octets, _ = tool(relay, "queue", "show", message["id"])
        is_right = code == 0 and octets == sent[message["reverse_path"]]
        expect(is_right, f"{message['id']} is shown as {octets[:80]}")
    secret_file(world, PASSWORD)
    answer(relay, "queue", "retry")
    wait_until(lambda: len(server.mail) == 5, 30, f"{len(server.mail)} of 5 went after the retry")
    wait_until(lambda: queue(relay)["messages"] == [], 20, "the queue is not empty")
    status = json.loads(answer(relay, "status", "--json"))
    counters = status["counters"]
    expect((counters["received"], counters["relayed"], counters["failed"]) == (5, 5, 0), counters)
    expect(status["clients"][0]["messages"] == 5 and status["resident_octets"] > 0, status)
    return top


@check("tools.retry", 180)
def retry(world):
    """A smarthost that is down for long, one that defers: a retry does not wait."""
    sink = Sink(world, free_port(), later=True)
    relay = Relay(world, sink.port, retry='route_longest = "1h"\n')
    # What is deferred does not come by itself before it is asked for.
    shortest = 'first = "1s"\nlongest = "5s"\n'
    config = relay.config.read_text()
    expect(shortest in config, "the waits are not as expected")
    relay.config.write_text(config.replace(shortest, 'first = "1h"\nlongest = "1h"\n'))
    relay.start()
    messages = alerts(world, "retry", 3)
    for message in messages:
        message.recipients[0] = "later." + message.recipients[0]
    accepted(relay, messages)
    wait_until(lambda: queue(relay)["routes"][0]["fault"] == "no connection", 20, "no fault is shown")
    sink.start()
    answer(relay, "queue", "retry")
    wait_until(lambda: all(m["last_reply"] for m in queue(relay)["messages"]), 20, "no reply is shown")
    replies = {m["last_reply"] for m in queue(relay)["messages"]}
    expect(len(replies) == 1 and replies.pop().startswith("451 "), f"the replies are {replies}")
    sink.behave(later=False)
    first = queue(relay)["messages"][0]
    answer(relay, "queue", "retry", first["id"])
    answer(relay, "queue", "retry")
    expect(sink.wait_for(messages, 30), "they did not go")
    wait_until(lambda: queue(relay)["messages"] == [], 30, "the queue is not empty")
    sink.wait_quiet(1)
    wrong = mail.compare(messages, sink)
    expect(not wrong, wrong[:3])
    code, _, errors = tool(relay, "queue", "retry", first["id"])
    expect((code, errors) == (66, f"postern: there is no message {first['id']} in the spool\n"), errors)


@check("tools.remove", 400)
def remove(world):
    """Removals race with delivery: each message is delivered once, or removed, as the tool said."""
    sink = Sink(world, free_port(), delay=0.02).start()
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "remove", 300)
    sender = threading.Thread(target=accepted, args=(relay, messages, 4))
    sender.start()
    said = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        listed = [m for m in queue(relay)["messages"] if m["id"] not in said]
        if not listed and not sender.is_alive():
            break
        for message in world.random.sample(listed, min(4, len(listed))):
            code, _, errors = tool(relay, "queue", "remove", message["id"])
            expect(code in (0, 66, 75), f"remove ended with {code}: {errors}")
            if code == 75:
                continue
            said[message["id"]] = (code, message["reverse_path"])
    sender.join()
    wait_until(lambda: queue(relay)["messages"] == [], 60, "the queue is not empty")
    sink.wait_quiet(1)
    wrong = [fault for fault in mail.compare(messages, sink) if "did not get it" not in fault]
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")
    delivered = {record.sender for record in sink.records()}
    removed = {path for code, path in said.values() if code == 0}
    gone = {path for code, path in said.values() if code == 66}
    expect(not removed & delivered, f"removed and delivered: {sorted(removed & delivered)[:3]}")
    expect(gone <= delivered, f"neither removed nor delivered: {sorted(gone - delivered)[:3]}")
    lost = {message.sender for message in messages} - delivered - removed
    # A message that was being sent when it was to go is delivered: this smarthost takes all.
    expect(not lost, f"{len(lost)} are neither delivered nor removed: {sorted(lost)[:3]}")
    relay.kill()
    relay.start()
    expect(queue(relay)["messages"] == [], "the next start has messages that were removed")
    return f"{len(removed)} removed, {len(delivered)} delivered"


@check("tools.crowd", 600)
def crowd(world):
    """50 clients send while the tools ask in a loop: nobody waits for them, and each answer is whole."""
    sink = Sink(world, free_port(), extensions=["PIPELINING", "SIZE 20000000", "8BITMIME"]).start()
    relay = Relay(world, sink.port).start()
    messages = alerts(world, "crowd", 2000, 300)
    runs = {"queue": 0, "status": 0}
    failures = []
    is_over = threading.Event()

    def ask(name):
        while not is_over.is_set():
            try:
                code, output, errors = tool(relay, name, "--json")
                expect(code == 0, f"{name} ended with {code}: {errors}")
                shown = json.loads(output)
                ids = [m["id"] for m in shown.get("messages", []) if isinstance(m, dict)]
                expect(len(ids) == len(set(ids)), "a message is shown twice")
                runs[name] += 1
            except Exception as failure:
                failures.append(f"{type(failure).__name__}: {failure}")
                return

    askers = [threading.Thread(target=ask, args=(name,), daemon=True) for name in runs]
    for asker in askers:
        asker.start()
    accepted(relay, messages, 50)
    expect(sink.wait_for(messages, 240), "not all arrived")
    # On a busy machine the load may be over before three answers have been.
    came_back = Sink.wait_until(lambda: failures or min(runs.values()) >= 3, 120)
    is_over.set()
    for asker in askers:
        asker.join(60)
    expect(not failures, failures[:2])
    wrong = mail.compare(messages, sink)
    expect(not wrong, f"{len(wrong)} faults, the first: {wrong[:3]}")
    expect(came_back, f"the tools came to {runs}")
    return f"{len(messages)} messages, {runs['queue']} lists and {runs['status']} states meanwhile"


@check("tools.stalled", 300)
def stalled(world):
    """Tools that read nothing keep nobody out for long; a long list is whole for one that reads late."""
    relay = Relay(world, free_port()).start()
    messages = [mail.alert(number, 200, "stalled", 12, world.seed) for number in range(800)]
    accepted(relay, messages, 16)
    idle = []
    for _ in range(6):
        command = [relay.binary, "queue", "--config", str(relay.config)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, **pipes)
        world.stack.callback(process.stderr.close)
        world.stack.callback(process.stdout.close)
        world.stack.callback(process.wait)
        world.stack.callback(process.kill)
        idle.append(process)
    expect(len(queue(relay)["messages"]) == 800, "the list is not whole")
    start = time.monotonic()
    text = answer(relay, "status")
    expect("800 of " in text, text)
    waited = time.monotonic() - start
    # The last one was not evicted before its time.
    output, errors = idle[-1].communicate(timeout=30)
    whole = output.count(b"    waiting   <")
    expect((idle[-1].returncode, whole) in ((0, 9600), (74, whole)), f"{idle[-1].returncode}: {errors}")
    answer(relay, "queue", "remove", "--all")
    expect(queue(relay)["messages"] == [], "something is left")
    relay.kill()
    relay.start()
    expect(queue(relay)["messages"] == [], "something is back after SIGKILL")
    return f"waited {waited:.1f} s"


def at_terminal(relay, typed, *words):
    """A tool whose standard input is a terminal on which `typed` is typed; its exit code and all it shows."""
    ours, theirs = os.openpty()
    command = [relay.binary, *words, "--config", str(relay.config)]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.close(theirs)
    os.write(ours, typed)
    shown = process.communicate(timeout=30)[0]
    os.close(ours)
    return process.returncode, shown.decode()


@check("tools.confirm", 120)
def confirm(world):
    """At a terminal a removal asks first."""
    relay = Relay(world, free_port()).start()
    accepted(relay, alerts(world, "confirm", 3))
    first = queue(relay)["messages"][0]["id"]
    code, shown = at_terminal(relay, b"n\n", "queue", "remove", "--all")
    question = "Remove all messages of the spool? None of them will be sent. [y/N] "
    expect((code, shown) == (0, question), f"{code}: {shown}")
    code, shown = at_terminal(relay, b"\n", "queue", "remove", first)
    expect((code, len(queue(relay)["messages"])) == (0, 3), f"{code}: {shown}")
    code, shown = at_terminal(relay, b"y\n", "queue", "remove", first)
    expect(shown == f"Remove {first}? It will not be sent. [y/N] {first} is removed\n", f"{code}: {shown}")
    code, shown = at_terminal(relay, b"", "queue", "remove", "--all", "--yes")
    expect((code, shown) == (0, "removed 2 messages\n"), f"{code}: {shown}")
    expect(queue(relay)["messages"] == [], "something is left")


@check("tools.sockets", 120)
def sockets(world):
    """No relay, a dead one's socket, a second relay, somebody who may not ask."""
    relay = Relay(world, free_port())
    code, _, errors = tool(relay, "queue")
    line = f"postern: no relay is running: nobody listens at {relay.control} ("
    expect(code == 69 and errors.startswith(line), f"{code}: {errors}")
    relay.start()
    mode = os.stat(relay.control).st_mode & 0o777
    expect(mode == 0o600, f"the mode is {mode:o}")
    answer(relay, "status")
    second = Relay(world, free_port(), name="second")
    text = second.config.read_text().replace(str(second.control), str(relay.control))
    second.config.write_text(text)
    code, _, errors = tool(second, "serve")
    is_refused = code == 78 and "control.path: " in errors and "in use by another process" in errors
    expect(is_refused, f"{code}: {errors}")
    relay.kill()
    expect(relay.control.exists(), "SIGKILL leaves the socket")
    code, _, errors = tool(relay, "status")
    expect(code == 69, f"{code}: {errors}")
    relay.start()
    answer(relay, "status")
    if os.geteuid() == 0:
        world.folder.chmod(0o755)
        code, _, errors = tool(relay, "status", preexec_fn=lambda: os.setuid(65534))
        expect(code == 77 and "not permitted" in errors, f"{code}: {errors}")
    code, _, errors = tool(relay, "queue", config=world.folder / "missing")
    expect(code == 78, f"{code}: {errors}")
    expect(relay.terminate() == 0, "it does not end well")
    expect(not relay.control.exists(), "the socket is still there after the end")


def hang_up(relay, line):
    """SIGHUP, and a wait for the log's `line`."""
    before = relay.log().count(line)
    relay.process.send_signal(signal.SIGHUP)
    says_so = Sink.wait_until(lambda: relay.log().count(line) > before, 60)
    expect(says_so, f"the log does not say {line!r}: {relay.log_tail()}")


@check("tools.reload", 300)
def reload(world):
    """SIGHUP: good settings hold, bad ones are refused, and nothing that is under way is disturbed."""
    first = Sink(world, free_port(), delay=0.1).start()
    second = Sink(world, free_port(), name="second").start()
    relay = Relay(world, first.port).start()
    config = relay.config.read_text()
    session = load.Session(relay.port)
    begun = mail.alert(0, 600, "begun", 1, world.seed)
    expect(session.begin(begun).code == 354, "DATA is refused")
    # Nothing of a file with a mistake, or whose secret is missing, takes effect.
    relay.config.write_text("announce = 5\n" + config)
    hang_up(relay, "reload refused: ")
    words = "announce: is 5; true or false is allowed; the settings stay as they were"
    expect(words in relay.log(), relay.log_tail())
    login = 'user = "u"\npassword_file = "/nowhere"\nallow_plaintext_auth = true\n'
    relay.config.write_text(config.replace("[spool]", f"{login}[spool]"))
    hang_up(relay, "reload refused: ")
    expect("/nowhere" in relay.log_tail(), relay.log_tail())
    # Mail that is on its way over the first smarthost stays there; what comes later goes to the second one.
    early = alerts(world, "early", 20)
    accepted(relay, early)
    wait_until(first.records, 20, "nothing goes to the first smarthost")
    text = config.replace(str(first.port), str(second.port)).replace("size = ", 'size = "8MiB" #')
    relay.config.write_text('relay_to = ["test.example"]\n' + text)
    hang_up(relay, "INFO reloaded")
    expect("reload: spool stays as it was; a change of it takes a restart" in relay.log(), relay.log_tail())
    late = alerts(world, "late", 20)
    accepted(relay, late)
    session.send(begun.transparent())
    expect(session.reply().code == 250, "the message in hand was not taken")
    foreign = mail.Message("x@test.example", ["x@elsewhere.example"], b"x: y\r\n\r\nz\r\n")
    refused = session.transaction(foreign)
    expect(refused.code == 550, f"relay_to does not hold: {refused}")
    session.quit()
    expect(second.wait_for([*late, begun], 60), "what came later does not go to the second smarthost")
    wait_until(lambda: queue(relay)["messages"] == [], 20, "the queue is not empty")
    got = {}
    for sink in (first, second):
        for record in sink.records():
            got[record.sender] = got.get(record.sender, 0) + 1
    doubled = [sender for sender, count in got.items() if count > 1]
    lost = [m.sender for m in [*early, *late, begun] if m.sender not in got]
    expect(not doubled and not lost, f"doubled {doubled[:3]}, lost {lost[:3]}")
    over = {record.sender for record in first.records()}
    expect(not over & {m.sender for m in late}, "mail went over the smarthost that is no more")
    return f"{len(first.records())} over the first smarthost, {len(second.records())} over the second"
