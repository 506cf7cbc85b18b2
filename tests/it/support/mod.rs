//! What the integration tests share.

pub(crate) mod curl;
mod kafka;
mod planted;
pub(crate) mod process;
mod random;
pub(crate) mod registry;
mod reset;
pub(crate) mod sieve;

use std::process::{Command, Stdio};

use frontstream::config::{self, Environment, Purpose, Settings, Sources};

pub(crate) use kafka::{Cluster, Topics, in_process, kafka, real_kafka, say, wants_real_kafka};
pub(crate) use planted::{Planted, checkpoint, refresh};
pub(crate) use random::Random;
pub(crate) use reset::{To, reset};

/// Returns the product's own binary with these arguments and nothing of the tests' environment.
pub(crate) fn frontstream(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontstream"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

/// Returns settings: the defaults, and these `key=value` on top.
pub(crate) fn settings(brokers: &str, set: &[&str]) -> Settings {
    let sources = Sources {
        file: None,
        environment: Environment::of::<String, String>([]),
        set: set.iter().map(|pair| (*pair).to_owned()).collect(),
        brokers: Some(brokers.to_owned()),
    };
    config::load(&sources, Purpose::Tool).unwrap()
}

/// Waits for a future on this thread: the admin client answers from a thread of its own, so no runtime is needed,
/// and the same helper serves tests with a runtime and without.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
