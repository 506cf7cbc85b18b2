//! Stopping: the first signal asks for a clean stop, the second ends the process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Says that it is time to stop; cheap to clone, may be asked from any thread.
pub type Stop = CancellationToken;

/// The exit code of a process that a second signal ended: 128 + SIGINT, as shells have it.
const EXIT_SECOND_SIGNAL: i32 = 130;

/// Cancels `stop` on the first SIGINT or SIGTERM and exits at once on the second.
///
/// The handlers are there when this returns, so that what a process does next can be ended with a signal; what is returned
/// acts on the signals and runs until the second, the caller keeps it in its task set. To be called in a runtime.
///
/// # Errors
///
/// The signal handlers could not be installed; the process then cannot stop cleanly and should not start.
pub fn stop_on_signals(stop: Stop) -> std::io::Result<impl Future<Output = ()>> {
    stop_on_signals_then(stop, || {})
}

/// Does the same, and calls `at_exit` before it exits: for what would be left on a terminal.
///
/// # Errors
///
/// The signal handlers could not be installed.
pub fn stop_on_signals_then(stop: Stop, at_exit: impl FnOnce()) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "stopping cleanly; a second signal stops at once");
        stop.cancel();
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        at_exit();
        tracing::warn!(
            signal = name,
            "second signal: stopped at once, open work is left to the next start"
        );
        std::process::exit(EXIT_SECOND_SIGNAL);
    })
}
