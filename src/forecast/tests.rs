use rand::rngs::SmallRng;
use rand::seq::index;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::encryption::KmsTarget;
use crate::limiter::Budgets;

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;

fn head(class: &str, size: u64, encryption: Encryption, days: i64) -> ObjectHead {
    ObjectHead {
        storage_class: Some(class.to_owned()),
        last_modified: Some(NOW - days * 86_400),
        ..ObjectHead::bare("\"e\"".to_owned(), size, encryption)
    }
}

fn looked() -> Requests {
    let mut requests = Requests::default();
    requests.add_look(false);
    requests
}

fn copied(found: &ObjectHead) -> [Rewritten<'_>; 1] {
    let mut requests = Requests::default();
    requests.add(Operation::CopyObject, 1);
    [Rewritten {
        found: Some(found),
        moves: true,
        requests,
    }]
}

fn limits(budgets: Budgets) -> Limits {
    Limits {
        budgets,
        concurrency: 256,
        latency: None,
        is_aws: true,
    }
}

fn about() -> About {
    About {
        manifest: "m.csv".to_owned(),
        bucket: "b".to_owned(),
        endpoint_url: None,
        target: "sse-kms".to_owned(),
        kms_key: None,
        planned_at: "2026-01-01T00:00:00Z".to_owned(),
        command: "plan".to_owned(),
        left_out: BTreeMap::new(),
    }
}

/// A forecast over copies of such objects, all of them looked at.
fn of(rows: &[(&str, ObjectHead)], terms: &Terms<'_>) -> Forecast {
    let mut forecast = Forecast::default();
    for (key, found) in rows {
        let row = Foreseen {
            key,
            found: Some(found),
            course: Course::Rewrite(Method::Copy),
            asked: &looked(),
            rewritten: &copied(found),
            was_looked_at: true,
        };
        forecast.add(&row, terms);
    }
    forecast
}

#[test]
fn a_sample_stands_for_all_within_its_bounds() {
    const ROWS: usize = 2_000;
    const SAMPLES: u64 = 100;
    let target = Target::SseKms(KmsTarget::default());
    let prices = Prices::shipped();
    let terms = Terms {
        target: &target,
        versioning: Some(Versioning::Enabled),
        deletes_superseded: false,
        prices: Some(&prices),
        now: NOW,
    };
    let add = |forecast: &mut Forecast, (is_done, found): &(bool, ObjectHead)| {
        let rewritten = copied(found);
        let (course, rewritten) = match is_done {
            true => (Course::Skip(SkipReason::AlreadyEncrypted), &rewritten[..0]),
            false => (Course::Rewrite(Method::Copy), &rewritten[..]),
        };
        let row = Foreseen {
            key: "a/b",
            found: Some(found),
            course,
            asked: &looked(),
            rewritten,
            was_looked_at: true,
        };
        forecast.add(&row, &terms);
    };
    let lines = [
        Line::Objects(Facet::Course, "rewrite".to_owned()),
        Line::Bytes(Facet::Course, "rewrite".to_owned()),
        Line::Requests(Operation::CopyObject),
        Line::Cost(Cost::Retrieval),
        Line::CostOnce,
    ];
    let rng = &mut SmallRng::seed_from_u64(7);
    // So many in a hundred are done already, and so many are looked at: also where a sample mostly sees one kind alone.
    for (done, sample) in [
        (20, 300),
        (4, 20),
        (4, 100),
        (96, 100),
        (1, 40),
        (50, 1_900),
    ] {
        let rows: Vec<_> = (0..ROWS)
            .map(|_| {
                let is_done = rng.random_ratio(done, 100);
                let size = rng.random_range(500_000..1_000_000);
                (is_done, head("STANDARD_IA", size, Encryption::SseS3, 60))
            })
            .collect();
        let mut whole = Forecast::default();
        rows.iter().for_each(|row| add(&mut whole, row));
        let truths = lines.each_ref().map(|line| whole.estimate(line));
        let mut within = [0; 5];
        for _ in 0..SAMPLES {
            let chosen: BTreeSet<_> = index::sample(rng, ROWS, sample).into_iter().collect();
            let mut sampled = Forecast::default();
            for (number, row) in rows.iter().enumerate() {
                match chosen.contains(&number) {
                    true => add(&mut sampled, row),
                    false => sampled.pass_over(),
                }
            }
            assert_eq!(sampled.rows(), ROWS as u64);
            for ((line, truth), within) in lines.iter().zip(truths).zip(&mut within) {
                assert_eq!((truth.low, truth.high), (truth.value, truth.value));
                let guess = sampled.estimate(line);
                assert!(guess.low <= guess.value && guess.value <= guess.high);
                *within += u64::from((guess.low..=guess.high).contains(&truth.value));
                if matches!(line, Line::Objects(..)) {
                    assert!(guess.high <= ROWS as f64, "{guess:?}");
                }
            }
        }
        // 95 of a hundred, and some chance.
        for (line, within) in lines.iter().zip(within) {
            assert!(
                within >= SAMPLES * 90 / 100,
                "{done} % done, {sample} of {ROWS} looked at, {line:?}: {within} of {SAMPLES}"
            );
        }
    }
}

