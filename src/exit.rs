//! Exit codes: a contract with Kubernetes' `podFailurePolicy` and with every script around reseal.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Complete: every row succeeded or was skipped.
    Complete,
    /// An internal error; the same command may be tried again.
    Internal,
    /// Wrong usage or configuration, or a manifest that is not sound. Nothing was written.
    Usage,
    /// Complete, but some rows failed: the report names them.
    RowsFailed,
    /// The job failed: the failure threshold was crossed, a row failed as none may, or a fault was met that would fail every object.
    JobFailed,
    /// The state belongs to another job, is damaged, lacks its manifest, or another runner has it.
    State,
    /// Interrupted by a signal or a deadline; what is settled is kept and the same command continues.
    Interrupted,
}

impl Exit {
    /// Every code, for tests that hold documents against this table.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::Internal,
        Self::Usage,
        Self::RowsFailed,
        Self::JobFailed,
        Self::State,
        Self::Interrupted,
    ];

    /// The number that the process ends with. 75 is `EX_TEMPFAIL`. Source: BSD `sysexits.h`.
    pub fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::RowsFailed => 3,
            Self::JobFailed => 4,
            Self::State => 5,
            Self::Interrupted => 75,
        }
    }

    /// The `status` of the summary.
    pub fn status(self) -> &'static str {
        match self {
            Self::Complete | Self::RowsFailed => "complete",
            Self::Interrupted => "interrupted",
            Self::Internal | Self::Usage | Self::JobFailed | Self::State => "failed",
        }
    }
}
