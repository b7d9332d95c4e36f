//! The limiter from the outside, on tokio's paused clock.

use std::cell::RefCell;
use std::num::{NonZeroU32, NonZeroU64};
use std::rc::Rc;

use tokio::time::sleep;

use super::*;

const ONE_WRITE: Need<'static> = Need::write("a/k");

/// So many workers ask for permits without end, each request taking so long; when they were given, in milliseconds.
async fn given(
    limiter: &Limiter,
    need: Need<'static>,
    workers: usize,
    took: u64,
    seconds: u64,
) -> Vec<u64> {
    let given = Rc::new(RefCell::new(Vec::new()));
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let worker = || async {
        loop {
            let permit = limiter.permit(need).await;
            if Instant::now() >= end {
                return;
            }
            given.borrow_mut().push(begin.elapsed().as_millis() as u64);
            sleep(Duration::from_millis(took)).await;
            permit.answered(need.key, Answered::Taken);
        }
    };
    let all = futures::future::join_all((0..workers).map(|_| worker()));
    let _ = tokio::time::timeout_at(end + Duration::from_secs(1), all).await;
    given.take()
}

fn in_worst_second(given: &[u64]) -> usize {
    let mut first = 0;
    let windows = given.iter().enumerate().map(|(last, at)| {
        while given[first] + 1_000 <= *at {
            first += 1;
        }
        last + 1 - first
    });
    windows.max().unwrap_or(0)
}

fn limiter(budgets: Budgets, concurrency: usize) -> Limiter {
    Limiter::new(&budgets, concurrency, 1)
}

