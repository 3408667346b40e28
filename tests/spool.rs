//! What the spool promises while nothing fails: room, limits, order, clock, and the file that it lives in.
//!
//! Requirements S-4.1.1.4-e, S-4.5.3.1-c, C-4.5.4.1-g, SEC-file-a, SEC-file-b, SEC-dos-c.
mod disk;
#[path = "oracle/message.rs"]
mod message;

use std::path::{Path, PathBuf};

use disk::{Call, Choice, Disk, Effect, Fault};
use message::{Found, Shape, envelope, identify, mail_data, recipient};
use postern::limits::{QUEUED_MESSAGES, RECEIVER_SESSIONS, RECIPIENTS, SPOOL_BLOCKS, SPOOL_BLOCKS_RESERVED};
use postern::spool::{
    BlockIndex, DeviceError, Draft, MessageIndex, OpenError, Recipient, RecipientState, Recovery, Refusal,
    Settled, Start, StartError, Store, start_at,
};
use postern::time::{Duration, Instant, Tick};

/// Octets that a block adds to a message.
const CONTENT_OCTETS: u64 = 4068;

fn start(disk: &Disk, blocks: u32, now: Instant) -> Store<Disk> {
    Store::start(disk.clone(), Start { blocks, seed: 3, now }).expect("a healthy disk").0
}

fn new(blocks: u32) -> (Disk, Store<Disk>) {
    let disk = Disk::new(0);
    let store = start(&disk, blocks, Instant(0));
    (disk, store)
}

/// The whole of a message into a draft.
fn fill(store: &mut Store<Disk>, draft: &mut Draft, number: u32, shape: Shape) -> Result<(), Refusal> {
    for place in 0..shape.recipients {
        store.add_recipient(draft, &recipient(number, place))?;
    }
    mail_data(number, shape.octets).chunks(4000).try_for_each(|part| store.append(draft, part))
}

/// Accepts one message.
fn accept(store: &mut Store<Disk>, number: u32, shape: Shape) -> Result<MessageIndex, Refusal> {
    let mut draft = store.begin(&envelope(number), None)?;
    if let Err(refusal) = fill(store, &mut draft, number, shape) {
        store.discard(draft);
        return Err(refusal);
    }
    let ended = store.end(draft, Tick(7))?;
    store.commit(Instant(1));
    let receipt = store.receipt(ended)?;
    let message = store.next_committed().expect("a receipt is of a committed message");
    assert_eq!(store.facts(message).id, receipt.id());
    Ok(message)
}

fn assert_whole(store: &mut Store<Disk>, message: MessageIndex, number: u32, shape: Shape) {
    match identify(store, message) {
        Found::Whole(found, as_found) => assert_eq!((found, as_found), (number, shape)),
        Found::Damaged => panic!("m{number} can't be read"),
        Found::Mixed(what) => panic!("m{number} is mixed: {what}"),
    }
}

fn deliver(store: &mut Store<Disk>, message: MessageIndex) {
    let states = vec![RecipientState::Delivered; usize::from(store.facts(message).recipients)];
    assert_eq!(store.settle(message, &states, &[]), Ok(Settled::Removed));
}

fn octets_that_fit(store: &mut Store<Disk>) -> u64 {
    let (mut fits, mut too_large) = (0, 1 << 32);
    while too_large - fits > 1 {
        let octets = fits + (too_large - fits) / 2;
        if let Ok(draft) = store.begin(&envelope(1), Some(octets)) {
            store.discard(draft);
            fits = octets;
        } else {
            too_large = octets;
        }
    }
    fits
}

/// A recipient as long as any can be.
fn longest_recipient() -> Recipient {
    Recipient {
        forward_path: std::iter::repeat_n(b'p', 254).collect(),
        orcpt: std::iter::repeat_n(b'o', 500).collect(),
        ..recipient(1, 1)
    }
}

