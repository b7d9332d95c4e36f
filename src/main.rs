//! The binary: parse, run, tell what went wrong and what to do, exit.

use std::io::{self, Write as _};
use std::panic;
use std::process::ExitCode;

use clap::Parser as _;
use reseal::cli::{self, Cli};
use reseal::error::Error;
use reseal::exit::Exit;

/// Less CPU for each request than the system's allocator: the SDK allocates much and frees it soon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator would have them for everything that it reserves: half as much memory again, for no less CPU. Where the system
    // does not let us, it is that much more.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // Nothing is unwound, so that a panic anywhere ends the process: what is settled is on disk, and a core would have keys in it.
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(Exit::Internal.code().into())
    }));
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() {
            Exit::Usage
        } else {
            Exit::Complete
        };
        let _ = error.print();
        std::process::exit(code.code().into())
    });
    let exit = cli::execute(cli, &mut io::stdout().lock(), &fail);
    ExitCode::from(exit.code())
}

fn fail(error: &Error) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "error: {error}");
    if let Some(hint) = &error.hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}
