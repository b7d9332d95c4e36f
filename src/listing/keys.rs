//! Where a range of keys is cut, and how much of it may be left: guesses from the keys that were seen, so that any answer is right and
//! a good one is fast. Pure.
//!
//! Keys are read as numbers in a base of as many digits as characters were seen, with the end of a key as the digit zero: their order is the
//! order of the keys, half-way between two keys is the mean of their numbers, and what is left of a range is to what a page took as their
//! differences are.

use std::collections::BTreeSet;

/// Most characters that are told apart. Keys in scripts of more are cut at those that came first.
const ALPHABET_MAX: usize = 512;

/// Digits behind what two keys have in common that a cut is looked for in: [`ALPHABET_MAX`]^8 is 2^72, which leaves room in 128 bits.
const CUT_DIGITS: usize = 8;

/// Digits that tell how much is left: more than a double can hold.
const MEASURE_DIGITS: usize = 12;

/// The characters that were seen in keys, in their order.
#[derive(Clone, Debug, Default)]
pub struct Alphabet {
    seen: BTreeSet<char>,
    /// The same as bits, for those that most keys are of.
    ascii: u128,
    sorted: Vec<char>,
}

impl Alphabet {
    /// Learns a key's characters.
    pub fn learn(&mut self, key: &str) {
        let is_known = |byte: &u8| byte.is_ascii() && self.ascii & (1 << byte) != 0;
        if key.as_bytes().iter().all(is_known) {
            return;
        }
        for c in key.chars() {
            if self.seen.len() < ALPHABET_MAX && self.seen.insert(c) {
                if c.is_ascii() {
                    self.ascii |= 1 << c as u32;
                }
                let place = self.sorted.partition_point(|other| *other < c);
                self.sorted.insert(place, c);
            }
        }
    }

    fn base(&self) -> u128 {
        self.sorted.len() as u128 + 1
    }

    /// The digits of a key. A character that was not seen, of a boundary say, counts as the next one that was, without what follows: all
    /// keys of seen characters that are before it are before that one too.
    fn digits(&self, text: &str) -> impl Iterator<Item = u128> {
        let mut chars = text.chars();
        let mut is_over = false;
        std::iter::from_fn(move || {
            let c = chars.next().filter(|_| !is_over)?;
            let digit = self.sorted.partition_point(|other| *other < c);
            is_over = self.sorted.get(digit) != Some(&c);
            Some(digit as u128 + 1)
        })
    }

    fn number(&self, text: &str) -> u128 {
        let digits = self.digits(text).chain(std::iter::repeat(0));
        let digits = digits.take(CUT_DIGITS);
        digits.fold(0, |number, digit| number * self.base() + digit)
    }

    fn text(&self, number: u128) -> String {
        let mut digits = Vec::with_capacity(CUT_DIGITS);
        let mut rest = number;
        for _ in 0..CUT_DIGITS {
            digits.push((rest % self.base()) as usize);
            rest /= self.base();
        }
        let digits = digits.into_iter().rev().take_while(|digit| *digit > 0);
        digits.map(|digit| self.sorted[digit - 1]).collect()
    }

    fn fraction(&self, text: &str) -> f64 {
        let base = self.base() as f64;
        let mut weight = 1.0;
        let digits = self.digits(text).take(MEASURE_DIGITS).map(|digit| {
            weight /= base;
            digit as f64 * weight
        });
        digits.sum()
    }

    /// A key between two others, about half-way, that begins with `prefix`: behind `low`, and before `high` or anything with the prefix.
    /// `None` where there is none that this finds.
    pub fn middle(&self, prefix: &str, low: &str, high: Option<&str>) -> Option<String> {
        let shared = shared(prefix, low, high)?;
        let from = self.number(&low[shared..]);
        let to = match high {
            Some(high) => self.number(&high[shared..]),
            None => self.base().pow(CUT_DIGITS as u32),
        };
        let mean = from + to.checked_sub(from)? / 2;
        // A short one is as good, and is the boundary of something more often.
        let round = |kept: usize| mean - mean % self.base().pow((CUT_DIGITS - kept) as u32);
        let lengths = (1..=CUT_DIGITS).filter(|kept| round(*kept) > from);
        let candidates =
            lengths.map(|kept| format!("{}{}", &low[..shared], self.text(round(kept))));
        let mut fitting = candidates.filter(|cut| is_between(prefix, low, cut, high));
        fitting.next()
    }

