//! The README, held against the command line, the exit codes and the names of outcomes.

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory as _;
use reseal::cli::Cli;
use reseal::exit::Exit;
use reseal::outcome::SkipReason;
use reseal::plan::Refusal;

fn text(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One section, by its heading.
fn section<'a>(readme: &'a str, heading: &str) -> &'a str {
    let (_, rest) = readme
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("a section {heading:?}"));
    rest.split("\n## ").next().expect("its text")
}

/// The first cells of a section's tables, without their back-ticks.
fn first_cells(section: &str) -> Vec<String> {
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row[1..].split('|').next().unwrap_or_default())
        .map(|cell| cell.trim().trim_matches('`').to_owned())
        .collect()
}

#[test]
fn every_flag_has_a_row_with_its_variable() {
    let readme = text("README.md");
    let table = section(&readme, "Flags");
    let mut cli = Cli::command();
    cli.build();
    for name in [
        "run",
        "plan",
        "inventory",
        "verify",
        "undo",
        "status",
        "report",
        "demo",
    ] {
        let command = cli.find_subcommand(name).expect("a command");
        let heads = [
            format!("| **`reseal {name}`**"),
            format!("| **`reseal {name} "),
        ];
        let mut rows = heads.iter().filter_map(|head| table.split_once(head));
        let (_, rows) = rows.next().expect("its rows");
        let rows = rows.split("\n| **").next().unwrap_or_default();
        let rows: Vec<_> = rows.lines().map(|row| (flags(row), row)).collect();
        for argument in command.get_arguments().filter(|argument| {
            !argument.is_global_set()
                && !argument.is_positional()
                && !["help", "version"].contains(&argument.get_id().as_str())
        }) {
            let flag = argument.get_long().expect("flags only");
            let row = rows.iter().find(|(flags, _)| flags.contains(&flag));
            let (flags, row) = row.unwrap_or_else(|| panic!("no row for {name} --{flag}"));
            if let Some(variable) = argument.get_env().and_then(|name| name.to_str()) {
                let usual = format!("RESEAL_{}", flag.to_uppercase().replace('-', "_"));
                let told = match flags.len() {
                    1 => variable,
                    _ if variable == usual => "RESEAL_…",
                    _ => panic!("{variable} is told nowhere"),
                };
                assert!(row.contains(&format!("`{told}`")), "{variable} in {row}");
            }
        }
        for flag in rows.iter().flat_map(|(flags, _)| flags) {
            let known = command
                .get_arguments()
                .any(|argument| argument.get_long() == Some(flag));
            assert!(known, "{name} has no --{flag}");
        }
    }
}

/// The flags in a row's first cell: one, or those that another command has too.
fn flags(row: &str) -> Vec<&str> {
    let cell = row[..row.find(" | ").unwrap_or(row.len())].split("`--");
    cell.skip(1)
        .filter_map(|text| text.split(['`', ' ']).next())
        .collect()
}

#[test]
fn the_exit_codes_are_these() {
    let readme = text("README.md");
    let told: Vec<u8> = first_cells(section(&readme, "Exit codes"))
        .iter()
        .filter_map(|cell| cell.parse().ok())
        .collect();
    assert_eq!(told, Exit::ALL.map(Exit::code));
}

#[test]
fn every_reason_and_every_refusal_is_explained() {
    let readme = text("README.md");
    let told: BTreeSet<_> = first_cells(section(&readme, "What is refused, and what is skipped"))
        .into_iter()
        .collect();
    for reason in SkipReason::ALL {
        assert!(told.contains(reason.name()), "{reason}");
    }
    for refusal in Refusal::ALL {
        let code = refusal.to_failure().code;
        assert!(told.contains(&code), "{code}");
    }
}

#[test]
fn the_two_commands_are_there_and_ci_runs_the_second() {
    let readme = text("README.md");
    let (start, _) = readme.split_once("\n## ").expect("sections");
    assert!(start.contains("\n    cargo run --release -- demo\n    cargo test\n"));
    assert!(text(".ci/run").lines().any(|line| line == "cargo test"));
}

/// The table of metrics is the one in the source: names in its order, kinds, labels.
#[test]
fn the_metrics_are_these() {
    let readme = text("README.md");
    let section = section(&readme, "Metrics");
    let mut told = Vec::new();
    for row in section.lines().filter(|row| row.starts_with("| `reseal_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split('`').skip(1).step_by(2);
        let mut labels: Vec<_> = labels.map(str::to_owned).collect();
        labels.retain(|label| !label.starts_with("reseal_"));
        told.push((
            cells[1].trim_matches('`').to_owned(),
            cells[2].to_owned(),
            labels,
        ));
    }
    let known = crate::support::promql::metrics().map(|metric| {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = metric.labels.iter().map(|label| label.name.to_owned());
        (metric.name.to_owned(), kind, labels.collect::<Vec<_>>())
    });
    assert_eq!(told, known.collect::<Vec<_>>());
}
