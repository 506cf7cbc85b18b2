//! What the integration tests share.

mod kafka;
pub(crate) mod process;

use std::process::{Command, Stdio};

use frontstream::config::{self, Environment, Purpose, Settings, Sources};

pub(crate) use kafka::{Cluster, Topics, kafka};

/// Returns the product's own binary, without what the environment would set.
///
/// The tests' own switches begin with `FRONTSTREAM_` too, and the product refuses names that it does not know.
pub(crate) fn frontstream(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontstream"));
    for (name, _) in variables() {
        if name.to_string_lossy().starts_with("FRONTSTREAM_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "what a child process must not inherit can only be read here"
)]
fn variables() -> std::env::VarsOs {
    std::env::vars_os()
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
fn block_on<T>(future: impl Future<Output = T>) -> T {
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
