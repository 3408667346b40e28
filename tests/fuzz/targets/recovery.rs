//! A spool with anything in it: each start comes to its end, what it finds can be read and settled, and the
//! books of the blocks are even.

use postern::spool::{
    BLOCK_OCTETS, Block, Damage, Envelope, Memory, MessageIndex, Reader, Recipient, RecipientState, Refusal,
    Start, Store,
};
use postern::time::{Duration, Instant, Tick};

use super::Input;
use super::memory::{BLOCKS, BLOCKS_MAX, at, store};

const PATCHES_MAX: usize = 40;
const CRC_AT: usize = 24;
const KIND_AT: usize = 4;
const SECTOR_OCTETS: usize = 512;
/// The kinds whose CRC covers the first sector alone.
const SHORT_KINDS: [u8; 2] = [1, 4];

/// The octets are a list of patches: which block, where, how many octets, what they become, and whether the
/// block's CRC is made right again, so that what stands behind it is reached.
pub(super) fn recovery(octets: &[u8]) {
    let mut input = Input(octets);
    let blocks = [BLOCKS, BLOCKS / 2, BLOCKS * 2, 3][usize::from(input.octet() % 4)];
    let mut disk = spool();
    for _ in 0..PATCHES_MAX {
        if input.0.is_empty() {
            break;
        }
        patch(&mut disk, &mut input);
    }
    for round in 0..2 {
        let start = Start { blocks, seed: 2, now: Instant(1000) };
        let Ok((mut store, _)) = Store::start(disk.clone(), start) else { return };
        assert_apart(&store, round);
        read_and_settle(&mut store);
        disk = store.into_device();
    }
}

fn patch(disk: &mut Memory, input: &mut Input<'_>) {
    let chosen = input.octet();
    let at = usize::from(chosen & 0x3f) % disk.blocks_mut().len();
    let from = usize::from(input.octet()) << 4 | usize::from(input.octet() & 0x0f);
    let octets = usize::from(input.octet() & 0x1f);
    let new = input.take(octets);
    let block = &mut disk.blocks_mut()[at];
    let from = from.min(BLOCK_OCTETS - new.len());
    block[from..from + new.len()].copy_from_slice(new);
    if chosen & 0x80 > 0 {
        seal(block);
    }
    if chosen & 0x40 > 0 {
        // The same block stands in a second place.
        let copy = *block;
        let other = usize::from(input.octet()) % disk.blocks_mut().len();
        disk.blocks_mut()[other] = copy;
    }
}

/// What the store's own seal does, from the format's description in `spool/layout.rs`.
fn seal(block: &mut Block) {
    let end = if SHORT_KINDS.contains(&block[KIND_AT]) { SECTOR_OCTETS } else { BLOCK_OCTETS };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..CRC_AT]);
    hasher.update(&block[CRC_AT + 4..end]);
    block[CRC_AT..CRC_AT + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// Messages of one and of three blocks, one of them settled in part, one gone.
fn spool() -> Memory {
    let mut store = store();
    for octets in [100, 9000, 300, 100] {
        let mut draft = store.begin(&envelope(), None).expect("there is room");
        for path in [&b"a@example.com"[..], b"b@example.com"] {
            let forward_path = heapless::Vec::from_slice(path).expect("a short path");
            let recipient = Recipient { forward_path, ..Recipient::default() };
            store.add_recipient(&mut draft, &recipient).expect("there is room");
        }
        store.append(&mut draft, &vec![b'x'; octets]).expect("there is room");
        let ended = store.end(draft, Tick(0)).expect("there is room");
        store.commit(Instant(1000));
        let _ = store.receipt(ended).expect("the disk works");
    }
    let messages: Vec<_> = std::iter::from_fn(|| store.next_committed()).collect();
    let states = [RecipientState::Delivered, RecipientState::Waiting];
    store.settle(messages[2], &states, &[]).expect("the disk works");
    store.settle(messages[3], &[RecipientState::Delivered; 2], &[]).expect("the disk works");
    store.commit(Instant(2000));
    store.commit(Instant(9000));
    store.into_device()
}

fn envelope() -> Envelope {
    Envelope {
        arrival: at(0).wall,
        reverse_path: heapless::Vec::from_slice(b"camera@example.org").expect("a short path"),
        ..Envelope::unread()
    }
}

/// All that a relay does with what a start has found.
fn read_and_settle(store: &mut Store<Memory>) {
    let mut reader = Reader::new();
    let mut now = Instant(1000);
    let messages: Vec<_> = store.messages().collect();
    for message in messages {
        if !store.is_live(message) || read(store, &mut reader, message).is_err() {
            store.set_aside(message);
            continue;
        }
        let states = vec![RecipientState::Delivered; usize::from(store.facts(message).recipients)];
        match store.settle(message, &states, &[]) {
            Ok(_) | Err(Refusal::Full | Refusal::Failing) => {}
            Err(refusal) => panic!("{refusal:?}"),
        }
        now = now + Duration::from_s(10);
        store.commit(now);
    }
    for _ in 0..4 {
        now = now + Duration::from_s(10);
        store.commit(now);
    }
    assert_apart(store, 0);
}

/// No block is in two places. That some are in none is what damage does: they are kept from use.
fn assert_apart(store: &Store<Memory>, round: u32) {
    let balance = store.balance();
    let held = balance.free + balance.limbo + balance.in_messages + balance.superseded + balance.in_drafts;
    assert!(held <= balance.blocks, "start {round}: {balance:?}");
}

fn read(store: &mut Store<Memory>, reader: &mut Reader, message: MessageIndex) -> Result<(), Damage> {
    let facts = store.facts(message);
    reader.open(store, message)?;
    let mut recipients = 0;
    while reader.next_recipient(store)?.is_some() {
        recipients += 1;
        assert!(recipients <= facts.octets.max(u64::from(u16::MAX)), "recipients have no end");
    }
    let mut octets = 0;
    loop {
        let run = reader.mail_data(store)?.len();
        if run == 0 {
            break;
        }
        octets += run;
        assert!(octets <= BLOCKS_MAX as usize * BLOCK_OCTETS, "mail data has no end");
        reader.consume(run);
    }
    let mut states = vec![RecipientState::Waiting; usize::from(facts.recipients)];
    store.states(message, &mut states)?;
    store.replies(message)?;
    Ok(())
}
