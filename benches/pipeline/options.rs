//! What this run is to do: arguments of the command line, and what `scripts/bench` hands over in the environment.

use anyhow::bail;

/// What the binary was started for.
pub(crate) enum What {
    Bench(Options),
    /// Write the table of `docs/performance.md` from the last run's figures.
    Document,
    /// Be the reference processor of a bench that runs elsewhere.
    AtLeastOnce,
    /// Be the reference receiver of a bench that runs elsewhere.
    BareReceiver,
}

/// How to run the bench.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Less of everything: to see that it works, not to publish.
    pub(crate) quick: bool,
    /// The sections to run; empty: all.
    only: Vec<String>,
    /// `host:port` of the broker; `None`: only what needs none can be measured.
    pub(crate) brokers: Option<String>,
    /// The machine, the broker's version, the compiler, the commit, in words.
    pub(crate) machine: String,
}

impl Options {
    pub(crate) fn runs(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == section)
    }

    /// One of two sizes, by how thorough the run is.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

pub(crate) fn of_process(sections: &[&str]) -> anyhow::Result<What> {
    let mut options = Options {
        quick: false,
        only: Vec::new(),
        brokers: variable("FRONTSTREAM_BENCH_BROKERS"),
        machine: variable("FRONTSTREAM_BENCH_MACHINE").unwrap_or_else(|| "machine not named".to_owned()),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--quick" => options.quick = true,
            "--document" => return Ok(What::Document),
            "--at-least-once" => return Ok(What::AtLeastOnce),
            "--bare-receiver" => return Ok(What::BareReceiver),
            "--only" => {
                let names = arguments.next().unwrap_or_default();
                options.only.extend(names.split(',').map(str::to_owned));
            }
            other => bail!(
                "unknown argument {other}: --quick, --only {}, or --document",
                sections.join(",")
            ),
        }
    }
    if let Some(unknown) = options
        .only
        .iter()
        .find(|only| !sections.contains(&only.as_str()))
    {
        bail!("no section {unknown}: {}", sections.join(", "));
    }
    Ok(What::Bench(options))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the bench's own switches, which are no settings of the product"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
