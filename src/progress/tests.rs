use std::fmt::Debug;

use indicatif::TermLike;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::event::Limit;
use crate::exit::Exit;
use crate::outcome::{Failure, SkipReason, Tally, TaskOutcome};

/// Everything that was written, in order.
#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<String>>);

impl Screen {
    fn text(&self) -> String {
        self.0.lock().expect("unpoisoned").clone()
    }

    fn add(&self, text: &str) -> io::Result<()> {
        self.0.lock().expect("unpoisoned").push_str(text);
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        200
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Screen {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(text))?;
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

const SKIPPED: TaskOutcome = TaskOutcome::Skipped(SkipReason::AlreadyEncrypted);

fn settled(outcome: &TaskOutcome) -> Event<'_> {
    Event::Settled {
        key: "some/key",
        outcome,
    }
}

/// What is logged by a run of 100 rows over 70 seconds, one of them failed, that is on hold for two of them.
fn logged(style: Style) -> Vec<String> {
    let screen = Screen::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(screen.clone())
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let start = Instant::now();
        let mut progress = Progress::new(style);
        let at = |ms: u64| start + Duration::from_millis(ms);
        progress.on_at(&Event::Preparing { rows: 50 }, at(10));
        let started = Event::Started {
            total: 100,
            before: &Tally::default(),
            doubtful: 0,
        };
        progress.on_at(&started, at(20));
        progress.on_at(&Event::Warning { message: "odd\n" }, at(30));
        let failed = TaskOutcome::Failed(Failure {
            code: "AccessDenied".to_owned(),
            http_status: 403,
            message: "Access Denied".to_owned(),
        });
        progress.on_at(&settled(&failed), at(40));
        for i in 2..=100 {
            progress.on_at(&settled(&SKIPPED), at(i * 700));
            if i == 10 {
                let by = Limit::Paused;
                let why = "by an operator";
                progress.on_at(&Event::HoldBegan { by, why }, at(7_000));
                let lasted = Duration::from_secs(2);
                progress.on_at(&Event::HoldEnded { by, lasted }, at(9_000));
            }
        }
        progress.on_at(
            &Event::Finished {
                exit: Exit::Complete,
            },
            at(70_100),
        );
    });
    screen
        .text()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn without_a_terminal_a_line_comes_now_and_then() {
    let lines = logged(Style::Log);
    let starts = [
        "INFO running: 0 of 100 rows (0.0 %), 0 in flight, 0 failed",
        "WARN odd\\n",
        "WARN failed: some/key: AccessDenied (403): Access Denied",
        "INFO running: 2 of 100 rows",
        "INFO on hold (paused): by an operator",
        "INFO on hold for 0.0s: 10 of 100 rows",
        "INFO no more on hold (paused), after 2.0s",
        "INFO running: 10 of 100 rows",
        "INFO running: 56 of 100 rows",
        "INFO running: 99 of 100 rows",
        "INFO finished: 100 of 100 rows (100.0 %), 1 failed",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start}: {lines:#?}");
    }
}

#[test]
fn without_progress_what_went_wrong_or_holds_is_still_told() {
    let lines = logged(Style::None);
    let starts = ["WARN odd", "WARN failed", "INFO on hold", "INFO no more"];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start}: {lines:#?}");
    }
}

#[test]
fn the_bar_shows_where_the_run_is_and_lines_stay_whole() {
    let screen = Screen::default();
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    let mut progress = Progress::with_target(target);
    progress.on(&Event::Preparing { rows: 7_000 });
    let started = Event::Started {
        total: 4,
        before: &Tally::default(),
        doubtful: 0,
    };
    progress.on(&started);
    for _ in 0..2 {
        progress.on(&settled(&SKIPPED));
    }
    progress.on(&Event::Warning {
        message: "look here",
    });
    let text = screen.text();
    assert!(text.contains("warning: look here"), "{text:?}");
    assert!(text.contains("running: 2 of 4 rows (50.0 %)"), "{text:?}");
    assert!(text.contains("[============>"), "{text:?}");
}

#[test]
fn a_bar_that_nobody_would_see_becomes_lines() {
    let progress = Progress::with_target(ProgressDrawTarget::hidden());
    assert!(matches!(progress.shown, Shown::Log(_)));
    assert!(progress.writer().0.is_none());
}
