//! Work that goes on when nobody waits for it any longer.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A future that, dropped before its end, is run to it by a task of the tracker.
///
/// A request that is answered "not known to be stored" in time, or whose sender hangs up, may still be stored; what
/// follows from that must happen. Until then it runs in its caller's task: the usual request spawns nothing.
pub(super) struct Outlive<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    tracker: TaskTracker,
}

impl<F: Future<Output: Send> + Send + 'static> Outlive<F> {
    pub(super) fn new(tracker: &TaskTracker, future: F) -> Self {
        Self {
            future: Some(Box::pin(future)),
            tracker: tracker.clone(),
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Outlive<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Out of its place while it runs, so that one that panics is not run again.
        let mut future = self.future.take().expect("it is not polled again after its end");
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            self.future = Some(future);
        }
        poll
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Outlive<F> {
    fn drop(&mut self) {
        // Without a runtime there is nothing left to run it on: the process is ending.
        if let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current()) {
            self.tracker.spawn_on(future, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn ends_although_nobody_waits() {
        let tracker = TaskTracker::new();
        let (begin, begun) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let mut work = Box::pin(Outlive::new(&tracker, async move {
            begun.await.unwrap();
            end.send("done").unwrap();
        }));
        let timed_out = tokio::time::timeout(Duration::ZERO, &mut work).await;
        assert!(timed_out.is_err());
        drop(work);
        assert_eq!(tracker.len(), 1);
        begin.send(()).unwrap();
        assert_eq!(ended.await, Ok("done"));
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn spawns_nothing_when_it_is_waited_for() {
        let tracker = TaskTracker::new();
        assert_eq!(Outlive::new(&tracker, async { 7 }).await, 7);
        assert!(tracker.is_empty());
    }
}
