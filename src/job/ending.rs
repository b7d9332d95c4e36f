//! How a run ends: its exit code, why the job failed, and who is told.

use std::cell::RefCell;
use std::time::Duration;

use super::{Done, Listeners, Run, push};
use crate::engine::{Crossed, End};
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::human;
use crate::outcome::CAME_BACK_WRONG;
use crate::shutdown::{self, Shutdown};

/// Most time that a job that has failed serves its metrics on: a scrape at the usual interval of 15 s. Kubernetes stops the pods of
/// other shards only once this process has ended.
const LINGER_FAILED_MAX: Duration = Duration::from_secs(20);

/// Characters of a key that the error of a job shows.
const KEY_CHARS_MAX: usize = 1_024;

/// The exit code of an end, and the error behind a job that failed.
pub(super) fn judge(end: End, failed_rows: u64) -> (Exit, Option<Error>) {
    match end {
        End::Complete if failed_rows == 0 => (Exit::Complete, None),
        End::Complete => (Exit::RowsFailed, None),
        End::Interrupted => (Exit::Interrupted, None),
        End::Fault(error) => {
            let error = Error::from(error);
            (error.exit, Some(error))
        }
        End::Stopped(error) => (error.exit, Some(error)),
        End::CameBackWrong { key, what } => {
            let key = human::sanitize(&key, KEY_CHARS_MAX);
            let error = Error::new(
                Exit::JobFailed,
                format!("{key} came back wrong after its rewrite: {what}"),
            )
            .hint(
                "don't run this again: look at the object first, and at those that were rewritten before it, which the \
                 report lists as succeeded",
            );
            (error.exit, Some(error))
        }
        End::StoppedOn { key, failure } => {
            let clean = |text: &str| human::sanitize(text, KEY_CHARS_MAX);
            let (code, message) = (clean(&failure.code), clean(&failure.message));
            let error = Error::new(
                Exit::JobFailed,
                format!(
                    "{} failed with {code}, which --stop-on names: {message}",
                    clean(&key)
                ),
            )
            .hint("it is not settled: remove the cause, then the same command goes on with it");
            (error.exit, Some(error))
        }
        End::ThresholdCrossed(crossed) => {
            let error = too_many_failed(crossed, "");
            (error.exit, Some(error))
        }
    }
}

/// Objects of earlier runs that came back wrong, and nobody has said since that they were looked at.
pub(super) fn came_back_wrong(objects: u64) -> Error {
    let what = human::count_of(objects, "object");
    Error::new(
        Exit::JobFailed,
        format!(
            "{what} came back wrong in earlier runs of this job: the report's rows that failed with {CAME_BACK_WRONG}; nothing is rewritten"
        ),
    )
    .hint(format!(
        "look at them, and at what was rewritten before them; --acknowledge-wrong {objects} goes on with the others, and reads back the \
         first of them again"
    ))
}

/// `when`: nothing for this run, or that it was before it.
pub(super) fn too_many_failed(crossed: Crossed, when: &str) -> Error {
    let Crossed {
        failed,
        settled,
        percent,
    } = crossed;
    Error::new(
        Exit::JobFailed,
        format!(
            "{failed} of {settled} rows failed{when}, more than the failure threshold of {percent} % allows"
        ),
    )
    .hint(
        "see the report's failed rows; with a higher --failure-threshold the same command goes on with what is left",
    )
}

impl Run<'_> {
    /// Tells a Pushgateway how the run has ended. A runner that was replaced has nothing to say: its successor does.
    pub(super) async fn push_the_end(
        &self,
        done: &Result<Done, Error>,
        listeners: &RefCell<Listeners>,
    ) {
        let exit = match done {
            Ok(done) => done.exit,
            Err(error) => {
                // There is no summary to tell the others.
                let exit = error.exit;
                let finished = Event::Finished { exit };
                listeners.borrow_mut().metrics.on(&finished);
                exit
            }
        };
        let is_of_another = done.as_ref().is_err_and(|error| error.is_of_another);
        if let Some(gateway) = self.config.pushgateway.as_ref().filter(|_| !is_of_another) {
            let text = listeners.borrow().metrics.last_run(exit);
            if let Err(why) = push::last_run(gateway, self.config.shard, text).await {
                let message = format!("the summary of the run was not pushed to {gateway}: {why}");
                (self.emit)(Event::Warning { message: &message });
            }
        }
    }

    /// Lets Prometheus see the end.
    pub(super) async fn linger(&self, exit: Exit, shutdown: &mut Shutdown) {
        let lingers = match exit {
            Exit::Interrupted => Duration::ZERO,
            Exit::JobFailed | Exit::State => self.config.metrics_linger.min(LINGER_FAILED_MAX),
            _ => self.config.metrics_linger,
        };
        if self.config.metrics_listen.is_some() {
            tokio::select! {
                () = tokio::time::sleep(lingers) => {}
                _ = shutdown::asked(shutdown) => {}
            }
        }
    }
}