#[test]
fn a_declared_message_fits_once_it_has_begun() {
    for blocks in 12..40 {
        let (_, mut store) = new(blocks);
        let most = octets_that_fit(&mut store);
        for octets in [most, most.saturating_sub(1), most.saturating_sub(CONTENT_OCTETS), most / 2, 0] {
            let mut declared = store.begin(&envelope(1), Some(octets)).unwrap();
            // Somebody else takes all that was not promised.
            let mut greedy = store.begin(&envelope(2), None);
            if let Ok(draft) = &mut greedy {
                store.add_recipient(draft, &recipient(2, 0)).unwrap();
                while store.append(draft, &[b'x'; 1000]).is_ok() {}
            }
            store.add_recipient(&mut declared, &longest_recipient()).unwrap();
            for part in mail_data(1, octets as usize).chunks(777) {
                store.append(&mut declared, part).unwrap();
            }
            let ended = store.end(declared, Tick(0)).unwrap();
            store.commit(Instant(0));
            assert!(store.receipt(ended).is_ok());
            let message = store.next_committed().unwrap();
            greedy.into_iter().for_each(|draft| store.discard(draft));
            deliver(&mut store, message);
            store.commit(Instant(0) + Duration::from_s(60));
        }
        assert!(store.begin(&envelope(1), Some(most + 1)).is_err());
        assert_eq!(octets_that_fit(&mut store), most);
    }
}

#[test]
fn an_empty_spool_holds_what_it_announces_and_nothing_larger_begins() {
    for blocks in [13, 100, 1000] {
        let (_, mut store) = new(blocks);
        let most = store.message_octets_max();
        assert!(most + 3 * CONTENT_OCTETS > u64::from(blocks - 10) * CONTENT_OCTETS, "{most}");
        let shape = Shape { octets: most as usize, recipients: 1 };
        let mut draft = store.begin(&envelope(4), Some(most)).unwrap();
        fill(&mut store, &mut draft, 4, shape).unwrap();
        let ended = store.end(draft, Tick(0)).unwrap();
        store.commit(Instant(0));
        assert!(store.receipt(ended).is_ok());
        let message = store.next_committed().unwrap();
        assert_whole(&mut store, message, 4, shape);
        assert_eq!(store.begin(&envelope(5), Some(most / 2)).err(), Some(Refusal::Full));
        let far_more = Some(u64::MAX);
        assert_eq!(store.begin(&envelope(5), far_more).err(), Some(Refusal::NeverFits));
    }
}

#[test]
fn a_full_spool_refuses_and_has_room_again_after_a_sync() {
    let (_, mut store) = new(16);
    let shape = Shape { octets: 100, recipients: 1 };
    let messages: Vec<_> = (0..6).map(|number| accept(&mut store, number, shape).unwrap()).collect();
    assert_eq!(accept(&mut store, 6, shape).err(), Some(Refusal::Full));
    // Results can still be written down: one failed recipient keeps its message, and that needs a block.
    let failed = [RecipientState::Failed { reply: 0 }];
    let reply = postern::spool::KeptReply { code: 550, ..Default::default() };
    for message in &messages[1..] {
        assert_eq!(store.settle(*message, &failed, std::slice::from_ref(&reply)), Ok(Settled::Failed));
    }
    assert_eq!(accept(&mut store, 6, shape).err(), Some(Refusal::Full));
    deliver(&mut store, messages[0]);
    let message = accept(&mut store, 6, shape).unwrap();
    assert_whole(&mut store, message, 6, shape);
    assert_eq!(store.replies(messages[1]).unwrap()[0].code, 550);
}

#[test]
fn drafts_messages_and_recipients_have_their_limits() {
    let blocks = QUEUED_MESSAGES as u32 + 12;
    assert!(blocks as usize <= SPOOL_BLOCKS);
    let (_, mut store) = new(blocks);
    let drafts: Vec<_> = (0..RECEIVER_SESSIONS).map(|_| store.begin(&envelope(1), None).unwrap()).collect();
    assert_eq!(store.begin(&envelope(1), None).err(), Some(Refusal::Full));
    drafts.into_iter().for_each(|draft| store.discard(draft));

    let shape = Shape { octets: 10, recipients: 1 };
    let first = accept(&mut store, 0, shape).unwrap();
    for number in 1..QUEUED_MESSAGES as u32 {
        assert!(accept(&mut store, number, shape).is_ok(), "{number}");
    }
    assert_eq!(accept(&mut store, 1, shape).err(), Some(Refusal::Full));
    deliver(&mut store, first);
    store.commit(Instant(0) + Duration::from_s(60));
    assert!(accept(&mut store, 1, shape).is_ok());
    assert_eq!(store.messages().count(), QUEUED_MESSAGES);
}

