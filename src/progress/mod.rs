//! How a run is told to the person who started it: a bar on a terminal, a line every few seconds elsewhere.
//!
//! `view::View` folds the events and finds the words; this file decides where they go and when. Lines go through
//! `tracing`, or above the bar where there is one, so that they never cut through it. A bar redraws itself on a thread of
//! its own and so shows a stall; a line is written when an event comes and one is due.

mod view;

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::time::Instant;

use crate::event::{Event, Level};
use crate::outcome::TaskOutcome;
use view::View;

/// One progress line in so much time, where there is no terminal.
pub const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The first line comes earlier: it says that things move.
pub const FIRST_LOG_AFTER: Duration = Duration::from_secs(1);

/// The bar redraws itself in this rhythm.
const BAR_TICK: Duration = Duration::from_millis(200);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar on stderr; where stderr is no terminal, [`Style::Log`] instead.
    Bar,
    /// A line every [`LOG_INTERVAL`], and one at every change of phase.
    Log,
    /// No progress. Warnings and the first failures are still logged.
    None,
}

/// The listener.
pub struct Progress {
    view: Arc<Mutex<View>>,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Log(Due),
    None,
}

impl Progress {
    /// Begins to show; the run is in its preparing phase.
    pub fn new(style: Style) -> Self {
        match style {
            Style::Bar => Self::with_target(ProgressDrawTarget::stderr()),
            Style::Log => Self::with(|_| Shown::Log(Due::new(Instant::now()))),
            Style::None => Self::with(|_| Shown::None),
        }
    }

    fn with(shown: impl FnOnce(&Arc<Mutex<View>>) -> Shown) -> Self {
        let view = Arc::default();
        let shown = shown(&view);
        Self { view, shown }
    }

    fn with_target(target: ProgressDrawTarget) -> Self {
        if target.is_hidden() {
            return Self::new(Style::Log);
        }
        Self::with(|view| {
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(bar_style("{spinner} {told}", view));
            bar.enable_steady_tick(BAR_TICK);
            Shown::Bar(bar)
        })
    }

    /// Takes one event.
    pub fn on(&mut self, event: &Event<'_>) {
        self.on_at(event, Instant::now());
    }

    fn on_at(&mut self, event: &Event<'_>, now: Instant) {
        let level = match event {
            Event::Warning { .. } => Some(Level::Warning),
            Event::Finding { level, .. } => Some(*level),
            Event::StallEnded { .. } | Event::HoldBegan { .. } | Event::HoldEnded { .. } => {
                Some(Level::Note)
            }
            _ => None,
        };
        // The bar's thread asks for the view while it holds the bar: never touch the bar while holding the view.
        let notice = self.view().on(event, now);
        if let Some(notice) = notice {
            let code = match event {
                Event::Finding { code, .. } => Some(*code),
                Event::Settled {
                    outcome: TaskOutcome::Failed(failure),
                    ..
                } => Some(failure.code.as_str()),
                _ => None,
            };
            self.tell(&notice, level, code);
        }
        let is_line_due = match &mut self.shown {
            Shown::Log(due) => due.is_due(event, now),
            Shown::Bar(_) | Shown::None => false,
        };
        match &self.shown {
            Shown::Bar(bar) => self.move_bar(bar, event),
            Shown::Log(_) if is_line_due => {
                let (line, figures) = {
                    let view = self.view();
                    (view.line(now), view.figures(now))
                };
                tracing::info!(
                    run.phase = figures.phase,
                    run.rows = figures.rows,
                    run.settled = figures.settled,
                    run.failed = figures.failed,
                    run.in_flight = figures.in_flight,
                    run.rows_per_second = figures.rows_per_second,
                    run.seconds_left = figures.seconds_left,
                    run.limited_by = figures.limited_by,
                    run.retries = figures.retries,
                    run.throttles = figures.throttles,
                    "{line}"
                );
            }
            Shown::Log(_) | Shown::None => {}
        }
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, line: &str, level: Option<Level>, code: Option<&str>) {
        match (&self.shown, level) {
            (Shown::Bar(bar), Some(level)) => bar.println(format!("{}: {line}", level.name())),
            (Shown::Bar(bar), None) => bar.println(line),
            (Shown::Log(_) | Shown::None, Some(Level::Note)) => {
                tracing::info!(run.code = code, "{line}")
            }
            (Shown::Log(_) | Shown::None, _) => tracing::warn!(run.code = code, "{line}"),
        }
    }

