//! How a process ends: the exit codes that scripts rely on.

use std::fmt;
use std::process::ExitCode;

/// How a command or role ended. Given to an `anyhow` error as its context, it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; a check found everything right.
    Done,
    /// A check found something: the audit is not exact, topics differ, the lag is above the limit.
    Found,
    /// Bad usage or configuration: the same call fails again.
    Usage,
    /// The outside failed (a broker unreachable, a port in use, a timeout): the same call may succeed later.
    Outside,
    /// A Kafka client was fenced or failed for good: start the process again.
    Fatal,
}

impl Exit {
    /// Returns the number that the shell sees. A second Ctrl-C gives 130, see `stop_on_signals`.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 2,
            Self::Outside => 3,
            Self::Fatal => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Found => "the check found something",
            Self::Usage => "bad usage or configuration",
            Self::Outside => "something outside failed",
            Self::Fatal => "a Kafka client failed for good",
        })
    }
}
