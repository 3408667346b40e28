"""Notices of failure (RFC 3464), as the email package of Python's standard library reads them."""

import email
import email.policy
import email.utils
import re

import load
import mail
from checks import check, expect, free_port
from relay import Relay
from sink import Sink

RELAY = "relay.test.example"
ADMIN = "admin@test.example"


def accepted(relay, message):
    reply = load.Session(relay.port).transaction(message)
    expect(reply.code == 250, f"not accepted: {reply.code} {reply.text}")
    return reply.text.split()[-1]


def all_notices(sink, count):
    """The first `count` notices, taken apart; they must come, and no more."""
    expect(sink.wait_until(lambda: len(sink.notices()) >= count, 20), f"{len(sink.notices())} notices")
    sink.wait_quiet(1)
    expect(len(sink.notices()) == count, f"{len(sink.notices())} notices, not {count}")
    return [(record, parsed(sink.data(record))) for record in sink.notices()]


def parsed(octets):
    """One notice, its form judged; the fields of the whole, those of each recipient, the returned header."""
    for line in octets.split(b"\r\n"):
        expect(len(line) <= 998 and not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line), f"a line: {line[:80]!r}")
    notice = email.message_from_bytes(octets, policy=email.policy.default)
    defects = [d for part in notice.walk() for d in part.defects]
    expect(not defects, f"defects: {defects}")
    expect(notice.get_content_type() == "multipart/report", notice.get_content_type())
    expect(notice.get_param("report-type") == "delivery-status", "no report-type")
    expect(notice["Auto-Submitted"] == "auto-replied", "no Auto-Submitted")
    expect(notice["MIME-Version"] == "1.0", "no MIME-Version")
    expect(notice["From"].addresses[0].addr_spec == f"MAILER-DAEMON@{RELAY}", f"From: {notice['From']}")
    expect(notice["Date"].datetime is not None, f"Date: {notice['Date']}")
    expect(notice["Subject"], "no Subject")
    expect(re.fullmatch(rf"<[^@ ]+@{RELAY}>", notice["Message-ID"]), f"Message-ID: {notice['Message-ID']}")
    parts = list(notice.iter_parts())
    types = [part.get_content_type() for part in parts]
    expect(types == ["text/plain", "message/delivery-status", "text/rfc822-headers"], f"parts: {types}")
    whole, *recipients = parts[1].get_payload()
    expect(whole["Reporting-MTA"] == f"dns; {RELAY}", f"Reporting-MTA: {whole['Reporting-MTA']}")
    email.utils.parsedate_to_datetime(whole["Arrival-Date"])
    for recipient in recipients:
        expect(recipient["Action"] == "failed", f"Action: {recipient['Action']}")
        expect(re.fullmatch(r"5\.\d{1,3}\.\d{1,3}", recipient["Status"]), f"Status: {recipient['Status']}")
        expect(recipient["Remote-MTA"] == "dns; [127.0.0.1]", f"Remote-MTA: {recipient['Remote-MTA']}")
        names = set(recipient.keys()) - {"Original-Recipient"}
        wanted = {"Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"}
        expect(names == wanted, f"fields: {sorted(names)}")
    returned = email.message_from_string(parts[2].get_content(), policy=email.policy.default)
    return notice, whole, recipients, returned


def finals(recipients):
    return [recipient["Final-Recipient"].removeprefix("rfc822; ") for recipient in recipients]