#[test]
fn all_recipients_that_a_message_may_have_are_kept_and_settled() {
    let (disk, mut store) = new(100);
    let shape = Shape { octets: 9000, recipients: RECIPIENTS as u16 };
    let mut draft = store.begin(&envelope(3), None).unwrap();
    for place in 0..shape.recipients {
        store.add_recipient(&mut draft, &recipient(3, place)).unwrap();
    }
    assert_eq!(store.add_recipient(&mut draft, &recipient(3, 9999)), Err(Refusal::TooManyRecipients));
    store.append(&mut draft, &mail_data(3, shape.octets)).unwrap();
    let ended = store.end(draft, Tick(0)).unwrap();
    store.commit(Instant(0));
    assert!(store.receipt(ended).is_ok());
    let message = store.next_committed().unwrap();
    assert_whole(&mut store, message, 3, shape);
    let free = store.blocks_free();
    let mut states = vec![RecipientState::Waiting; RECIPIENTS];
    for group in 1..=4 {
        states[..RECIPIENTS * group / 5].fill(RecipientState::Delivered);
        assert_eq!(store.settle(message, &states, &[]), Ok(Settled::Waiting));
        store.commit(Instant(group as u64 * 60_000));
    }
    let mut store = start(&disk, 100, Instant(0));
    let message = store.messages().next().unwrap();
    let mut found = vec![RecipientState::Waiting; RECIPIENTS];
    store.states(message, &mut found).unwrap();
    assert_eq!(found, states);
    assert_eq!(usize::from(store.facts(message).waiting), RECIPIENTS - RECIPIENTS * 4 / 5);
    assert_whole(&mut store, message, 3, shape);
    assert_eq!(store.blocks_free(), free);
    deliver(&mut store, message);
    store.commit(Instant(60_000));
    assert_eq!(store.blocks_free(), 98);
}

#[test]
fn five_mebibytes_to_200_recipients_fit_in_8_mebibytes() {
    let (disk, mut store) = new(2048);
    let shape = Shape { octets: 5 << 20, recipients: 200 };
    accept(&mut store, 1, shape).unwrap();
    let mut store = start(&disk, 2048, Instant(0));
    let message = store.messages().next().unwrap();
    assert_whole(&mut store, message, 1, shape);
    let small = Shape { octets: 2000, recipients: 1 };
    let other = accept(&mut store, 2, small).unwrap();
    deliver(&mut store, message);
    store.commit(Instant(60_000));
    assert_eq!(store.blocks_free(), 2048 - 2 - 1);
    assert_whole(&mut store, other, 2, small);
}

#[test]
fn one_sync_makes_a_whole_turn_durable() {
    let (disk, mut store) = new(64);
    let shape = Shape { octets: 2000, recipients: 1 };
    accept(&mut store, 0, shape).unwrap();
    let before = disk.calls();
    let mut ended = Vec::new();
    for number in 1..=RECEIVER_SESSIONS.min(16) as u32 {
        let mut draft = store.begin(&envelope(number), Some(2000)).unwrap();
        fill(&mut store, &mut draft, number, shape).unwrap();
        ended.push(store.end(draft, Tick(0)).unwrap());
    }
    let written = disk.calls();
    // An ordinary alert is one block, written once, with nothing read.
    assert_eq!(written.writes - before.writes, ended.len() as u64);
    assert_eq!((written.reads, written.syncs), (before.reads, before.syncs));
    store.commit(Instant(1));
    assert_eq!(disk.calls().syncs - before.syncs, 1);
    let count = ended.len();
    ended.into_iter().for_each(|ended| assert!(store.receipt(ended).is_ok()));
    assert_eq!(std::iter::from_fn(|| store.next_committed()).count(), count);
    let after = disk.calls();
    store.commit(Instant(2));
    assert_eq!(disk.calls(), after, "nothing waits for a sync");
}

#[test]
fn blocks_are_taken_lowest_first() {
    let (disk, mut store) = new(32);
    let shape = Shape { octets: 100, recipients: 1 };
    let messages: Vec<_> = (0..5).map(|number| accept(&mut store, number, shape).unwrap()).collect();
    deliver(&mut store, messages[3]);
    deliver(&mut store, messages[1]);
    store.commit(Instant(60_000));
    for expected in [3, 5, 7] {
        let mut draft = store.begin(&envelope(9), None).unwrap();
        fill(&mut store, &mut draft, 9, shape).unwrap();
        let ended = store.end(draft, Tick(0)).unwrap();
        assert_eq!(disk.written_since_sync(), [BlockIndex(expected)]);
        store.commit(Instant(60_001));
        assert!(store.receipt(ended).is_ok());
    }
}

