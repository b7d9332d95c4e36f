//! The rewrite in parts: a multipart copy of the object onto itself.

use super::{Look, Stop, Task};
use crate::encryption::Target;
use crate::s3::{Carry, Written};

impl<'a> Task<'_, 'a> {
    pub(super) async fn copy_in_parts(
        &mut self,
        _look: &Look<'a>,
        _target: &Target,
        _carry: &Carry,
    ) -> Result<Option<Written>, Stop> {
        Err(Stop::Row(crate::plan::Refusal::TooLarge.to_failure()))
    }
}