#[tokio::test(start_paused = true)]
async fn no_second_is_above_a_ceiling_and_none_is_wasted() {
    for rate in [10, 100, 1_000, 3_500] {
        let set = NonZeroU32::new(rate);
        let of = |kind: &str| match kind {
            "writes" => Budgets {
                writes: set,
                ..Budgets::default()
            },
            "requests" => Budgets {
                requests: set,
                ..Budgets::default()
            },
            "kms" => Budgets {
                kms: set,
                ..Budgets::default()
            },
            _ => Budgets {
                bytes: NonZeroU64::new(u64::from(rate) * 100),
                ..Budgets::default()
            },
        };
        for kind in ["writes", "requests", "kms", "bytes"] {
            let limiter = limiter(of(kind), 256);
            let need = Need {
                units: Units {
                    requests: 1,
                    bytes: 100,
                    kms: 1,
                    may_ask_kms: true,
                },
                ..ONE_WRITE
            };
            let given = given(&limiter, need, 256, 20, 6).await;
            assert!(
                in_worst_second(&given) <= rate as usize,
                "{kind} {rate}/s: {}",
                in_worst_second(&given)
            );
            let share = given.len() as f64 / f64::from(rate) / 6.0;
            // The first seconds ramp up.
            assert!(share > 0.95, "{kind} {rate}/s: {share}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_one_budget_holds_up_nobody_who_needs_another() {
    let budgets = Budgets {
        kms: NonZeroU32::new(1),
        prefix_writes: NonZeroU32::new(1),
        prefix_depth: Depth::Levels(1),
        bytes: NonZeroU64::new(10),
        ..Budgets::default()
    };
    let limiter = limiter(budgets, 64);
    let units = Units::ONE;
    let crowd = [
        Need {
            units: Units {
                kms: 1,
                may_ask_kms: true,
                ..units
            },
            ..Need::read("k")
        },
        Need {
            units: Units { bytes: 10, ..units },
            ..Need::read("k")
        },
        Need::write("slow/k"),
    ];
    let crowds = crowd.iter().map(|need| given(&limiter, *need, 20, 1, 10));
    let others = given(&limiter, Need::read("k"), 4, 1, 10);
    let (crowds, others) = tokio::join!(futures::future::join_all(crowds), others);
    for given in crowds {
        assert!((9..=12).contains(&given.len()), "{}", given.len());
    }
    assert!(others.len() > 10_000, "{}", others.len());
}

#[tokio::test(start_paused = true)]
async fn each_prefix_has_its_own_ceiling() {
    let budgets = Budgets {
        prefix_writes: NonZeroU32::new(100),
        ..Budgets::default()
    };
    let limiter = limiter(budgets, 64);
    let keys = ["a/k", "b/k", "c/k"];
    // All of them are known from here on.
    for key in keys {
        limiter.permit(Need::write(key)).await.unused();
    }
    let given = keys.map(|key| given(&limiter, Need::write(key), 8, 5, 10));
    for given in futures::future::join_all(given).await {
        assert!((950..=1_010).contains(&given.len()), "{}", given.len());
        assert!(
            in_worst_second(&given) <= 101,
            "{}",
            in_worst_second(&given)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_on_the_wire_than_may_be() {
    let limiter = limiter(Budgets::default(), 8);
    let (now, most) = (RefCell::new(0_usize), RefCell::new(0_usize));
    let worker = || async {
        for _ in 0..50 {
            let permit = limiter.permit(ONE_WRITE).await;
            *now.borrow_mut() += 1;
            let highest = (*now.borrow()).max(*most.borrow());
            *most.borrow_mut() = highest;
            sleep(Duration::from_millis(3)).await;
            *now.borrow_mut() -= 1;
            drop(permit);
        }
    };
    futures::future::join_all((0..40).map(|_| worker())).await;
    assert_eq!(most.take(), 8);
    assert_eq!(limiter.0.state().in_flight.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_takes_nothing_away() {
    let budgets = Budgets {
        writes: NonZeroU32::new(10),
        ..Budgets::default()
    };
    let limiter = limiter(budgets, 4);
    let begin = Instant::now();
    let mut impatient = 0;
    let mut given = 0;
    while begin.elapsed() < Duration::from_secs(10) {
        let (other, one) = tokio::join!(
            limiter.permit(ONE_WRITE),
            tokio::time::timeout(Duration::from_millis(1), limiter.permit(ONE_WRITE)),
        );
        match one {
            Ok(permit) => permit.unused(),
            Err(_) => impatient += 1,
        }
        given += 1;
        other.answered("a/k", Answered::Taken);
    }
    assert!(impatient > 0);
    assert!((95..=104).contains(&given), "{given}");
    assert_eq!(limiter.0.state().waiting, 0);
    assert_eq!(limiter.0.state().in_flight.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_holds_the_job_has_a_name() {
    let budgets = Budgets {
        writes: NonZeroU32::new(100),
        ..Budgets::default()
    };
    let rate = limiter(budgets, 64);
    given(&rate, ONE_WRITE, 32, 5, 3).await;
    assert_eq!(rate.pressure().held_by, Some(Limit::Rate));
    assert_eq!(rate.pressure().writes_per_second, 100.0);
    let wire = limiter(Budgets::default(), 2);
    given(&wire, ONE_WRITE, 32, 50, 3).await;
    assert_eq!(wire.pressure().held_by, Some(Limit::Concurrency));
    let nothing = limiter(Budgets::default(), 64);
    given(&nothing, ONE_WRITE, 2, 50, 3).await;
    assert_eq!(nothing.pressure().held_by, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_wants_to_be_left_alone_is() {
    let limiter = limiter(Budgets::default(), 64);
    let alone = Duration::from_secs(7);
    for by in Throttler::ALL {
        let need = Need {
            units: Units {
                kms: 1,
                may_ask_kms: true,
                ..Units::ONE
            },
            ..ONE_WRITE
        };
        let told = Instant::now();
        for _ in 0..60 {
            let refused = Answered::TooMany(by, Some(alone));
            limiter.permit(need).await.answered("a/k", refused);
        }
        limiter.permit(need).await.answered("a/k", Answered::Taken);
        assert!(told.elapsed() >= alone, "{by:?}: {:?}", told.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn where_many_wait_for_a_prefix_there_is_a_crowd() {
    let budgets = Budgets {
        prefix_writes: NonZeroU32::new(1),
        prefix_depth: Depth::Levels(1),
        ..Budgets::default()
    };
    let limiter = limiter(budgets, 32);
    assert_eq!(limiter.crowd("slow/k"), None);
    let slow = given(&limiter, Need::write("slow/k"), 10, 1, 5);
    let look = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(limiter.crowd("other/k"), None);
        let crowd = limiter.crowd("slow/k").expect("ten wait");
        assert!(!limiter.has_room(crowd));
        crowd
    };
    let (_, crowd) = tokio::join!(slow, look);
    // Those who have given up go with the next permit.
    sleep(Duration::from_secs(1)).await;
    assert!(limiter.has_room(crowd));
}

#[tokio::test(start_paused = true)]
async fn kms_slows_what_may_ask_it_and_nothing_else() {
    let limiter = limiter(Budgets::default(), 64);
    let with_bucket_key = Need {
        units: Units {
            may_ask_kms: true,
            ..Units::ONE
        },
        ..ONE_WRITE
    };
    let refused = Answered::TooMany(Throttler::Kms, None);
    for _ in 0..200 {
        limiter
            .permit(with_bucket_key)
            .await
            .answered("a/k", refused);
    }
    let slowed = given(&limiter, with_bucket_key, 16, 1, 2);
    let others = given(&limiter, Need::write("k"), 4, 1, 2);
    let (slowed, others) = tokio::join!(slowed, others);
    assert!(others.len() > 1_500, "{}", others.len());
    assert!(
        slowed.len() * 4 < others.len(),
        "{} of {}",
        slowed.len(),
        others.len()
    );
}
