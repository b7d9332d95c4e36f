//! Who lists which keys. The whole is cut in ranges, each of which is listed from its beginning to its end, page by page; where nobody has
//! anything to do, the range with most left is cut in two. Where it is cut decides how fast it goes and nothing else. Pure.
//!
//! A range that is cut gives its end away, also while a page of it is on its way: what of the page lies behind the cut is the other
//! range's, and left out. So each key is in one range at any time, and in one batch at the end.

use std::collections::{BTreeMap, VecDeque};

use super::keys::{Alphabet, end_of_folder};
use super::page::{Disorder, Order, Place};
use crate::object::ListedObject;
use crate::s3::ListPage;

/// A range is cut where so many pages at least may be left of it.
const PAGES_LEFT_MIN: f64 = 2.0;

/// Cuts that brought next to nothing before they are counted against what was listed.
const POOR_CUTS_MIN: u64 = 8;
/// Beyond that, one in so many pages: a listing takes a quarter more requests at most than one page after the other would.
const PAGES_PER_POOR_CUT: u64 = 4;
/// A cut is poor where the new range ends with its first page, and that has less than this part of a page.
const POOR_DIVISOR: usize = 4;

/// Keys from a place on, up to a key, which is one of them; or to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Behind this.
    pub from: Place,
    /// The last key that may be in it.
    pub until: Option<String>,
}

impl Range {
    /// All keys.
    pub fn whole() -> Self {
        Self {
            from: Place::default(),
            until: None,
        }
    }
}

/// What was listed from one place to another: everything that is between them, and nothing else.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The range; one range's batches come in their order.
    pub range: u64,
    /// Behind this.
    pub from: Place,
    /// Up to here; `None` is the end of all.
    pub to: Option<Place>,
    /// In the order of their keys.
    pub rows: Vec<ListedObject>,
}

/// A page that is to be asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of this range.
    pub range: u64,
    /// Behind this.
    pub at: Place,
    /// ListObjectsV2's token, where the page before was empty.
    pub token: Option<String>,
}

/// A range that is being listed.
#[derive(Debug)]
struct Live {
    at: Place,
    until: Option<String>,
    order: Order,
    /// A page is on its way, or what was on it is being worked on.
    is_busy: bool,
    is_over: bool,
    /// It comes from a cut, and nothing is known of it yet.
    is_new: bool,
    /// First and last key of the last page, where there was more behind it.
    page: Option<(String, String)>,
    /// Pages that may be left.
    left: f64,
    /// The next cut is to be at the end of the folder.
    by_folder: bool,
}

impl Live {
    fn new(range: Range, is_new: bool) -> Self {
        Self {
            at: range.from,
            until: range.until,
            order: Order::default(),
            is_busy: false,
            is_over: false,
            is_new,
            page: None,
            left: 0.0,
            by_folder: false,
        }
    }

    fn measure(&mut self, prefix: &str, alphabet: &Alphabet) {
        self.left = self.page.as_ref().map_or(0.0, |(first, last)| {
            alphabet.left(prefix, first, last, self.until.as_deref())
        });
    }
}

/// All ranges.
#[derive(Debug)]
pub struct Ranges {
    prefix: String,
    with_versions: bool,
    page_rows: u16,
    alphabet: Alphabet,
    waiting: VecDeque<Range>,
    live: BTreeMap<u64, Live>,
    next_id: u64,
    pages: u64,
    poor_cuts: u64,
}

