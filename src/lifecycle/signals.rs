//! Stopping: the first signal asks for a clean stop, the second ends the process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Says that it is time to stop; cheap to clone, may be asked from any thread.
pub type Stop = CancellationToken;

/// The exit code of a process that a second signal ended: 128 + SIGINT, as shells have it.
const EXIT_SECOND_SIGNAL: i32 = 130;

/// Cancels `stop` on the first SIGINT or SIGTERM and exits at once on the second.
///
/// Runs until the second signal; the caller keeps it in its task set.
///
/// # Errors
///
/// The signal handlers could not be installed; the process then cannot stop cleanly and should not start.
pub async fn stop_on_signals(stop: Stop) -> std::io::Result<()> {
    stop_on_signals_then(stop, || {}).await
}

/// Does the same, and calls `at_exit` before it exits: for what would be left on a terminal.
///
/// # Errors
///
/// The signal handlers could not be installed.
pub async fn stop_on_signals_then(stop: Stop, at_exit: impl FnOnce()) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
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
}
