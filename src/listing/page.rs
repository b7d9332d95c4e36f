//! Whether a page is what was asked for. Ranges are put together by the order of their keys alone, so a store that keeps no order would
//! leave keys out, or list them twice, without a word. Pure.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::object::ListedObject;
use crate::s3::ListPage;

/// Versions of one key that are remembered, to notice a store that lists them again: one that goes in a circle comes by the first of them.
const VERSIONS_REMEMBERED_MAX: usize = 65_536;

/// Pages without anything, one after the other, each of which says that there is more.
const EMPTY_PAGES_MAX: u32 = 1_000;

/// A place between the rows of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The key; empty before the first.
    pub key: String,
    /// Behind this version of it; `None` is behind all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

impl Place {
    /// Behind all that there is of a key.
    pub fn behind(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            version_id: None,
        }
    }
}

/// What is wrong with a store's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disorder {
    /// What it did.
    pub what: String,
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Disorder {}

fn disorder<T>(what: String) -> Result<T, Disorder> {
    Err(Disorder { what })
}

/// What has to be remembered from page to page of a range.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Versions of the key that a page ended in.
    ids: HashSet<u64>,
    empty_pages: u32,
    /// ListObjectsV2's, where a page was empty and there is more.
    pub token: Option<String>,
}

impl Order {
    /// Holds a page that was asked for behind `at` against what a listing is. Where the next one begins; `None` after the last.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(
        &mut self,
        prefix: &str,
        at: &Place,
        with_versions: bool,
        page: &ListPage,
    ) -> Result<Option<Place>, Disorder> {
        self.check_rows(prefix, at, with_versions, &page.rows)?;
        self.count_empty(page)?;
        let token = self.token.take();
        if !page.has_more {
            return Ok(None);
        }
        if with_versions {
            return self.next_of_versions(at, page).map(Some);
        }
        match (page.rows.last(), &page.token) {
            (Some(last), _) => Ok(Some(Place::behind(&*last.key))),
            (None, Some(next)) if token.as_ref() != Some(next) => {
                self.token = Some(next.clone());
                Ok(Some(at.clone()))
            }
            _ => disorder(
                "an empty page that says that there is more, and does not say where".to_owned(),
            ),
        }
    }

    fn check_rows(
        &mut self,
        prefix: &str,
        at: &Place,
        with_versions: bool,
        rows: &[ListedObject],
    ) -> Result<(), Disorder> {
        let mut before = at.key.as_str();
        let mut may_be_same = at.version_id.is_some();
        for row in rows {
            let key = row.key.as_str();
            if !key.starts_with(prefix) {
                return disorder(format!(
                    "{key:?} does not begin with the prefix that was asked for, {prefix:?}"
                ));
            }
            if key < before || (key == before && !may_be_same) {
                return disorder(if std::ptr::eq(before, at.key.as_str()) {
                    format!("asked for what comes behind {before:?}, it begins with {key:?}")
                } else {
                    format!("{key:?} comes behind {before:?}")
                });
            }
            if with_versions {
                self.remember(before, row)?;
            }
            before = key;
            may_be_same = with_versions;
        }
        Ok(())
    }

    fn remember(&mut self, before: &str, row: &ListedObject) -> Result<(), Disorder> {
        if row.key != before {
            self.ids.clear();
        }
        let mut hasher = DefaultHasher::new();
        row.version_id.hash(&mut hasher);
        let id = hasher.finish();
        if self.ids.len() < VERSIONS_REMEMBERED_MAX && !self.ids.insert(id)
            || self.ids.len() == VERSIONS_REMEMBERED_MAX && self.ids.contains(&id)
        {
            let version = row.version_id.as_deref().unwrap_or_default();
            return disorder(format!("version {version:?} of {:?} comes twice", row.key));
        }
        Ok(())
    }

    fn count_empty(&mut self, page: &ListPage) -> Result<(), Disorder> {
        self.empty_pages = match page.rows.is_empty() {
            true => self.empty_pages + 1,
            false => 0,
        };
        if page.has_more && self.empty_pages > EMPTY_PAGES_MAX {
            return disorder(format!(
                "{EMPTY_PAGES_MAX} empty pages in a row, each of which says that there is more"
            ));
        }
        Ok(())
    }

    fn next_of_versions(&self, at: &Place, page: &ListPage) -> Result<Place, Disorder> {
        let Some((key, version_id)) = &page.next else {
            return disorder("a page without a marker for the next".to_owned());
        };
        let next = Place {
            key: key.clone(),
            version_id: version_id.clone(),
        };
        match page.rows.last() {
            Some(last) if last.key != *key => disorder(format!(
                "the marker for the next page is at {key:?}, and the page ends at {:?}",
                last.key
            )),
            None if *key < at.key || next == *at => disorder(
                "an empty page that says that there is more, and does not say where".to_owned(),
            ),
            _ => Ok(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[(&str, Option<&str>)], next: Option<(&str, Option<&str>)>) -> ListPage {
        let row = |(key, id): &(&str, Option<&str>)| ListedObject {
            key: (*key).to_owned(),
            version_id: id.map(str::to_owned),
            ..ListedObject::default()
        };
        ListPage {
            rows: rows.iter().map(row).collect(),
            has_more: next.is_some(),
            token: None,
            next: next.map(|(key, id)| (key.to_owned(), id.map(str::to_owned))),
        }
    }

    fn objects(keys: &[&str], has_more: bool) -> ListPage {
        let keys: Vec<_> = keys.iter().map(|key| (*key, None)).collect();
        ListPage {
            has_more,
            ..page(&keys, None)
        }
    }

    fn checked(at: &str, page: &ListPage) -> Result<Option<Place>, String> {
        let at = Place::behind(at);
        let checked = Order::default().check("p/", &at, false, page);
        checked.map_err(|disorder| disorder.what)
    }

    #[test]
    fn pages_of_objects_rise_and_lie_where_they_were_asked_for() {
        let sound = objects(&["p/a", "p/b"], true);
        assert_eq!(checked("", &sound), Ok(Some(Place::behind("p/b"))));
        assert_eq!(checked("p/", &objects(&["p/a"], false)), Ok(None));
        assert_eq!(checked("p/", &objects(&[], false)), Ok(None));
        for (at, page, what) in [
            ("", objects(&["q"], false), "prefix"),
            ("", objects(&["p/b", "p/a"], false), "comes behind"),
            ("", objects(&["p/a", "p/a"], false), "comes behind"),
            ("p/a", objects(&["p/a"], false), "asked for"),
            ("p/z", objects(&["p/a", "p/b"], true), "asked for"),
            ("p/a", objects(&[], true), "empty page"),
        ] {
            let error = checked(at, &page).expect_err(what);
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn an_empty_page_is_followed_by_its_token_and_not_for_ever() {
        let at = Place::behind("p/a");
        let mut order = Order::default();
        let empty = |token: &str| ListPage {
            has_more: true,
            token: Some(token.to_owned()),
            ..ListPage::default()
        };
        assert_eq!(
            order.check("p/", &at, false, &empty("1")),
            Ok(Some(at.clone()))
        );
        assert_eq!(order.token.as_deref(), Some("1"));
        assert!(order.clone().check("p/", &at, false, &empty("1")).is_err());
        let pages = (2..).map(|n| order.check("p/", &at, false, &empty(&format!("{n}"))));
        let pages = pages.take_while(Result::is_ok).count();
        assert_eq!(pages, EMPTY_PAGES_MAX as usize - 1);
    }

    #[test]
    fn pages_of_versions_go_on_within_a_key() {
        let mut order = Order::default();
        let place = |key: &str, id: &str| Place {
            key: key.to_owned(),
            version_id: Some(id.to_owned()),
        };
        let first = page(
            &[("p/a", Some("1")), ("p/b", Some("1"))],
            Some(("p/b", Some("1"))),
        );
        let next = order
            .check("p/", &Place::default(), true, &first)
            .expect("sound");
        assert_eq!(next, Some(place("p/b", "1")));
        let at = next.expect("a place");
        let sound = page(&[("p/b", Some("2")), ("p/c", Some("1"))], None);
        assert_eq!(order.clone().check("p/", &at, true, &sound), Ok(None));
        for (page, what) in [
            (page(&[("p/b", Some("1"))], None), "comes twice"),
            (page(&[("p/a", Some("3"))], None), "asked for"),
            (page(&[("p/c", Some("1"))], Some(("p/d", None))), "ends at"),
            (
                page(&[("p/c", Some("1"))], None).also_more(),
                "without a marker",
            ),
            (page(&[], Some(("p/b", Some("1")))), "empty page"),
        ] {
            let error = order.clone().check("p/", &at, true, &page).expect_err(what);
            assert!(error.what.contains(what), "{error}");
        }
        // Behind all of a key nothing of it comes.
        let all = Place::behind("p/b");
        let of_it = page(&[("p/b", Some("9"))], None);
        assert!(Order::default().check("p/", &all, true, &of_it).is_err());
    }

    impl ListPage {
        fn also_more(mut self) -> Self {
            self.has_more = true;
            self
        }
    }
}
