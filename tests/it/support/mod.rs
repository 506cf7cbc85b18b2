//! What the integration tests share.

mod kafka;
pub(crate) mod process;

pub(crate) use kafka::{Cluster, Topics, kafka};

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
