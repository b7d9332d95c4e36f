//! What a store has shown that it does: which ways of rewriting hold, which conditions it honours, what it tells.
//!
//! A store's word is not enough: some answer 200 and encrypt nothing, some overwrite the object when asked to update its
//! encryption. So `probe` tries on scratch keys what a job is about to rely on, and what it finds is this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encryption::Mode;

/// How an object of up to 5 GiB is rewritten by copying: the rungs of a ladder, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// CopyObject, metadata and tags copied by the store.
    Copy,
    /// CopyObject with everything sent again: metadata, content headers, tags.
    Replace,
    /// A multipart copy, of one part where that is enough.
    Multipart,
}

impl Rung {
    /// Every rung, the best first.
    pub const ALL: [Self; 3] = [Self::Copy, Self::Replace, Self::Multipart];

    /// The name in messages and in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Replace => "replace",
            Self::Multipart => "multipart",
        }
    }
}

/// What a store does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreProfile {
    /// Whether what is said of copies and conditions was shown on scratch keys, or is what AWS documents. UpdateObjectEncryption is
    /// always shown.
    pub probed: bool,
    /// The rung that holds for objects found in a mode. A mode that is not here was not tried: the most careful rung of those that
    /// were applies. `None`: no rung holds, such objects are refused.
    pub rungs: BTreeMap<Mode, Option<Rung>>,
    /// UpdateObjectEncryption re-wraps the data key, and the object is what it was.
    pub updates_encryption: bool,
    /// A multipart copy brings bytes, headers, metadata and tags through under the target.
    pub copies_parts: bool,
    /// A stale `x-amz-copy-source-if-match` is refused by CopyObject.
    pub source_condition: bool,
    /// A stale `If-Match` is refused by CopyObject.
    pub destination_condition: bool,
    /// A stale `x-amz-copy-source-if-match` is refused by UploadPartCopy.
    pub part_condition: bool,
    /// A stale `If-Match` is refused by CompleteMultipartUpload.
    pub completion_condition: bool,
    /// HeadObject tells how many tags an object has.
    pub shows_tag_count: bool,
}

impl StoreProfile {
    /// What AWS documents, without UpdateObjectEncryption: that is for stores which have shown it.
    pub fn documented() -> Self {
        Self {
            probed: false,
            rungs: BTreeMap::new(),
            updates_encryption: false,
            copies_parts: true,
            source_condition: true,
            destination_condition: true,
            part_condition: true,
            completion_condition: true,
            shows_tag_count: false,
        }
    }

    /// The rung for an object that was found in a mode; `None` where none holds.
    pub fn rung(&self, found: Mode) -> Option<Rung> {
        match self.rungs.get(&found) {
            Some(rung) => *rung,
            // The lowest of those that hold elsewhere is the most careful one.
            None if self.rungs.is_empty() => Some(Rung::Copy),
            None => self.rungs.values().copied().flatten().max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_was_not_tried_takes_the_most_careful_rung_that_holds() {
        let mut profile = StoreProfile::documented();
        assert_eq!(profile.rung(Mode::SseC), Some(Rung::Copy));
        profile.rungs.insert(Mode::SseS3, Some(Rung::Copy));
        profile.rungs.insert(Mode::NotSse, Some(Rung::Replace));
        profile.rungs.insert(Mode::SseC, None);
        assert_eq!(profile.rung(Mode::SseS3), Some(Rung::Copy));
        assert_eq!(profile.rung(Mode::SseC), None);
        assert_eq!(profile.rung(Mode::DsseKms), Some(Rung::Replace));
    }
}
