//! The secrets in force, which can be replaced while requests are verified.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{IntCounter, IntCounterVec};

use super::signature::{Scheme, Settings, Verified, Verifier};

/// The secrets in force; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Keys {
    now: Arc<RwLock<Arc<InForce>>>,
    checks: IntCounterVec,
}

/// One set of secrets, with what counts the requests that each has signed.
#[derive(Debug)]
pub(super) struct InForce {
    settings: Settings,
    pub(super) verifier: Verifier,
    verified: Vec<(Scheme, Box<str>, IntCounter)>,
}

impl Keys {
    pub(super) fn new(settings: Settings, checks: IntCounterVec) -> Self {
        let now = InForce::new(settings, &checks);
        Self {
            now: Arc::new(RwLock::new(Arc::new(now))),
            checks,
        }
    }

    /// Makes some without a receiver.
    #[cfg(test)]
    pub(crate) fn of_tests(settings: Settings) -> Self {
        let opts = prometheus::Opts::new("checks", "checks");
        let checks = IntCounterVec::new(opts, &["scheme", "secret", "verdict"]);
        Self::new(settings, checks.expect("a plain counter"))
    }

    /// Takes other secrets from the next request on; one that is under way keeps those that it began with.
    pub fn replace(&self, settings: Settings) {
        let next = Arc::new(InForce::new(settings, &self.checks));
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Returns the settings in force.
    pub fn settings(&self) -> Settings {
        self.in_force().settings.clone()
    }

    pub(super) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl InForce {
    /// Looks the counters of good signatures up once: they are on every good request's way.
    fn new(settings: Settings, checks: &IntCounterVec) -> Self {
        let schemes = [
            (Scheme::Application, &settings.application),
            (Scheme::Rule, &settings.rule),
            (Scheme::Relay, &settings.relay),
        ];
        let secrets = schemes
            .into_iter()
            .flat_map(|(scheme, secrets)| secrets.iter().map(move |secret| (scheme, secret.name())));
        let verified = secrets
            .map(|(scheme, name)| {
                let counter = checks.with_label_values(&[scheme.as_str(), name, "accept"]);
                (scheme, name.into(), counter)
            })
            .collect();
        Self {
            verifier: Verifier::new(&settings),
            settings,
            verified,
        }
    }

    /// Counts a request under the secret that signed it.
    pub(super) fn count(&self, verified: &Verified<'_>) {
        let is_it =
            |one: &&(Scheme, Box<str>, IntCounter)| one.0 == verified.scheme && *one.1 == *verified.secret;
        if let Some((_, _, counter)) = self.verified.iter().find(is_it) {
            counter.inc();
        }
    }
}
