//! Who comes first: while a file is there, or an address is not well, the job sends nothing.
//!
//! For the application that shares the bucket: whatever watches it creates the file, or answers other than 2xx.
//! Both mean what gh-ost's `--throttle-flag-file` and `--throttle-http` do.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use crate::event::Limit;
use crate::http::Http;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is looked at.
#[derive(Default)]
pub struct Throttle {
    /// The job holds while this is there.
    pub file: Option<PathBuf>,
    /// The job holds while this answers other than 2xx, or not at all.
    pub url: Option<(String, Http)>,
}

impl Throttle {
    /// Looks once, and tells of each whether it holds the job, and why.
    pub async fn look(&self, tell: impl Fn(Limit, Option<String>)) {
        if let Some(file) = &self.file {
            // A link to nothing is there, too.
            let why = match tokio::fs::symlink_metadata(file).await {
                Ok(_) => Some(format!("{} is there", file.display())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                // Whoever can't look does not know that it may go on.
                Err(error) => Some(format!("{}: {error}", file.display())),
            };
            tell(Limit::ThrottleFile, why);
        }
        if let Some((name, http)) = &self.url {
            let why = match http.get().await {
                Ok(200..=299) => None,
                Ok(status) => Some(format!("{name} answers {status}")),
                Err(error) => Some(format!("{name}: {error}")),
            };
            tell(Limit::ThrottleUrl, why);
        }
    }

    /// Looks again and again.
    pub async fn watch(&self, tell: impl Fn(Limit, Option<String>)) {
        loop {
            sleep(LOOK_EVERY).await;
            self.look(&tell).await;
        }
    }
}
