//! The rewrite of all versions of a key, in their order.

use super::{Stop, Task};
use crate::encryption::Target;
use crate::outcome::TaskOutcome;

impl Task<'_, '_> {
    pub(super) async fn restack(&mut self, _target: &Target) -> Result<TaskOutcome, Stop> {
        Err(Stop::Row(crate::plan::Refusal::Noncurrent.to_failure()))
    }
}