impl Ranges {
    /// What is to be listed, of the keys with a prefix, in pages of so many rows.
    pub fn new(prefix: &str, with_versions: bool, page_rows: u16, ranges: Vec<Range>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            with_versions,
            page_rows,
            alphabet: Alphabet::default(),
            waiting: ranges.into(),
            live: BTreeMap::new(),
            next_id: 0,
            pages: 0,
            poor_cuts: 0,
        }
    }

    /// Ranges that are being listed.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Whether everything is listed.
    pub fn are_done(&self) -> bool {
        self.live.is_empty() && self.waiting.is_empty()
    }

    /// The next page to ask for, where there is any use in asking for one more.
    pub fn next(&mut self) -> Option<Ask> {
        let idle = self.live.iter().find(|(_, live)| !live.is_busy);
        let id = match idle.map(|(id, _)| *id) {
            Some(id) => id,
            None => match self.waiting.pop_front() {
                Some(range) => self.begin(range, false),
                None => {
                    let range = self.cut()?;
                    self.begin(range, true)
                }
            },
        };
        let live = self.live.get_mut(&id)?;
        live.is_busy = true;
        Some(Ask {
            range: id,
            at: live.at.clone(),
            token: live.order.token.clone(),
        })
    }

    fn begin(&mut self, range: Range, is_new: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.live.insert(id, Live::new(range, is_new));
        id
    }

    /// Takes the end of the range with most left from it. New ranges show what they have first: of what is not known there is not much
    /// more than of what is.
    fn cut(&mut self) -> Option<Range> {
        let known = self
            .live
            .values()
            .filter(|live| live.page.is_some())
            .count();
        let new = self.live.values().filter(|live| live.is_new).count();
        let may_be_poor = POOR_CUTS_MIN + self.pages / PAGES_PER_POOR_CUT;
        if new >= 2 * known + 2 || self.poor_cuts + new as u64 >= may_be_poor {
            return None;
        }
        loop {
            let is_worth = |live: &&mut Live| !live.is_over && live.left >= PAGES_LEFT_MIN;
            let most = self.live.values_mut().filter(is_worth);
            let live = most.max_by(|one, other| one.left.total_cmp(&other.left))?;
            let Some(at) = cut_of(&self.prefix, &self.alphabet, live) else {
                live.left = 0.0;
                continue;
            };
            let until = live.until.replace(at.clone());
            live.measure(&self.prefix, &self.alphabet);
            return Some(Range {
                from: Place::behind(at),
                until,
            });
        }
    }

    /// Takes a page that was asked for. The range is busy until [`release`](Self::release).
    ///
    /// # Errors
    /// What is wrong with the page.
    ///
    /// # Panics
    /// Nobody has asked for it.
    pub fn take(&mut self, ask: &Ask, mut page: ListPage) -> Result<Batch, Disorder> {
        self.pages += 1;
        let live = self.live.get_mut(&ask.range).expect("it is busy");
        let next = live
            .order
            .check(&self.prefix, &ask.at, self.with_versions, &page)?;
        let until = live.until.as_deref();
        let own = until.map_or(page.rows.len(), |until| {
            page.rows.partition_point(|row| row.key.as_str() <= until)
        });
        let is_cut_short = own < page.rows.len();
        page.rows.truncate(own);
        for row in &page.rows {
            self.alphabet.learn(&row.key);
        }
        // A marker at the last key that names no version is behind all of them.
        let is_behind = |next: &Place| {
            until.is_some_and(|until| next.key.as_str() > until || *next == Place::behind(until))
        };
        let next = next.filter(|next| !is_cut_short && !is_behind(next));
        live.is_over = next.is_none();
        let is_poor = live.is_over && own < usize::from(self.page_rows) / POOR_DIVISOR;
        if std::mem::take(&mut live.is_new) && is_poor {
            self.poor_cuts += 1;
        }
        let ends = page.rows.first().zip(page.rows.last());
        live.page = ends
            .filter(|_| next.is_some())
            .map(|(first, last)| (first.key.clone(), last.key.clone()));
        live.measure(&self.prefix, &self.alphabet);
        let to = next.or_else(|| live.until.as_deref().map(Place::behind));
        let from = match &to {
            Some(to) => std::mem::replace(&mut live.at, to.clone()),
            None => std::mem::take(&mut live.at),
        };
        Ok(Batch {
            range: ask.range,
            from,
            to,
            rows: page.rows,
        })
    }

    /// What was on the page is done with.
    pub fn release(&mut self, range: u64) {
        if let Some(live) = self.live.get_mut(&range) {
            live.is_busy = false;
            if live.is_over {
                self.live.remove(&range);
            }
        }
    }
}