    /// How often what lay between `first` and `last` fits in between `last` and `high`, if keys are spread evenly.
    pub fn left(&self, prefix: &str, first: &str, last: &str, high: Option<&str>) -> f64 {
        let Some(shared) =
            shared(prefix, first, high).filter(|shared| last.is_char_boundary(*shared))
        else {
            return 0.0;
        };
        let to = high.map_or(1.0, |high| self.fraction(&high[shared..]));
        let (from, at) = (
            self.fraction(&first[shared..]),
            self.fraction(&last[shared..]),
        );
        if at > from {
            ((to - at) / (at - from)).max(0.0)
        } else {
            f64::MAX
        }
    }
}

/// The place behind everything that begins with what `first` and `last` have in common, up to the last sign in it that is no letter and no
/// digit: the folder that both are in. `None` where it is that of everything that is asked for.
pub fn end_of_folder(prefix: &str, first: &str, last: &str, high: Option<&str>) -> Option<String> {
    let common = &first[..common_prefix(first, last)];
    let folder = common.trim_end_matches(|c: char| c.is_alphanumeric());
    if folder.len() <= prefix.len() {
        return None;
    }
    let mut chars = folder.chars();
    let sign = chars.next_back()?;
    let next = char::from_u32(sign as u32 + 1)?;
    let cut = format!("{}{next}", chars.as_str());
    is_between(prefix, last, &cut, high).then_some(cut)
}

/// Whether a range can be cut there.
fn is_between(prefix: &str, low: &str, cut: &str, high: Option<&str>) -> bool {
    cut.starts_with(prefix) && low < cut && high.is_none_or(|high| cut < high)
}

/// How many bytes two keys have in common, or a key and all that it is asked about.
fn shared(prefix: &str, low: &str, high: Option<&str>) -> Option<usize> {
    if !low.starts_with(prefix) {
        return None;
    }
    Some(match high {
        Some(high) => common_prefix(low, high),
        None => prefix.len(),
    })
}

/// The bytes of the whole characters with which both begin.
fn common_prefix(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alphabet(keys: &[&str]) -> Alphabet {
        let mut alphabet = Alphabet::default();
        keys.iter().for_each(|key| alphabet.learn(key));
        alphabet
    }

    #[test]
    fn a_cut_is_short_and_in_the_middle() {
        let digits = alphabet(&["obj-0123456789"]);
        for (low, high, cut) in [
            ("obj-0", Some("obj-9"), "obj-4"),
            ("obj-00999", Some("obj-1"), "obj-06"),
            ("obj-00999", Some("obj."), "obj-6"),
            ("obj-0", Some("obj-00000000000"), "obj-0"),
        ] {
            let found = digits.middle("obj-", low, high).expect(low);
            assert!(found.starts_with(cut), "{low} {high:?}: {found}");
        }
        assert_eq!(
            digits.middle("obj-", "obj-5", None).as_deref(),
            Some("obj-9")
        );
        // There is no key between.
        assert_eq!(digits.middle("", "a", Some("a\0")), None);
    }

    #[test]
    fn what_is_left_is_measured_by_what_was_taken() {
        let digits = alphabet(&["0123456789"]);
        let left = digits.left("", "1000", "2000", Some("7000"));
        assert!((4.0..6.0).contains(&left), "{left}");
        assert!(digits.left("", "1000", "2000", Some("2001")) < 0.1);
        assert_eq!(digits.left("", "1000", "1000", None), f64::MAX);
    }

    #[test]
    fn the_end_of_a_folder_is_behind_all_of_it() {
        let end = |first, last, high| end_of_folder("p/", first, last, high);
        let cut = end("p/a/b/c1", "p/a/b/c9", None).expect("a folder");
        assert_eq!(cut, "p/a/b0");
        assert!("p/a/b/\u{10ffff}" < cut.as_str());
        assert_eq!(end("p/c1", "p/c9", None), None);
        assert_eq!(end("p/a/1", "p/a/2", Some("p/a/9")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is found is between the two; characters that nobody has seen don't matter.
        #[test]
        fn a_cut_is_always_between(
            seen in "\\PC{0,6}", prefix in "[a-c/]{0,2}", low in "\\PC{0,6}|[a-c/\u{1}\u{e4}]{0,12}",
            high in proptest::option::of("\\PC{0,6}|[a-c/\u{1}\u{e4}]{0,12}"),
        ) {
            let (low, high) = (format!("{prefix}{low}"), high.map(|high| format!("{prefix}{high}")));
            let alphabet = alphabet(&[&seen, &low]);
            let high = high.as_deref();
            if let Some(cut) = alphabet.middle(&prefix, &low, high) {
                prop_assert!(cut.starts_with(&prefix));
                prop_assert!(low < cut && high.is_none_or(|high| cut.as_str() < high));
            }
            prop_assert!(alphabet.left(&prefix, &low, &low, high) >= 0.0);
        }
    }
}