#[test]
fn what_a_class_charges_for_is_counted_where_it_does() {
    let target = Target::DsseKms(KmsTarget::default());
    let prices = Prices::shipped();
    let gb = 1_u64 << 30;
    let rows = [
        ("a/1", head("STANDARD_IA", gb, Encryption::SseS3, 10)),
        ("a/2", head("STANDARD_IA", gb, Encryption::SseS3, 31)),
        ("b/3", head("STANDARD", gb, Encryption::SseS3, 0)),
    ];
    let terms = |versioning, deletes_superseded| Terms {
        target: &target,
        versioning: Some(versioning),
        deletes_superseded,
        prices: Some(&prices),
        now: NOW,
    };
    let told = |terms: &Terms<'_>| {
        let limits = limits(Budgets::default());
        of(&rows, terms).told(about(), Vec::new(), &limits, Some(&prices))
    };
    let replaced = told(&terms(Versioning::Never, false));
    let early = &replaced.early_deletions;
    assert_eq!(early.len(), 1, "{early:?}");
    assert_eq!(
        (early[0].name.as_str(), early[0].objects.value),
        ("STANDARD_IA", 1)
    );
    assert_eq!(replaced.retrieved[0].bytes.value, 2 * gb);
    let cost = replaced.cost.expect("prices");
    // 20 days of 30 are left of the first; the prices are those of the table.
    assert!(
        (cost.early_deletion.value - 0.0125 * 20.0 / 30.0).abs() < 1e-4,
        "{cost:?}"
    );
    assert!((cost.retrieval.value - 0.02).abs() < 1e-4, "{cost:?}");
    assert!((cost.dsse.value - 0.009).abs() < 1e-4, "{cost:?}");
    assert_eq!(cost.old_versions_per_month.value, 0.0);
    // What stays is not replaced; what is deleted then is.
    let kept = told(&terms(Versioning::Enabled, false));
    assert!(kept.early_deletions.is_empty());
    let monthly = kept.cost.expect("prices").old_versions_per_month.value;
    assert!((monthly - (2.0 * 0.0125 + 0.023)).abs() < 1e-4, "{monthly}");
    let deleted = told(&terms(Versioning::Enabled, true));
    assert_eq!(deleted.early_deletions, replaced.early_deletions);
}

#[test]
fn the_limit_that_takes_longest_is_told_first() {
    let target = Target::SseKms(KmsTarget {
        bucket_key: Some(false),
        ..KmsTarget::default()
    });
    let terms = Terms {
        target: &target,
        versioning: Some(Versioning::Never),
        deletes_superseded: false,
        prices: None,
        now: NOW,
    };
    let under = Encryption::SseKms {
        key: None,
        bucket_key: false,
    };
    let rows: Vec<_> = (0..100)
        .map(|n| {
            let key = if n < 90 { "all/hot/x" } else { "all/cold/x" };
            (key, head("STANDARD", 1_000, under.clone(), 0))
        })
        .collect();
    let forecast = of(&rows, &terms);
    let number = std::num::NonZeroU32::new;
    let budgets = Budgets {
        writes: number(10),
        requests: number(40),
        kms: number(50),
        prefix_writes: number(2),
        ..Budgets::default()
    };
    let paces = forecast.paces(&limits(budgets));
    let seconds = |limit: &str| {
        let pace = paces.iter().find(|pace| pace.limit == limit);
        pace.map(|pace| pace.seconds)
    };
    assert_eq!(paces[0].limit, "--prefix-rate");
    assert_eq!(seconds("--prefix-rate"), Some(45.0));
    assert_eq!(seconds("--rate"), Some(10.0));
    assert_eq!(seconds("--request-rate"), Some(5.0));
    // One to read and one to write each; the look asks for no checksum.
    assert_eq!(seconds("--kms-rate"), Some(200.0 / 50.0));
    assert_eq!(seconds("--bandwidth"), None);
}

#[test]
fn a_page_shows_what_is_foreign_as_text() {
    let target = Target::SseS3;
    let terms = Terms {
        target: &target,
        versioning: None,
        deletes_superseded: false,
        prices: None,
        now: NOW,
    };
    let failure = Failure {
        code: "Access<b>Denied".to_owned(),
        http_status: 403,
        message: String::new(),
    };
    let mut forecast = Forecast::default();
    let row = Foreseen {
        key: "<script>\"&'\u{202e}",
        found: None,
        course: Course::Fail(&failure),
        asked: &Requests::default(),
        rewritten: &[],
        was_looked_at: true,
    };
    forecast.add(&row, &terms);
    let told = forecast.told(about(), Vec::new(), &limits(Budgets::default()), None);
    let page = page(&told);
    assert!(
        page.contains("<code>&lt;script&gt;&quot;&amp;&#39;\\u{202e}</code>"),
        "{page}"
    );
    assert!(page.contains("Access&lt;b&gt;Denied"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    assert!(told.to_string().contains("Access<b>Denied 1"), "{told}");
}
