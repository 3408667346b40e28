//! Mail data on its way into a draft (RFC 5321 4.1.1.4).
//!
//! A refusal gives the draft up at once and is kept until the true end of the mail data, where it becomes the
//! one reply: what a client goes on to send is never taken for commands.

use crate::buffer::Buffer;
use crate::config::{self, Config};
use crate::limits::HOPS_MAX;
use crate::smtp::mail_data::{BareLf, Fault, MailData, Part};
use crate::smtp::reply::{self, Reply};
use crate::spool::{Device, Draft, Refusal, Store};
use crate::time::{Duration, Instant};

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
    recipients: u16,
    began: Instant,
    progress_octets: u64,
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
    pub(super) anything: bool,
    /// Enough of them for progress.
    pub(super) progress: bool,
    /// The end of the mail data is among them.
    pub(super) end: bool,
}

impl Data {
    pub(super) fn new(draft: Draft, recipients: u16, began: Instant, config: &Config) -> Self {
        let bare_lf = match config.quirks.bare_lf {
            config::BareLf::Repair => BareLf::Repair,
            config::BareLf::Refuse => BareLf::Refuse,
        };
        Self {
            sink: Sink::Draft(draft),
            mail_data: MailData::new(bare_lf),
            recipients,
            began,
            progress_octets: 0,
        }
    }

    /// Takes what the input has of the mail data, whose limit is `octets_max`.
    pub(super) fn read<D: Device>(
        &mut self,
        input: &mut Buffer,
        spool: &mut Store<D>,
        octets_max: u64,
    ) -> Heard {
        let mut heard = Heard::default();
        let mut taken = 0;
        // Each pass takes octets or is the last.
        loop {
            let (octets, part) = self.mail_data.next(&input.octets()[taken..]);
            taken += octets;
            match part {
                Some(Part::Run(run)) => {
                    self.progress_octets += run.len() as u64;
                    if self.mail_data.hops() > HOPS_MAX {
                        self.sink.refuse(reply::C554_LOOP, spool);
                    } else if self.mail_data.octets() > octets_max {
                        self.sink.refuse(reply::C552_TOO_LARGE, spool);
                    } else {
                        self.sink.append(run, spool);
                    }
                }
                Some(Part::Fault(Fault::BareCr)) => self.sink.refuse(reply::C554_BARE_CR, spool),
                Some(Part::Fault(Fault::BareLf)) => self.sink.refuse(reply::C554_BARE_LF, spool),
                Some(Part::End) => {
                    heard.end = true;
                    break;
                }
                None if octets == 0 => break,
                None => {}
            }
        }
        input.consume(taken);
        heard.anything = taken > 0;
        heard.progress = heard.end || self.progress_octets >= PROGRESS_OCTETS;
        if heard.progress {
            self.progress_octets = 0;
        }
        heard
    }

    /// When the mail data must have ended, as far as it has come.
    pub(super) fn deadline(&self) -> Instant {
        self.began + DATA_GRACE + Duration::from_s(self.mail_data.octets() / DATA_OCTETS_A_S_MIN)
    }

    /// Octets of the message so far.
    pub(super) fn octets(&self) -> u64 {
        self.mail_data.octets()
    }

    /// Recipients of the message.
    pub(super) fn recipients(&self) -> u16 {
        self.recipients
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
        Refusal::NeverFits => reply::C552_TOO_LARGE,
        Refusal::TooManyRecipients => reply::C452_TOO_MANY_RECIPIENTS,
        Refusal::Failing => reply::C451_SPOOL_FAILING,
    }
}
