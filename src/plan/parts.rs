//! Into which parts an object is copied.

/// Most parts of an upload. Source: S3 User Guide, "Amazon S3 multipart upload limits".
pub const PARTS_MAX: u32 = 10_000;
/// The largest part, in bytes. Source: the same.
pub const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// The smallest part but the last, in bytes. Source: the same.
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
