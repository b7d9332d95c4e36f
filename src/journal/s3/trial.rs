//! Whether a store can keep a state: of many who make one object at once, one must win.

use futures::future::join_all;

use super::{Home, is_there_already, patiently};
use crate::journal::StateError;
use crate::s3::PutBytes;
use crate::s3_error::S3Error;

/// The object that says what the prefix is.
const LOCK: &str = "lock";

/// What is in it.
const LOCK_TEXT: &[u8] =
    b"The objects below this prefix are the state of a job of reseal. Whoever changes or removes one breaks it.\n";

/// The largest object that is read to see whether it is that: what else has the name may be anything.
const LOCK_BYTES_MAX: u64 = 4096;

/// How many make an object at once. Source: Garage 2.5.0 let 16 of 16 win, though it refuses the second of two that come one after
/// the other.
const RACERS: usize = 8;

/// How often they do, each time another object: the first time they still wait for their connections.
const ROUNDS: usize = 2;

/// Makes sure that the prefix is a state's, or can become one's.
///
/// # Errors
/// [`StateError::NoConditionalCreate`]; [`StateError::Damaged`] where something else has the lock's name; what the store answered.
pub(super) async fn hold(home: &Home) -> Result<(), StateError> {
    match home.get(LOCK, LOCK_BYTES_MAX).await? {
        Some(text) if text == LOCK_TEXT => {}
        Some(_) => {
            let problem = "something else has the name that reseal marks a state with";
            return Err(StateError::damaged(&home.url(LOCK), 0, problem));
        }
        None => {
            for _ in 0..ROUNDS {
                race(home).await?;
            }
            home.create(LOCK, LOCK_TEXT).await?;
        }
    }
    // A store, or something before it, may have come to take the condition for nothing since.
    match patiently(|| home.put(LOCK, LOCK_TEXT, PutBytes::New)).await {
        Ok(()) => Err(unfit(home)),
        Err(error) if is_there_already(&error) => Ok(()),
        Err(error) => Err(refused(home, error)),
    }
}

async fn race(home: &Home) -> Result<(), StateError> {
    match patiently(|| race_once(home)).await {
        Ok(1) => Ok(()),
        Ok(_) => Err(unfit(home)),
        Err(error) => Err(refused(home, error)),
    }
}

/// How many won. An error where that can't be told.
async fn race_once(home: &Home) -> Result<usize, S3Error> {
    let name = format!("trial-{:016x}", rand::random::<u64>());
    let bodies: Vec<_> = (0..RACERS).map(|racer| format!("{racer}\n")).collect();
    let racers = bodies
        .iter()
        .map(|body| home.put(&name, body.as_bytes(), PutBytes::New));
    let answers = join_all(racers).await;
    // Whoever may not remove it has an object of two bytes there.
    let _ = home
        .s3
        .put_delete_marker(&home.bucket, &home.key(&name))
        .await;
    let winners = answers.iter().filter(|answer| answer.is_ok()).count();
    if winners > 1 {
        return Ok(winners);
    }
    // A 409 is for somebody who came while another was at it.
    let lost = |error: &S3Error| is_there_already(error) || error.http_status == 409;
    let mut errors: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| (lost(error), is_there_already(error)));
    match errors.into_iter().next() {
        Some(error) if winners == 0 || !lost(&error) => Err(error),
        _ => Ok(winners),
    }
}

fn unfit(home: &Home) -> StateError {
    StateError::NoConditionalCreate {
        place: home.url(""),
    }
}

/// Stores that don't know the condition say so in one of these ways.
fn refused(home: &Home, error: S3Error) -> StateError {
    let unknown = match error.http_status {
        501 => true,
        400 => matches!(
            error.code.as_str(),
            "InvalidArgument" | "InvalidRequest" | "NotImplemented" | "NotSupported"
        ),
        _ => false,
    };
    if unknown {
        unfit(home)
    } else {
        home.error("write", "", error)
    }
}
