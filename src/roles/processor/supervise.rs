//! Watches over the workers of a process.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Error;
use crate::emit::Watchdog;
use crate::lifecycle::{Exit, Instant, Stop};

/// Between two looks at the calls that are under way: no event tells that one does not come back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How often a call must be seen overdue, one look after the other. Looks, not time: a process that was stopped and goes on
/// finds its calls overdue and lets them come back first.
const OVERDUE_MIN: u32 = 8;

/// Waits for the workers; one that ends early, panics, or does not come back from the client, stops the others.
///
/// Whoever does not come back is left behind: the process ends without its thread.
pub(super) async fn supervise(
    mut workers: JoinSet<(usize, Result<(), Error>)>,
    watchdogs: &[Watchdog],
    stop: &Stop,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let mut outcome: anyhow::Result<()> = Ok(());
    let mut stopping_since = None;
    let mut left_behind = BTreeSet::new();
    while workers.len() > left_behind.len() {
        let deadline = async {
            stop.cancelled().await;
            let since = *stopping_since.get_or_insert_with(Instant::now);
            tokio::time::sleep(drain_timeout.saturating_sub(since.elapsed())).await;
        };
        let failure = tokio::select! {
            Some(ended) = workers.join_next() => match ended {
                Ok((number, ended)) => {
                    left_behind.remove(&number);
                    let Err(error) = ended else { continue };
                    let exit = error.exit();
                    anyhow::Error::new(error).context(exit)
                }
                Err(panic) => {
                    // Which one is not told; of those left behind it is no longer in its call.
                    left_behind.retain(|worker| watchdogs[*worker].is_overdue());
                    anyhow::Error::new(panic)
                        .context("a worker panicked, which is a bug")
                        .context(Exit::Defect)
                }
            },
            worker = next_overdue(watchdogs, &left_behind) => {
                left_behind.insert(worker);
                let error = Error::Overdue { worker };
                let exit = error.exit();
                anyhow::Error::new(error).context(exit)
            }
            () = deadline => {
                let late = format!("the workers did not finish within the drain timeout of {drain_timeout:?}");
                // Why they were stopped decides about the exit code, not how long that took.
                return match outcome {
                    Ok(()) => Err(anyhow::Error::msg(late)),
                    Err(failure) => Err(failure.context(late)),
                };
            }
        };
        stop.cancel();
        if outcome.is_ok() {
            outcome = Err(failure);
        }
    }
    outcome
}

/// Waits until a call of a worker does not come back, of those that are not left behind already.
async fn next_overdue(watchdogs: &[Watchdog], left_behind: &BTreeSet<usize>) -> usize {
    let mut seen = vec![0; watchdogs.len()];
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        for (worker, watchdog) in watchdogs.iter().enumerate() {
            let is_overdue = watchdog.is_overdue() && !left_behind.contains(&worker);
            seen[worker] = if is_overdue { seen[worker] + 1 } else { 0 };
            if seen[worker] >= OVERDUE_MIN {
                return worker;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;
    use crate::{consume, kafka};

    fn fenced() -> Error {
        let source = KafkaError::MessageConsumption(RDKafkaErrorCode::FencedInstanceId);
        Error::Consume {
            worker: 0,
            source: consume::Error::new("read", kafka::Class::Fenced, source),
        }
    }

    /// One worker ends, the other does not let itself be stopped.
    #[tokio::test]
    async fn a_drain_that_takes_too_long_does_not_hide_why_it_began() {
        for (first, expected) in [(Err(fenced()), Some(Exit::Fenced)), (Ok(()), None)] {
            let stop = Stop::new();
            if first.is_ok() {
                stop.cancel();
            }
            let mut workers = JoinSet::new();
            workers.spawn(async { (0, first) });
            workers.spawn(std::future::pending());
            let error = supervise(workers, &[], &stop, Duration::from_millis(20))
                .await
                .expect_err("they did not finish");
            assert_eq!(error.downcast_ref::<Exit>().copied(), expected);
            let said = format!("{error:#}");
            assert!(said.starts_with("the workers did not finish"), "{said}");
            let cause = "another process has this group instance id";
            assert_eq!(said.contains(cause), expected.is_some(), "{said}");
        }
    }

    /// Of three workers two do not come back from the client; the third is stopped and finishes.
    #[tokio::test]
    async fn whoever_does_not_come_back_is_not_waited_for() {
        let stop = Stop::new();
        let watchdogs: Vec<_> = (0..3).map(|_| Watchdog::default()).collect();
        let _calls = [&watchdogs[0], &watchdogs[2]].map(|watchdog| watchdog.guard(Duration::ZERO));
        let mut workers = JoinSet::new();
        for number in [0, 2] {
            workers.spawn(async move {
                std::future::pending::<()>().await;
                (number, Ok(()))
            });
        }
        let stopped = stop.clone();
        workers.spawn(async move {
            stopped.cancelled().await;
            (1, Ok(()))
        });
        let error = supervise(workers, &watchdogs, &stop, Duration::from_secs(3600))
            .await
            .expect_err("two hang");
        assert_eq!(error.downcast_ref::<Exit>(), Some(&Exit::Outside));
        let said = format!("{error:#}");
        assert!(said.contains("worker 0 does not come back"), "{said}");
        assert!(!said.contains("drain timeout"), "{said}");
    }

    /// Of three workers one is left behind and panics then; the third is still waited for.
    #[tokio::test]
    async fn a_panic_of_who_was_left_behind_does_not_cut_the_others_short() {
        let stop = Stop::new();
        let watchdogs = [Watchdog::default(), Watchdog::default()];
        let (watched, stopped) = (watchdogs[0].clone(), stop.clone());
        let mut workers = JoinSet::new();
        workers.spawn(async move {
            let _call = watched.guard(Duration::ZERO);
            stopped.cancelled().await;
            panic!("came back, and was not expected any more");
        });
        let (finishes, finished) = tokio::sync::oneshot::channel();
        let stopped = stop.clone();
        workers.spawn(async move {
            stopped.cancelled().await;
            tokio::time::sleep(LOOK_AGAIN * 2).await;
            finishes.send(()).expect("it is waited for");
            (1, Ok(()))
        });
        let error = supervise(workers, &watchdogs, &stop, Duration::from_secs(60))
            .await
            .expect_err("one hung");
        assert_eq!(
            error.downcast_ref::<Exit>(),
            Some(&Exit::Outside),
            "the first cause"
        );
        finished.await.expect("the other came to its end");
    }

    /// One that comes back late is no failure.
    #[tokio::test]
    async fn a_call_that_comes_back_is_forgotten() {
        let watchdogs = [Watchdog::default()];
        let watched = watchdogs[0].clone();
        let mut workers = JoinSet::new();
        workers.spawn(async move {
            for _ in 0..2 {
                let call = watched.guard(Duration::ZERO);
                tokio::time::sleep(LOOK_AGAIN * (OVERDUE_MIN / 2)).await;
                drop(call);
                tokio::time::sleep(LOOK_AGAIN * 2).await;
            }
            (0, Ok(()))
        });
        supervise(workers, &watchdogs, &Stop::new(), Duration::from_secs(60))
            .await
            .expect("it came back each time");
    }
}