/// Where a range is cut: half-way, and every other time at the end of the folder that it is in, which is far from half-way where all the
/// rest is in there too.
fn cut_of(prefix: &str, alphabet: &Alphabet, live: &mut Live) -> Option<String> {
    let (first, last) = live.page.as_ref()?;
    let until = live.until.as_deref();
    let by_folder = live.by_folder;
    live.by_folder = !by_folder;
    let at_folder = || end_of_folder(prefix, first, last, until);
    let half_way = || alphabet.middle(prefix, last, until);
    match by_folder {
        true => at_folder().or_else(half_way),
        false => half_way(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom as _;

    use super::*;

    /// A store with these keys answers.
    fn answer(keys: &BTreeSet<String>, prefix: &str, ask: &Ask, rows: u16) -> ListPage {
        let behind = (Bound::Excluded(ask.at.key.clone()), Bound::Unbounded);
        let mut found = keys
            .range::<String, _>(behind)
            .filter(|key| key.starts_with(prefix));
        let row = |key: &String| ListedObject {
            key: key.clone(),
            ..ListedObject::default()
        };
        let rows = found.by_ref().take(usize::from(rows)).map(row).collect();
        ListPage {
            rows,
            has_more: found.next().is_some(),
            ..ListPage::default()
        }
    }

    /// Lists with so many at work, who answer in any order; the keys as they came, and the pages that it took.
    fn list(
        keys: &BTreeSet<String>,
        prefix: &str,
        rows: u16,
        workers: usize,
        seed: u64,
    ) -> (Vec<String>, u64) {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut ranges = Ranges::new(prefix, false, rows, vec![Range::whole()]);
        let (mut asked, mut listed, mut pages): (Vec<Ask>, Vec<String>, u64) =
            (Vec::new(), Vec::new(), 0);
        loop {
            while asked.len() < workers
                && let Some(ask) = ranges.next()
            {
                asked.push(ask);
            }
            if asked.is_empty() {
                assert!(ranges.are_done());
                return (listed, pages);
            }
            let ask = asked.swap_remove(chance.random_range(0..asked.len()));
            let page = answer(keys, prefix, &ask, rows);
            pages += 1;
            let batch = ranges.take(&ask, page).expect("a page in order");
            listed.extend(batch.rows.into_iter().map(|row| row.key));
            ranges.release(ask.range);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

        /// Whatever the keys, the size of a page, how many are at work and who is first: each key once, and not many more pages than one
        /// after the other takes.
        #[test]
        fn every_key_is_listed_once(
            keys in proptest::collection::btree_set("[a-c/+%\u{1}\u{7f}\u{e4}\u{10ffff}]{1,6}|\\PC{1,5}|x/[0-9]{3}", 0..300),
            prefix in prop::sample::select(vec!["", "a", "x/", "nothing"]),
            rows in 1..30_u16, workers in 1..40_usize, seed: u64,
        ) {
            let (mut listed, pages) = list(&keys, prefix, rows, workers, seed);
            listed.sort();
            let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
            prop_assert_eq!(&listed, &expected);
            let alone = expected.len() as u64 / u64::from(rows) + 1;
            prop_assert!(pages <= 3 * alone + 2 * workers as u64 + POOR_CUTS_MIN, "{} pages, {} alone", pages, alone);
        }
    }

    /// How the rounds go down that one page after the other would take, for buckets of many shapes.
    #[test]
    fn many_share_the_work() {
        const WORKERS: usize = 32;
        let mut chance = SmallRng::seed_from_u64(5);
        let letters: Vec<char> = ('a'..='z').collect();
        let mut word = |n: usize| -> String {
            (0..n)
                .map(|_| *letters.choose(&mut chance).expect("some"))
                .collect()
        };
        let shapes: [(&str, BTreeSet<String>); 4] = [
            ("flat", (0..20_000).map(|n| format!("obj-{n:08}")).collect()),
            (
                "one folder deep down",
                (0..20_000)
                    .map(|n| format!("data/2026/01/15/part-{n:06}.parquet"))
                    .collect(),
            ),
            (
                "words",
                (0..20_000)
                    .map(|n| format!("{}/{}-{n}", word(3), word(5)))
                    .collect(),
            ),
            (
                "skewed",
                (0..20_000)
                    .map(|n| match n % 500 {
                        0 => format!("a/{n}"),
                        1 => format!("z/{n}"),
                        _ => format!("logs/app/{:05}/{n}", n / 100),
                    })
                    .collect(),
            ),
        ];
        for (shape, keys) in shapes {
            let mut ranges = Ranges::new("", false, 20, vec![Range::whole()]);
            let (mut rounds, mut pages, mut listed) = (0, 0, 0);
            while !ranges.are_done() {
                let mut asks = Vec::new();
                while asks.len() < WORKERS
                    && let Some(ask) = ranges.next()
                {
                    asks.push(ask);
                }
                rounds += 1;
                for ask in asks {
                    pages += 1;
                    let batch = ranges
                        .take(&ask, answer(&keys, "", &ask, 20))
                        .expect("in order");
                    listed += batch.rows.len();
                    ranges.release(ask.range);
                }
            }
            assert_eq!(listed, keys.len());
            let alone = keys.len().div_ceil(20);
            assert!(pages <= alone * 27 / 20, "{shape}: {pages} pages");
            assert!(
                rounds <= alone / 10,
                "{shape}: {rounds} rounds, {pages} pages"
            );
        }
    }
}
