//! Refusals that have nothing to do with our rate: a store that refuses a few requests at any rate, because others are there, or
//! because it does so.
//!
//! Who took each of them for a sign would slow down until hardly anything is sent. So where a cut, and another, have changed nothing
//! about the share that is refused, that share is taken for usual, and only what is beyond it counts.

/// So many cuts in a row without effect are no accident.
const CUTS_MAX: u32 = 3;
/// A rate is below one that was cut where it is less than this part of it: around a capacity, refusals come at nearly the same rate.
const BELOW: f64 = 0.975;
/// A cut that had an effect leaves less than this part of the refusals.
const EFFECT: f64 = 0.5;
/// The largest share that is taken for usual: who refuses more is overloaded, by whomever.
const SHARE_MAX: f64 = 0.06;
/// A share that is too small to be noticed.
const SHARE_MIN: f64 = 0.002;
/// The share is that of about so many answers.
const ANSWERS: f64 = 500.0;

/// What is usual.
#[derive(Debug, Default)]
pub(super) struct Usual {
    share: f64,
    answers: f64,
    is_known: bool,
    /// Cuts in a row that had no effect.
    cuts: u32,
    /// The rate that was cut last, and the share that was refused at it.
    last: Option<(f64, f64)>,
    /// The rate before the first of those cuts.
    before: f64,
}

impl Usual {
    /// Counts an answer.
    pub(super) fn hear(&mut self, is_refused: bool) {
        self.answers = (self.answers + 1.0).min(ANSWERS);
        let value = if is_refused { 1.0 } else { 0.0 };
        self.share += (value - self.share) / self.answers;
        if self.share < SHARE_MIN {
            self.is_known = false;
        }
    }

    /// Whether so many refusals among so many answers are no more than there are at any rate.
    pub(super) fn explains(&self, refused: u32, answers: u32) -> bool {
        let expected = self.share.min(SHARE_MAX) * f64::from(answers);
        self.is_known && f64::from(refused) <= expected + 2.0 * expected.sqrt() + 1.0
    }

    /// Hears that `rate` is about to be cut, because such a share was refused. Where cuts have no effect, the rate that there was
    /// before them.
    pub(super) fn cut(&mut self, rate: f64, refused: f64) -> Option<f64> {
        let had_no_effect =
            |(cut, share): (f64, f64)| rate < cut * BELOW && refused >= share * EFFECT;
        if self.last.is_some_and(had_no_effect) && self.share <= SHARE_MAX {
            self.cuts += 1;
        } else {
            (self.cuts, self.before) = (0, rate);
        }
        self.last = Some((rate, refused));
        if self.cuts < CUTS_MAX {
            return None;
        }
        (self.cuts, self.last, self.is_known) = (0, None, true);
        Some(self.before)
    }
}
