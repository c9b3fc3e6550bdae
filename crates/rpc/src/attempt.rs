//! How schedulers and executors name an attempt. Refuses to know what becomes of it.

use domain::id::RunId;
use proto::internal::v1 as pb;
use std::fmt;

/// One try of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The block, or `<callback>:<watched block>`.
    pub block: String,
    /// -1 for none.
    pub child: i32,
    /// The fence.
    pub lease: i64,
}

impl AttemptId {
    /// Reads the wire form; `None` when the run id is not 16 bytes.
    #[must_use]
    pub fn from_proto(attempt: pb::AttemptRef) -> Option<Self> {
        let pb::AttemptRef { run_id, block, child, lease } = attempt;
        Some(Self { run: RunId::from_slice(&run_id)?, block, child, lease })
    }

    /// The wire form.
    #[must_use]
    pub fn to_proto(&self) -> pb::AttemptRef {
        pb::AttemptRef { run_id: self.run.to_vec(), block: self.block.clone(), child: self.child, lease: self.lease }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run, self.block, self.child, self.lease)
    }
}