    fn move_bar(&self, bar: &ProgressBar, event: &Event<'_>) {
        match event {
            Event::Started { total, .. } => {
                let settled = self.view().settled();
                bar.set_style(bar_style("[{bar:24}] {told}", &self.view));
                bar.set_length(*total);
                bar.set_position(settled);
            }
            Event::Settled { .. } => {
                let settled = self.view().settled();
                bar.set_position(settled);
            }
            Event::Finished { .. } => bar.finish_and_clear(),
            _ => {}
        }
    }

    /// A writer to stderr for log lines, which it puts above the bar where there is one.
    pub fn writer(&self) -> StderrBesideBar {
        StderrBesideBar(match &self.shown {
            Shown::Bar(bar) => Some(bar.clone()),
            Shown::Log(_) | Shown::None => None,
        })
    }
}

impl Drop for Progress {
    /// A run that ends by an error leaves no half-drawn bar under its message.
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// How far something is that has no rows to go by: a line that is redrawn on a terminal, and written every [`LOG_INTERVAL`] elsewhere.
pub struct Ticker {
    bar: Option<ProgressBar>,
    /// When the next line is due; never, where none is wanted.
    due: Option<Instant>,
}

impl Ticker {
    /// Nothing has been told yet.
    pub fn new(style: Style) -> Self {
        let target = ProgressDrawTarget::stderr();
        let bar = (style == Style::Bar && !target.is_hidden()).then(|| {
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").expect("it is a constant"),
            );
            bar.enable_steady_tick(BAR_TICK);
            bar
        });
        let is_log = bar.is_none() && style != Style::None;
        Self {
            bar,
            due: is_log.then(|| Instant::now() + FIRST_LOG_AFTER),
        }
    }

    /// How far it is now; lines are made where they are shown.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if let Some(bar) = &self.bar {
            bar.set_message(line());
        } else if self.due.is_some_and(|due| due <= now) {
            self.due = Some(now + LOG_INTERVAL);
            tracing::info!("{}", line());
        }
    }

    /// A writer to stderr for log lines, which it puts above the line where there is one.
    pub fn writer(&self) -> StderrBesideBar {
        StderrBesideBar(self.bar.clone())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes to stderr without cutting through the bar.
#[derive(Clone)]
pub struct StderrBesideBar(Option<ProgressBar>);

impl Write for StderrBesideBar {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(bar) => bar.suspend(|| io::stderr().write(text)),
            None => io::stderr().write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn bar_style(template: &str, view: &Arc<Mutex<View>>) -> ProgressStyle {
    let view = Arc::clone(view);
    ProgressStyle::with_template(template)
        .expect("the template is a constant that a test draws")
        .progress_chars("=> ")
        .with_key(
            "told",
            move |_: &ProgressState, out: &mut dyn fmt::Write| {
                let view = view.lock().unwrap_or_else(PoisonError::into_inner);
                // The buffer is indicatif's own; there is nobody to tell.
                let _ = out.write_str(&view.line(Instant::now()));
            },
        )
}

/// When the next progress line is due.
struct Due {
    at: Instant,
    /// There were rows to begin with: what ends before that has nothing to tell but its error.
    has_begun: bool,
}

impl Due {
    fn new(now: Instant) -> Self {
        Self {
            at: now + FIRST_LOG_AFTER,
            has_begun: false,
        }
    }

    fn is_due(&mut self, event: &Event<'_>, now: Instant) -> bool {
        self.has_begun |= matches!(event, Event::Started { .. });
        let is_change = match event {
            Event::Started { .. }
            | Event::Draining { .. }
            | Event::HoldBegan { .. }
            | Event::HoldEnded { .. }
            | Event::StallEnded { .. } => true,
            Event::Finished { .. } => self.has_begun,
            _ => false,
        };
        let is_due = is_change || now >= self.at;
        if is_due {
            self.at = now
                + if matches!(event, Event::Started { .. }) {
                    FIRST_LOG_AFTER
                } else {
                    LOG_INTERVAL
                };
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
