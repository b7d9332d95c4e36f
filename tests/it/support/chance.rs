//! Chance comes from a seed that a failed test prints; `RESEAL_TEST_SEED` gives it again.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// A seed, printed.
#[expect(
    clippy::print_stdout,
    reason = "the harness shows it where the test fails"
)]
pub fn seed() -> u64 {
    let given = std::env::var("RESEAL_TEST_SEED").ok();
    let seed = given.map_or_else(
        || rand::rng().random(),
        |seed| seed.parse().expect("RESEAL_TEST_SEED is a number"),
    );
    println!("RESEAL_TEST_SEED={seed}");
    seed
}

pub fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// Whether the long form of a test is asked for.
pub fn long() -> bool {
    std::env::var_os("RESEAL_LONG_TESTS").is_some_and(|value| value == "1")
}