#[test]
fn the_spool_grows_and_shrinks_at_a_start() {
    let (disk, mut store) = new(16);
    let shape = Shape { octets: 100, recipients: 1 };
    accept(&mut store, 0, shape).unwrap();
    let mut store = start(&disk, 40, Instant(0));
    assert_eq!((store.blocks(), store.blocks_free()), (40, 37));
    let large = Shape { octets: 20 * CONTENT_OCTETS as usize, recipients: 1 };
    let beyond = accept(&mut store, 1, large).unwrap();
    let mut store = start(&disk, 16, Instant(0));
    assert_eq!(store.blocks(), 40, "a message lies beyond");
    assert_whole(&mut store, beyond, 1, large);
    deliver(&mut store, beyond);
    store.commit(Instant(60_000));
    let store = start(&disk, 16, Instant(0));
    assert_eq!((store.blocks(), store.blocks_free(), store.messages().count()), (16, 13, 1));
    assert_eq!(postern::spool::Device::blocks(&disk), 16);
    let too_large = Start { blocks: SPOOL_BLOCKS as u32 + 1, seed: 1, now: Instant(0) };
    let refused = Store::start(disk.clone(), too_large).err();
    assert_eq!(refused, Some(StartError::TooLarge(SPOOL_BLOCKS as u32 + 1)));
}

/// What fills the smaller spool to its last block would leave no room to write down what becomes of it.
#[test]
fn the_spool_shrinks_when_the_reserve_is_left() {
    const SMALLER: u32 = 24;
    let (disk, mut store) = new(40);
    let shape = Shape { octets: 100, recipients: 2 };
    let messages: Vec<_> = (0..SMALLER - 2).map(|body| accept(&mut store, body, shape)).collect();
    let count = messages.iter().flatten().count();
    let mut store = start(&disk, SMALLER, Instant(0));
    assert_eq!((store.blocks(), store.messages().count()), (40, count));
    let first = store.messages().next().unwrap();
    let half = [RecipientState::Delivered, RecipientState::Waiting];
    assert_eq!(store.settle(first, &half, &[]), Ok(Settled::Waiting));
    for left in (0..count).rev() {
        let message = store.messages().next().unwrap();
        deliver(&mut store, message);
        store.commit(Instant(60_000));
        store.commit(Instant(120_000));
        drop(store);
        store = start(&disk, SMALLER, Instant(0));
        let is_room = left <= SMALLER as usize - SPOOL_BLOCKS_RESERVED;
        assert_eq!(store.blocks(), if is_room { SMALLER } else { 40 }, "{left} messages");
        assert!(store.blocks_free() >= 8);
    }
}

#[test]
fn deadlines_come_for_frees_and_hourly_while_mail_waits() {
    let (disk, mut store) = new(32);
    store.commit(Instant(1000));
    assert_eq!(store.deadline(), None, "an empty spool needs nothing");
    let shape = Shape { octets: 100, recipients: 1 };
    let message = accept(&mut store, 0, shape).unwrap();
    let hour = Duration::from_min(60);
    let mut now = Instant(1);
    for _ in 0..3 {
        while store.deadline().is_some_and(|deadline| deadline < now + Duration::from_min(30)) {
            now = store.deadline().unwrap();
            store.commit(now);
        }
        let writes = disk.calls().writes;
        now = store.deadline().unwrap();
        assert!(now <= Instant(now.0) + hour);
        store.commit(now);
        assert_eq!(disk.calls().writes, writes + 1, "the clock alone");
    }
    assert!(now.0 > 2 * hour.0 && now.0 < 4 * hour.0, "{now:?}");
    store.commit(now + Duration(5000));
    let now = now + Duration(5000);
    deliver(&mut store, message);
    let deadline = store.deadline().unwrap();
    assert!(deadline.since(now) >= Duration::from_s(1) && deadline.since(now) <= Duration::from_s(5));
    store.commit(deadline);
    assert_eq!(store.deadline(), None);
    assert!(disk.fates().is_empty());
}

