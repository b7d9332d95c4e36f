//! How fast a manifest is read, against the csv crate alone on the same file; or one that is there, in any format.

use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use reseal::manifest::{Origin, Preparation, Reading, RowReader, Source};

use super::number;
use super::run::{Manifest, Rows};

pub fn run() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::var_os("RESEAL_BENCH_MANIFEST") {
        return given(Path::new(&path));
    }
    let objects = number("RESEAL_BENCH_ROWS", 1_000_000)?;
    for (name, rows) in [
        ("gzip, full rows", Rows::Full),
        ("plain, bare rows", Rows::Bare),
    ] {
        let manifest = Manifest::write(rows, objects)?;
        let per_second = |began: Instant| objects as f64 / began.elapsed().as_secs_f64() / 1e6;
        let began = Instant::now();
        csv_alone(&manifest.data, rows == Rows::Full)?;
        let alone = per_second(began);
        let source = Source::detect(&manifest.path, "bench", &Reading::default())?;
        let began = Instant::now();
        let mut preparation = Preparation::new(&source, &Reading::default());
        let mut go_on = |_| ControlFlow::Continue(());
        preparation.add_part(&manifest.data, Origin::Local, &mut go_on)?;
        let prepared = preparation.finish()?;
        let preparing = per_second(began);
        let began = Instant::now();
        let reader = RowReader::open(&manifest.data, &prepared, 0)?;
        let read = reader
            .map(|row| row.map(|_| 1_u64))
            .sum::<Result<u64, _>>()?;
        assert_eq!(read, objects, "rows were lost");
        println!(
            "{name:<17} {:.2} M rows/s read, {preparing:.2} M/s prepared, {alone:.2} M/s by the csv crate alone",
            per_second(began)
        );
    }
    Ok(())
}

/// One `manifest.json` with its data files beside it.
fn given(path: &Path) -> Result<(), Box<dyn Error>> {
    let reading = Reading::default();
    let source = Source::detect(path, "bench", &reading)?;
    let Source::Inventory(inventory) = &source else {
        return Err("RESEAL_BENCH_MANIFEST is no inventory's manifest.json".into());
    };
    let files: Vec<_> = inventory
        .files
        .iter()
        .map(|file| source.find_local(path, &file.key))
        .collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut preparation = Preparation::new(&source, &reading);
    for file in &files {
        preparation.add_part(file, Origin::Local, &mut |_| ControlFlow::Continue(()))?;
    }
    let prepared = preparation.finish()?;
    let preparing = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut read = 0_u64;
    for (index, file) in files.iter().enumerate() {
        for row in RowReader::open(file, &prepared, index)? {
            row?;
            read += 1;
        }
    }
    assert_eq!(read, prepared.rows, "rows were lost");
    let millions = read as f64 / 1e6;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "{:.2} M rows/s read, {:.2} M/s prepared; {}",
        millions / began.elapsed().as_secs_f64(),
        millions / preparing,
        peak.unwrap_or_default()
    );
    Ok(())
}

fn csv_alone(path: &Path, is_gzip: bool) -> Result<(), Box<dyn Error>> {
    let file = File::open(path)?;
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).buffer_capacity(128 << 10);
    let mut record = csv::ByteRecord::new();
    if is_gzip {
        let mut reader = builder.from_reader(MultiGzDecoder::new(file));
        while reader.read_byte_record(&mut record)? {}
    } else {
        let mut reader = builder.from_reader(file);
        while reader.read_byte_record(&mut record)? {}
    }
    Ok(())
}
