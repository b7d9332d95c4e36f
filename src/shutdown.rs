//! Being asked to stop: once is politely, twice is now.

use std::io;

use tokio::sync::watch;

/// How urgently the process has been asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Not at all.
    None,
    /// Admit nothing more, let what is in flight finish.
    Drain,
    /// Stop now; what is in flight is looked at by the next run.
    Now,
}

/// Where the engine hears of it.
pub type Shutdown = watch::Receiver<Urgency>;

/// Turns SIGTERM and SIGINT into [`Urgency`]: the first drains, the second stops. Must be called inside the runtime.
///
/// # Errors
/// The signal handlers could not be installed.
pub fn on_signals() -> io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(Urgency::None);
    tokio::spawn(async move {
        for urgency in [Urgency::Drain, Urgency::Now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            sender.send_replace(urgency);
        }
        // Keeps the channel open: a closed one would read as an answer.
        sender.closed().await;
    });
    Ok(receiver)
}

/// A shutdown that never comes.
pub fn never() -> Shutdown {
    let (sender, receiver) = watch::channel(Urgency::None);
    tokio::spawn(async move { sender.closed().await });
    receiver
}