#[test]
fn the_queue_clock_goes_on_and_never_back() {
    let (disk, mut store) = new(32);
    let shape = Shape { octets: 100, recipients: 1 };
    accept(&mut store, 0, shape).unwrap();
    let mut last = Tick(0);
    let mut boot = Instant(500);
    for _ in 0..5 {
        let mut store = start(&disk, 32, boot);
        assert!(store.tick(boot) >= last, "{:?} after {last:?}", store.tick(boot));
        assert_eq!(store.tick(boot + Duration(77)), store.tick(boot) + Duration(77));
        // Ninety minutes with mail: the hour is written down, the rest is lost with the power.
        let later = boot + Duration::from_min(90);
        store.commit(boot + Duration::from_min(61));
        store.commit(later);
        last = store.tick(boot + Duration::from_min(61));
        store.commit(later + Duration::from_s(10));
        disk.power_cut(Choice::Oldest);
        boot = Instant(boot.0 / 2);
    }
    assert!(last >= Tick(5 * 60 * 60_000));
}

#[test]
fn the_turn_that_mends_the_disk_leaves_a_note_of_the_queue_clock() {
    let (disk, mut store) = new(32);
    let shape = Shape { octets: 100, recipients: 1 };
    accept(&mut store, 0, shape).unwrap();
    disk.fail(Fault { call: Call::Sync, skip: 0, times: 1, error: DeviceError::Io, effect: Effect::Whole });
    assert_eq!(accept(&mut store, 1, shape), Err(Refusal::Failing));
    assert!(store.is_failing());
    // Nothing turned for ninety minutes; what follows the mending is a sleep of the board, then a power cut.
    let now = Instant(1) + Duration::from_min(90);
    store.commit(now);
    assert!(!store.is_failing());
    disk.power_cut(Choice::Newest);
    let boot = Instant(0);
    assert!(start(&disk, 32, boot).tick(boot) >= store.tick(now));
}

/// A folder of its own for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("postern-spool-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("it was made");
        let names = entries.map(|entry| entry.expect("it is listed").file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Result<Recovery, OpenError> {
    let start = Start { blocks: 24, seed: 3, now: Instant(0) };
    start_at(path, true, start).map(|(_, recovery)| recovery)
}

#[test]
fn a_foreign_file_is_kept_aside_octet_by_octet() {
    let folder = Folder::new("foreign");
    let path = folder.0.join("spool");
    let mut tail_behind_zeros = vec![0; 8192];
    tail_behind_zeros.extend(b"hello\n");
    let foreign: [&[u8]; 6] = [
        b"x",
        b"a letter to a friend\n",
        &[0x5a; 4096],
        &[7; 10_000],
        &tail_behind_zeros,
        &tail_behind_zeros[4096..],
    ];
    for (count, octets) in foreign.iter().enumerate() {
        std::fs::write(&path, octets).unwrap();
        assert!(open(&path).unwrap().is_new);
        let aside = folder.0.join(format!("spool.aside-{}", count + 1));
        assert_eq!(std::fs::read(aside).unwrap(), *octets);
    }
    assert_eq!(folder.names().len(), 7);
    assert!(!open(&path).unwrap().is_new, "the new one is a spool");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert!(open(&path).unwrap().is_new, "nothing is lost with an empty file");
}

#[test]
fn a_cut_or_other_file_is_told_apart() {
    let folder = Folder::new("other");
    let path = folder.0.join("spool");
    open(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len(), 24 * 4096);
    for octets in [5, 4096 * 3 + 17, 4096 * 24 - 1] {
        std::fs::write(&path, &whole[..octets]).unwrap();
        let recovery = open(&path).unwrap();
        // A part of the first block is no spool any more; it was kept aside.
        assert_eq!(recovery.is_new, octets < 4096);
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 24 * 4096);
    let start = Start { blocks: 24, seed: 3, now: Instant(0) };
    let (_store, _) = start_at(&path, true, start).unwrap();
    assert!(matches!(open(&path), Err(OpenError::InUse)));
    assert!(matches!(open(&folder.0), Err(OpenError::NotAFile)));
    assert!(matches!(open(&folder.0.join("no/folder")), Err(OpenError::Io(_))));
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(open(&link).is_err(), "SEC-path-a: a link is not followed");
}

#[test]
fn a_file_system_in_memory_is_refused() {
    let path = Path::new("/dev/shm").join(format!("postern-spool-{}", std::process::id()));
    let start = Start { blocks: 24, seed: 3, now: Instant(0) };
    if !Path::new("/dev/shm").is_dir() {
        return;
    }
    assert!(matches!(start_at(&path, false, start), Err(OpenError::Volatile)));
    let _ = std::fs::remove_file(&path);
}
