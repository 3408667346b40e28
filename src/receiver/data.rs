//! Mail data on its way into a draft: behind DATA (RFC 5321 4.1.1.4), or in chunks (RFC 3030 2).
//!
//! A refusal gives the draft up at once and is kept until the true end of the mail data, where it becomes the
//! one reply: what a client goes on to send is never taken for commands.

use core::fmt::Write as _;

use super::submission::{FIELDS_OCTETS_MAX, Fields, Header, Lacks, Piece};
use crate::buffer::Buffer;
use crate::config::{self, Config};
use crate::limits::{HOPS_MAX, PATH_OCTETS_MAX};
use crate::smtp::mail_data::{BareLf, Fault, MailData, Part};
use crate::smtp::quirk::{Quirk, Quirks};
use crate::smtp::reply::{self, Reply};
use crate::spool::{Device, Draft, Refusal, Store};
use crate::time::{Duration, Instant, Wall};

/// What the mail data of a message may take however slowly it comes.
pub const DATA_GRACE: Duration = Duration::from_min(10);
/// Octets that must come in each second beyond [`DATA_GRACE`], on average: a client that drips holds no place
/// for ever.
pub const DATA_OCTETS_A_S_MIN: u64 = 256;
/// Octets of mail data that count as progress, when the session longest without any is looked for.
pub const PROGRESS_OCTETS: u64 = 512;

/// A message whose mail data is being read.
#[derive(Debug)]
pub(super) struct Data {
    sink: Sink,
    mail_data: MailData,
    header: Header,
    recipients: u16,
    refuses_long_lines: bool,
    arrival: Wall,
    reverse_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
    began: Instant,
    progress_octets: u64,
}

/// What the mail data belongs to.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) draft: Draft,
    pub(super) recipients: u16,
    /// Of the message that lacks a From; empty for the null one.
    pub(super) reverse_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
    pub(super) arrival: Wall,
    /// The client is one of ours: what its message lacks is added.
    pub(super) is_completed: bool,
}

/// Where the octets go.
#[derive(Debug)]
pub(super) enum Sink {
    Draft(Draft),
    /// Nowhere; this is the reply at the end.
    Refused(&'static Reply),
}

/// What a read of mail data has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Octets were taken.
    pub(super) octets: usize,
    /// Enough of them for progress.
    pub(super) progress: bool,
    /// The end of the mail data is among them.
    pub(super) end: bool,
}

impl Data {
    pub(super) fn new(subject: Subject, began: Instant, config: &Config) -> Self {
        let bare_lf = match config.quirks.bare_lf {
            config::BareLf::Repair => BareLf::Repair,
            config::BareLf::Refuse => BareLf::Refuse,
        };
        Self {
            sink: Sink::Draft(subject.draft),
            mail_data: MailData::new(bare_lf),
            header: Header::new(subject.is_completed),
            recipients: subject.recipients,
            refuses_long_lines: !config.quirks.tolerated.contains(Quirk::LongLines),
            arrival: subject.arrival,
            reverse_path: subject.reverse_path,
            began,
            progress_octets: 0,
        }
    }

    /// Takes what the input has of the mail data behind DATA, whose limit is `octets_max`.
    pub(super) fn read<D: Device>(
        &mut self,
        input: &mut Buffer,
        spool: &mut Store<D>,
        config: &Config,
        octets_max: u64,
    ) -> Heard {
        let mut taken = 0;
        // Each pass takes octets or is the last.
        let is_end = loop {
            let (octets, part) = self.mail_data.next(&input.octets()[taken..]);
            taken += octets;
            match part {
                Some(Part::End) => break true,
                Some(part) => self.take(part, spool, config, octets_max),
                None if octets == 0 => break false,
                None => {}
            }
        };
        if is_end {
            self.end(spool, config);
        }
        self.heard(input, taken, is_end)
    }

    /// The same for what the input has of a chunk, of which `left` octets are still to come.
    pub(super) fn read_chunk<D: Device>(
        &mut self,
        input: &mut Buffer,
        spool: &mut Store<D>,
        config: &Config,
        (octets_max, left): (u64, u64),
    ) -> Heard {
        let there = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut taken = 0;
        // Each pass takes octets, or tells a fault that it doesn't tell twice, or is the last.
        loop {
            let (octets, part) = self.mail_data.next_of_chunk(&input.octets()[taken..there]);
            taken += octets;
            match part {
                Some(part) => self.take(part, spool, config, octets_max),
                None if taken == there => break,
                None => {}
            }
        }
        self.heard(input, taken, taken as u64 == left)
    }

    /// The last chunk is over.
    pub(super) fn end_of_chunks<D: Device>(&mut self, spool: &mut Store<D>, config: &Config) {
        if let Some(part) = self.mail_data.end_of_chunks() {
            self.take(part, spool, config, u64::MAX);
        }
        self.end(spool, config);
    }

    fn heard(&mut self, input: &mut Buffer, taken: usize, is_end: bool) -> Heard {
        input.consume(taken);
        self.progress_octets += taken as u64;
        let progress = self.progress_octets >= PROGRESS_OCTETS;
        if progress {
            self.progress_octets = 0;
        }
        Heard { octets: taken, progress, end: is_end }
    }

