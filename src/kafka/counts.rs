//! How many errors the clients of a processor reported, by what is done about them.

use prometheus::{IntCounterVec, Opts, Registry};

use super::Class;

/// Counts errors by client and class; cheap to clone, clones count together.
#[derive(Clone, Debug)]
pub struct ErrorCounts(IntCounterVec);

/// Who reported an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// The consumer of a worker.
    Consumer,
    /// The transactional producer of a worker.
    Producer,
    /// The client of the schema registry.
    Registry,
}

impl Reporter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Consumer, Self::Producer, Self::Registry];

    /// Returns the name used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
            Self::Registry => "registry",
        }
    }
}

impl ErrorCounts {
    /// Registers them, at zero.
    ///
    /// # Errors
    ///
    /// The name is taken already: they were registered twice.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counts = IntCounterVec::new(
            Opts::new(
                "frontstream_processor_client_errors_total",
                "Errors that clients reported, by what is done about them.",
            ),
            &["client", "class"],
        )?;
        registry.register(Box::new(counts.clone()))?;
        for reporter in Reporter::ALL {
            for class in Class::ERRORS {
                counts.with_label_values(&[reporter.as_str(), class.as_str()]);
            }
        }
        Ok(Self(counts))
    }

    /// Counts one error; a rebalance is none.
    pub fn count(&self, reporter: Reporter, class: Class) {
        if class != Class::Rebalanced {
            self.0
                .with_label_values(&[reporter.as_str(), class.as_str()])
                .inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_counted_by_class_and_a_rebalance_is_none() {
        let registry = Registry::new();
        let counts = ErrorCounts::register(&registry).unwrap();
        for class in Class::ERRORS.into_iter().chain([Class::Rebalanced]) {
            counts.count(Reporter::Consumer, class);
        }
        let families = registry.gather();
        let counted: f64 = families[0]
            .get_metric()
            .iter()
            .map(|metric| metric.get_counter().get_value())
            .sum();
        assert_eq!(counted, 6.0);
        assert_eq!(
            families[0].get_metric().len(),
            18,
            "each series shows from the start"
        );
    }
}