@check("notices.report", 90)
def report(world):
    """One, several, and partly failed recipients, and a refusal of the data (B-3464-a to -g, B-3834-a)."""
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    failed = {}
    for number, (bad, good) in enumerate([(1, 0), (5, 0), (2, 3), (120, 30)]):
        message = mail.alert(number, 30_000, "told", good, world.seed)
        refused = [f"refused{number}.{n}@test.example" for n in range(bad)]
        message.recipients = refused + message.recipients
        failed[message.sender] = refused
        accepted(relay, message)
    whole = mail.alert(9, 500, "baddata", 3, world.seed)
    failed[whole.sender] = whole.recipients
    accepted(relay, whole)
    found = all_notices(sink, len(failed))
    for record, (notice, _, recipients, returned) in found:
        (to,) = record.recipients
        expect(notice["To"].addresses[0].addr_spec == to, f"To: {notice['To']}")
        expect(finals(recipients) == failed[to], f"{to} was told of {finals(recipients)[:3]}")
        code = "smtp; 554 5.6.0 not this" if to == whole.sender else "smtp; 550 5.1.1 no such mailbox"
        codes = {recipient["Diagnostic-Code"] for recipient in recipients}
        expect(codes == {code}, f"Diagnostic-Code: {codes}")
        expect(returned["From"].addresses[0].addr_spec == to, f"the header of {to}: {returned.items()}")
        expect(not returned.get_payload(), "the body was returned")
        expect(record.octets < 64 * 1024, f"{record.octets} octets")
    # The sink has a notice before the relay knows that it has: an end in between sends it again.
    recorded = lambda: relay.log().count(" bounced id=") >= len(failed)  # noqa: E731
    expect(sink.wait_until(recorded, 20), f"not all is recorded as told: {relay.log_tail()}")
    relay.kill()
    relay.start()
    sink.wait_quiet(2)
    expect(len(sink.notices()) == len(failed), "a restart sent notices again")
    expect(len(re.findall(r" bounced id=", relay.log())) == len(failed), relay.log_tail())
    return f"{len(failed)} notices about {sum(map(len, failed.values()))} recipients"


@check("notices.hostile", 120)
def hostile(world):
    """A reply with control octets, and the names of fields and parts, changes no notice's form (B-3464-f)."""
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    refusals = [
        "550 5.1.1 \x1b[31mred\x1b[0m \x07\xe9 end",
        "550-first\r\n550 X-Injected: yes",
        "550 a\rX-Injected: yes\r\r",
        "550 --=_notice-1-0--",
        f"550 {'word ' * 90}",
        f"550 {'x' * 480}",
        "550",
    ]
    for number, refusal in enumerate(refusals):
        sink.behave(refusal=refusal)
        message = mail.alert(number, 300, "hostile", 0, world.seed)
        message.recipients = ["refused@test.example"]
        accepted(relay, message)
        all_notices(sink, number + 1)
    return f"{len(refusals)} replies"


@check("notices.nowhere_else")
def nowhere_else(world):
    """Reverse-paths that only the site knows go to admin; the null one, too, but for a notice; where the smarthost
    refuses the null reverse-path, the notice comes from admin.
    """
    sink = Sink(world, free_port()).start()
    relay = Relay(world, sink.port).start()
    for sender in ["camera@localhost", "camera@nas.lan", ""]:
        message = mail.Message(sender, ["refused@test.example"], b"Subject: x\r\n\r\n")
        accepted(relay, message)
    notice = b"Subject: x\r\nAuto-Submitted: auto-replied\r\n\r\n"
    accepted(relay, mail.Message("", ["refused@test.example"], notice))
    found = all_notices(sink, 3)
    expect(all(record.recipients == [ADMIN] for record, _ in found), "not to admin")
    sink.behave(no_null=True)
    message = mail.Message("ups@test.example", ["refused@test.example"], b"Subject: x\r\n\r\n")
    accepted(relay, message)
    from_admin = lambda: [record for record in sink.records() if record.sender == ADMIN]  # noqa: E731
    expect(sink.wait_until(from_admin, 20), "no notice from admin")
    (record,) = from_admin()
    expect(record.recipients == ["ups@test.example"], f"to {record.recipients}")
    parsed(sink.data(record))
    sink.wait_quiet(1)
    expect(len(sink.all_records()) == 4, "more came")
    return "4 notices, and none about a notice"