    fn take<D: Device>(&mut self, part: Part, spool: &mut Store<D>, config: &Config, octets_max: u64) {
        match part {
            Part::Run(run) => {
                if self.mail_data.hops() > HOPS_MAX {
                    self.sink.refuse(reply::C554_LOOP, spool);
                } else if self.mail_data.octets() > octets_max {
                    self.sink.refuse(reply::C552_TOO_LARGE, spool);
                } else if self.refuses_long_lines && self.mail_data.has_long_lines() {
                    self.sink.refuse(reply::C554_LONG_LINE, spool);
                } else {
                    self.store(Some(run), spool, config);
                }
            }
            Part::Fault(Fault::BareCr) => self.sink.refuse(reply::C554_BARE_CR, spool),
            Part::Fault(Fault::BareLf) => self.sink.refuse(reply::C554_BARE_LF, spool),
            Part::End => unreachable!("the end is taken by the reader"),
        }
    }

    fn end<D: Device>(&mut self, spool: &mut Store<D>, config: &Config) {
        self.store(None, spool, config);
    }

    /// Stores a run, or what is missing at the end.
    fn store<D: Device>(&mut self, run: Option<&[u8]>, spool: &mut Store<D>, config: &Config) {
        let Self { sink, header, reverse_path, arrival, .. } = self;
        let mut store = |piece: Piece| match piece {
            Piece::Octets(octets) => sink.append(octets, spool),
            Piece::Fields(lacks) => sink.append_fields(lacks, reverse_path, *arrival, spool, config),
        };
        match run {
            Some(run) => header.take(run, &mut store),
            None => header.end(&mut store),
        }
    }

    /// When the mail data must have ended, as far as it has come.
    pub(super) fn deadline(&self) -> Instant {
        self.began + DATA_GRACE + Duration::from_s(self.mail_data.octets() / DATA_OCTETS_A_S_MIN)
    }

    /// Octets of the message so far, as they came.
    pub(super) fn octets(&self) -> u64 {
        self.mail_data.octets()
    }

    /// Recipients of the message.
    pub(super) fn recipients(&self) -> u16 {
        self.recipients
    }

    /// The habits that were tolerated in it.
    pub(super) fn quirks(&self) -> Quirks {
        let mut quirks = Quirks::NONE;
        for (is_met, quirk) in [
            (self.mail_data.has_bare_lf(), Quirk::BareLf),
            (self.mail_data.has_long_lines() && !self.refuses_long_lines, Quirk::LongLines),
            (self.header.was_completed(), Quirk::MissingFields),
        ] {
            if is_met {
                quirks.insert(quirk);
            }
        }
        quirks
    }

    /// Why the message is refused, if it is.
    pub(super) fn refusal(&self) -> Option<&'static Reply> {
        match self.sink {
            Sink::Draft(_) => None,
            Sink::Refused(reply) => Some(reply),
        }
    }

    /// True while the message is not refused.
    pub(super) fn has_draft(&self) -> bool {
        matches!(self.sink, Sink::Draft(_))
    }

    pub(super) fn into_sink(self) -> Sink {
        self.sink
    }

    pub(super) fn discard<D: Device>(self, spool: &mut Store<D>) {
        if let Sink::Draft(draft) = self.sink {
            spool.discard(draft);
        }
    }
}

impl Sink {
    fn append<D: Device>(&mut self, run: &[u8], spool: &mut Store<D>) {
        if let Self::Draft(draft) = self
            && let Err(refusal) = spool.append(draft, run)
        {
            self.refuse(message_refusal(refusal), spool);
        }
    }

    fn append_fields<D: Device>(
        &mut self,
        lacks: Lacks,
        reverse_path: &[u8],
        arrival: Wall,
        spool: &mut Store<D>,
        config: &Config,
    ) {
        let Self::Draft(draft) = self else { return };
        let fields = Fields {
            lacks,
            arrival_unix_s: arrival.is_trusted.then_some(arrival.unix_s),
            id: spool.id_of(draft),
            hostname: &config.hostname,
            reverse_path: core::str::from_utf8(reverse_path).unwrap_or_default(),
        };
        let mut text = heapless::String::<FIELDS_OCTETS_MAX>::new();
        write!(text, "{fields}").expect("each part of the fields is bounded");
        self.append(text.as_bytes(), spool);
    }

    /// Gives the draft up; the first refusal is the one that is told.
    fn refuse<D: Device>(&mut self, reply: &'static Reply, spool: &mut Store<D>) {
        match core::mem::replace(self, Self::Refused(reply)) {
            Self::Draft(draft) => spool.discard(draft),
            earlier @ Self::Refused(_) => *self = earlier,
        }
    }
}

/// The reply to MAIL or to the end of mail data that the spool doesn't take.
pub(super) fn message_refusal(refusal: Refusal) -> &'static Reply {
    match refusal {
        Refusal::Full => reply::C452_STORAGE_FULL,
        Refusal::ShareFull => reply::C452_SHARE_FULL,
        Refusal::NeverFits => reply::C552_TOO_LARGE,
        Refusal::TooManyRecipients => reply::C452_TOO_MANY_RECIPIENTS,
        Refusal::Failing => reply::C451_SPOOL_FAILING,
    }
}
