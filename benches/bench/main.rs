//! What reseal costs, and how well it keeps to its limits, against a store that does nothing.
//!
//! ```text
//! cargo run --release --example bench                         all of it, in some minutes
//! cargo run --release --example bench -- cost capacity        these alone
//! ```
//!
//! `README.md` in the folder above has the results, and says how to read them.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark tells its result on standard output"
)]

mod floor;
mod limits;
mod listing;
mod null_s3;
mod peers;
mod resume;
mod rows;
mod run;

use std::error::Error;

// As in the binary, so that what is compared differs in nothing else.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn Error>>;

/// One thing that is measured.
struct Benchmark {
    name: &'static str,
    run: fn() -> Outcome,
}

const BENCHMARKS: [Benchmark; 10] = [
    Benchmark {
        name: "cost",
        run: floor::cost,
    },
    Benchmark {
        name: "memory",
        run: limits::memory,
    },
    Benchmark {
        name: "latency",
        run: limits::latency,
    },
    Benchmark {
        name: "capacity",
        run: limits::capacity,
    },
    Benchmark {
        name: "rate",
        run: limits::rate,
    },
    Benchmark {
        name: "faults",
        run: limits::faults,
    },
    Benchmark {
        name: "permit",
        run: limits::permit,
    },
    Benchmark {
        name: "rows",
        run: rows::run,
    },
    Benchmark {
        name: "resume",
        run: resume::run,
    },
    Benchmark {
        name: "listing",
        run: listing::run,
    },
];

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["measure", ..] => return run::measure(&arguments[1..]),
        ["null-s3", listen, behaviour @ ..] => {
            let behaviour = behaviour.first().copied().unwrap_or_default().parse()?;
            return null_s3::serve(listen.parse()?, behaviour);
        }
        ["peers", tools] => return peers::run(tools.as_ref()),
        ["floor", which, url, objects] => return floor::send(which, url, objects.parse()?),
        _ => {}
    }
    let is_known = |word: &&&str| BENCHMARKS.iter().any(|benchmark| benchmark.name == **word);
    if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
        let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        return Err(format!("{unknown} is none of {}", names.join(", ")).into());
    }
    for Benchmark { name, run } in BENCHMARKS {
        if words.is_empty() || words.contains(&name) {
            println!("\n# {name}");
            run()?;
        }
    }
    Ok(())
}

/// How many of something, from the environment.
fn number(name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(number) => Ok(number.parse()?),
        Err(_) => Ok(default),
    }
}
