//! One process around one role: admin port, signals, the role, and how it ended.

use std::hash::{BuildHasher as _, RandomState};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::receiver::Receiver;
use super::reload::{Reload, Reread};
use super::start::find_schemas;
use super::{Surroundings, connect, processor};
use crate::config::Settings;
use crate::lifecycle::{Clock, Readiness, Stop, stop_on_signals};
use crate::wire::event_v1;
use crate::{admin, observe};

/// Which role a process has.
pub enum Role {
    /// HTTP in; how its settings are read again for other secrets.
    Receiver(Reread),
    /// Refreshes out.
    Processor,
}

/// Runs a role until it ends or a signal asks it to stop. The admin port answers from before the role starts until
/// after it has ended.
///
/// # Errors
///
/// A port is taken, or the role failed; [`crate::lifecycle::Exit`] is in the chain where it decides the exit code.
pub async fn host(settings: Settings, role: Role) -> anyhow::Result<()> {
    let readiness = Readiness::new();
    let clock = Clock::system();
    let metrics = observe::registry(&clock);
    let admin = admin::Server::bind(&settings.admin).await?;
    let (stop, admin_stop) = (Stop::new(), Stop::new());
    let mut beside = JoinSet::new();
    beside.spawn(admin.serve(metrics.clone(), readiness.clone(), admin_stop.clone()));
    beside.spawn(stop_on_signals(stop.clone()).context("handling signals")?);
    let not_ready_from = (stop.clone(), readiness.clone());
    beside.spawn(async move {
        not_ready_from.0.cancelled().await;
        not_ready_from.1.stopping();
    });
    let around = Surroundings {
        clock,
        stop,
        readiness,
        metrics,
    };
    let ended = match role {
        Role::Receiver(reread) => {
            let reload = Reload::new(reread).context("handling signals")?;
            receive(&settings, None, Some(reload), around).await
        }
        Role::Processor => processor::run(connect::processor(&settings, &unique()), around).await,
    };
    admin_stop.cancel();
    ended
}

/// Registers the schema, binds the receiver, unless `listener` is given, and runs it; `reload` is for secrets that change.
pub(super) async fn receive(
    settings: &Settings,
    listener: Option<TcpListener>,
    reload: Option<Reload>,
    around: Surroundings,
) -> anyhow::Result<()> {
    let gate = around.readiness.gate("schemas");
    gate.not_ready("starting");
    let (registry, topic) = (connect::registry(settings), &settings.topics.names.events);
    let finding = find_schemas(registry.as_ref(), topic, event_v1::SCHEMA, &gate);
    let Some(schemas) = around.stop.run_until_cancelled(finding).await else {
        return Ok(());
    };
    let encoding = connect::event_encoding(schemas?.encoding);
    let (own, metrics) = (connect::receiver(settings), &around.metrics);
    let receiver = match listener {
        None => Receiver::bind(own, encoding, around.clock, metrics).await,
        Some(listener) => Receiver::on(listener, own, encoding, around.clock, metrics),
    }?;
    gate.ready();
    let mut beside = JoinSet::new();
    if let Some(reload) = reload {
        beside.spawn(reload.watch(receiver.keys()));
    }
    receiver.run(&around.readiness, around.stop).await
}

/// Returns a name that no other process start has: for transactional ids of instances that have none of their own.
pub fn unique() -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{random:016x}")
}
