//! The words the whole crate speaks: identifiers, positions, times, events, refreshes and checkpoints.
//!
//! Plain data that cannot be wrong once built. No I/O, no async, no clock, no encoding.

mod checkpoint;
mod event;
mod id;
mod position;
mod priority;
mod refresh;
mod timestamp;

pub(crate) use checkpoint::rice_parameter;
pub use checkpoint::{Checkpoint, Run, RunCause};
pub use event::{Change, Event, Source};
pub use id::{ConversationId, EventId, Kind, TenantId};
pub use position::{Offset, Partition};
pub use priority::{Lane, Lanes, Priority};
pub use refresh::{CloseReason, Refresh, RefreshId};
pub use timestamp::Timestamp;
