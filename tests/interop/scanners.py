"""Scanners: nmap's scripts for SMTP against each kind of listener."""

import re
import subprocess
import xml.etree.ElementTree

import mail
from checks import check, expect
from secure_clients import PASSWORD, USER, Secured

SCRIPTS = ["smtp-commands", "smtp-open-relay", "smtp-enum-users", "smtp-ntlm-info", "smtp-strangeport", "smtp-brute",
           "smtp-vuln-cve2010-4344", "smtp-vuln-cve2011-1720", "smtp-vuln-cve2011-1764"]
SECONDS = 240


def scan(port, scripts, *options):
    """What each script says; the scripts run whatever the port's number says."""
    forced = ",".join(f"+{script}" for script in scripts)
    command = ["nmap", "-n", "-Pn", "-sT", "-p", str(port), "--script", forced, "-oX", "-", *options, "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    expect(done.returncode == 0, f"nmap ended with {done.returncode}: {done.stderr[-300:]}")
    tree = xml.etree.ElementTree.fromstring(done.stdout)
    return {script.get("id"): script.get("output") for script in tree.iter("script")}


@check("scanners.nmap", 600)
def nmap(world):
    """SEC-relay-a: a stranger's scan hangs and breaks nothing, finds no user, and no open relay."""
    secured = Secured(world)
    relay = secured.relay
    ports = {"plain": relay.port, "starttls": secured.starttls, "implicit": secured.implicit}
    said = {}
    for name, port in ports.items():
        brute = ["--script-args", "brute.firstonly=true,brute.guesses=5,unpwdb.timelimit=20s"]
        said[name] = scan(port, SCRIPTS, "-sV", *brute)
        commands = said[name].get("smtp-commands", "")
        wanted = ["relay.test.example", "PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"]
        missing = [word for word in wanted if word not in commands]
        expect(not missing, f"{name}: smtp-commands doesn't see {missing}: {commands}")
        offered = commands.split(" HELP")[0]
        expect(("STARTTLS" in offered) == (name == "starttls"), f"{name}: smtp-commands says {commands}")
        open_relay = said[name].get("smtp-open-relay", "")
        expect(re.search("doesn't seem to be an open relay|isn't an open relay", open_relay),
               f"{name}: smtp-open-relay says {open_relay!r}")
        users = said[name].get("smtp-enum-users", "")
        expect("root" not in users, f"{name}: smtp-enum-users found {users!r}")
        brute = said[name].get("smtp-brute", "")
        expect("Valid credentials" not in brute, f"{name}: smtp-brute says {brute!r}")
        for script in SCRIPTS:
            if "vuln" in script:
                output = said[name].get(script, "")
                expect("VULNERABLE" not in output.replace("NOT VULNERABLE", ""), f"{name}: {script}: {output}")
    expect(not secured.sink.records(), "a scanner's mail was relayed")
    return f"{sum(map(len, said.values()))} verdicts on {len(ports)} listeners"


@check("scanners.nmap_from_our_network", 120)
def from_our_network(world):
    """To one of our own devices everything is open, as it must be; the relay stands, and takes the next mail."""
    secured = Secured(world, top="")
    said = scan(secured.relay.port, ["smtp-commands", "smtp-enum-users", "smtp-ntlm-info"])
    expect("PIPELINING" in said.get("smtp-commands", ""), f"{said}")
    message = mail.alert(1, 1000, "after", 1, world.seed)
    with secured.connect() as client:
        client.login(USER, PASSWORD)
        client.sendmail(message.sender, message.recipients, message.data)
    secured.judge([message], ["ESMTPSA"])
    return "and mail goes"
