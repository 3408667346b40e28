//! Small pseudo-random numbers that keep many waits from ending together. No source of randomness is read
//! here: whoever owns the clock hands in the seed, so that a run can be repeated.
//!
//! Not for secrets.

/// A generator (xorshift64*) of spread waits.
#[derive(Clone, Copy, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator that starts from `seed`; any number will do.
    pub const fn new(seed: u64) -> Self {
        // The generator would stand still at zero, and near seeds would begin alike.
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
        Self(if mixed == 0 { 1 } else { mixed })
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// `span`, whatever its unit, made up to a quarter shorter or longer.
    pub const fn spread(&mut self, span: u64) -> u64 {
        let quarter = span / 4;
        let offset = self.next() % (2 * quarter + 1);
        span.saturating_sub(quarter).saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_a_quarter_and_uses_it() {
        let mut jitter = Jitter::new(0);
        let (mut least, mut most) = (u64::MAX, 0);
        for _ in 0..10_000 {
            let span = jitter.spread(4000);
            assert!((3000..=5000).contains(&span));
            (least, most) = (least.min(span), most.max(span));
        }
        assert!(least < 3050 && most > 4950, "{least}..{most}");
        assert_eq!(jitter.spread(0), 0);
        assert!(jitter.spread(u64::MAX) >= u64::MAX / 4 * 3);
    }

    #[test]
    fn seeds_differ_from_the_first_number_on() {
        assert_ne!(Jitter::new(1).next(), Jitter::new(2).next());
    }
}
