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
    /// A Kafka client failed for good: start the process again; when it ends so again, an operator has to look.
    Fatal,
    /// Another process took over this one's transactional id or group instance id: give each an id of its own.
    Fenced,
    /// The state beside a committed offset cannot be read: mend it by hand; starting again does not help.
    Unreadable,
    /// A panic, which is a defect of frontstream; what Rust itself gives a process that panics.
    Defect,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Found,
        Self::Usage,
        Self::Outside,
        Self::Fatal,
        Self::Fenced,
        Self::Unreadable,
        Self::Defect,
    ];

    /// Returns the number that the shell sees. A second Ctrl-C gives 130, see `stop_on_signals`.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 2,
            Self::Outside => 3,
            Self::Fatal => 4,
            Self::Fenced => 5,
            Self::Unreadable => 6,
            Self::Defect => 101,
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
            Self::Fenced => "another process has this one's id",
            Self::Unreadable => "the committed state cannot be read",
            Self::Defect => "a defect in frontstream",
        })
    }
}
