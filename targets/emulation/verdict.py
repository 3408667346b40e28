"""What has become of the mail after power cuts: all that was accepted has arrived, as it was sent."""

import kill
import mail
from checks import expect


def verdict(clients, cuts, sink, *, has_failing_disk=False):
    """Ends the clients' load, waits for the rest, and prints what there is to be known. `cuts` says how many there were.

    A disk that fails before its power does may hold a message all the same whose sync it refused.
    """
    for client in clients:
        client.join(60)
    accepted = [message for client in clients for message in client.accepted]
    unsent = {message.sender for client in clients for message in client.unsent}
    expect(len(accepted) >= cuts, f"only {len(accepted)} messages were accepted: no load")
    sink.wait_for(accepted, 180)
    sink.wait_quiet(5, 60)
    records = sink.records()
    copies = kill.answered_copies(records)
    owed = [(message.sender, to) for message in accepted for to in message.recipients]
    lost = {sender for sender, to in owed if (sender, to) not in copies}
    wanted = {message.sender: message for message in accepted}
    changed = [
        record.sender for record in records
        if record.sender in wanted and mail.difference(wanted[record.sender], sink.data(record))
    ]  # fmt: skip
    ghosts = {record.sender for record in records} & unsent
    print(f"messages acknowledged: {len(accepted)}")
    print(f"messages delivered: {len(wanted.keys() - lost)}")
    print(f"copies beyond the first, by recipient: {sum(len(copies[key]) - 1 for key in owed if key in copies)}")
    print(f"messages lost: {len(lost)}")
    expect(not lost, f"lost: {sorted(lost)[:3]}")
    expect(has_failing_disk or not ghosts, f"arrived although refused or never sent whole: {sorted(ghosts)[:3]}")
    expect(not changed, f"arrived changed: {changed[:3]}")
