//! Whether standard input is what it was.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

/// What comparing with a kept file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// There was nothing to compare.
    Nothing,
    /// The same to the byte.
    Same,
    /// Something else.
    Differs,
}

/// Compares what `input` gives with a file.
///
/// # Errors
/// Either can't be read.
pub fn compare(input: &mut impl Read, kept: &Path) -> io::Result<Comparison> {
    let mut kept = BufReader::new(File::open(kept)?);
    let mut input = BufReader::new(input);
    let mut read = 0;
    loop {
        let given = input.fill_buf()?;
        if given.is_empty() {
            return Ok(match kept.fill_buf()? {
                _ if read == 0 => Comparison::Nothing,
                [] => Comparison::Same,
                _ => Comparison::Differs,
            });
        }
        let expected = kept.fill_buf()?;
        let both = given.len().min(expected.len());
        if both == 0 || given[..both] != expected[..both] {
            return Ok(Comparison::Differs);
        }
        read += both;
        input.consume(both);
        kept.consume(both);
    }
}
