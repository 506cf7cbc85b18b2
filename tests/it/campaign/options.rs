//! What a campaign is told: words `key=value` in the variable `FRONTSTREAM_CAMPAIGN`, which `scripts/campaign` writes.

use std::path::PathBuf;
use std::time::Duration;

use super::plan::Kind;

/// The settings of one campaign.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Decides which faults come, in which order, upon whom and for how long.
    pub(crate) seed: u64,
    /// How many faults.
    pub(crate) faults: usize,
    /// No new fault begins after this time, whatever is left of them.
    pub(crate) lasting: Option<Duration>,
    /// Nodes of the cluster: 1 or 3.
    pub(crate) brokers: u32,
    /// The group protocol, as `group.protocol` has it.
    pub(crate) protocol: &'static str,
    /// Workers in each processor.
    pub(crate) workers: u32,
    /// Whether the processors have instance ids.
    pub(crate) static_members: bool,
    /// Webhooks a second, on average.
    pub(crate) rate: f64,
    /// One fault at a time, with time to recover after each.
    pub(crate) alone: bool,
    /// Only these kinds; empty: all.
    pub(crate) only: Vec<Kind>,
    /// Another build of the product than the tests' own.
    pub(crate) binary: Option<PathBuf>,
    /// Where the result goes, as one JSON object.
    pub(crate) report: Option<PathBuf>,
}

impl Options {
    /// Reads the words. What is not told follows from the seed, so that a seed alone repeats a campaign.
    ///
    /// # Errors
    ///
    /// A word that is not understood, said in full.
    pub(crate) fn parse(words: &str) -> Result<Self, String> {
        let mut options = Self::of(1);
        for word in words.split_whitespace() {
            if let Some(seed) = word.strip_prefix("seed=") {
                options = Self::of(number(word, seed)?);
            }
        }
        for word in words.split_whitespace() {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("not key=value: {word}"))?;
            options.set(word, key, value)?;
        }
        Ok(options)
    }

    /// Returns the defaults of a seed.
    fn of(seed: u64) -> Self {
        Self {
            seed,
            faults: 50,
            lasting: None,
            brokers: 3,
            protocol: if seed.is_multiple_of(2) {
                "classic"
            } else {
                "consumer"
            },
            workers: if seed.is_multiple_of(3) { 2 } else { 1 },
            static_members: seed % 4 < 2,
            rate: 60.0,
            alone: false,
            only: Vec::new(),
            binary: None,
            report: None,
        }
    }

    fn set(&mut self, word: &str, key: &str, value: &str) -> Result<(), String> {
        match key {
            "seed" => {}
            "faults" => self.faults = number(word, value)?,
            "minutes" => self.lasting = Some(Duration::from_secs(number::<u64>(word, value)? * 60)),
            "brokers" => {
                self.brokers = number(word, value)?;
                if ![1, 3].contains(&self.brokers) {
                    return Err(format!("brokers is 1 or 3: {word}"));
                }
            }
            "protocol" => {
                self.protocol = match value {
                    "classic" => "classic",
                    "consumer" => "consumer",
                    _ => return Err(format!("protocol is classic or consumer: {word}")),
                }
            }
            "workers" => self.workers = number(word, value)?,
            "members" => {
                self.static_members = match value {
                    "static" => true,
                    "dynamic" => false,
                    _ => return Err(format!("members is static or dynamic: {word}")),
                }
            }
            "rate" => self.rate = number(word, value)?,
            "alone" => {
                self.alone = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(format!("alone is yes or no: {word}")),
                }
            }
            "only" => {
                let named = value.split(',').map(|name| {
                    Kind::named(name)
                        .ok_or_else(|| format!("no such fault: {name}; there are {}", Kind::names()))
                });
                self.only = named.collect::<Result<_, _>>()?;
            }
            "binary" => self.binary = Some(PathBuf::from(value)),
            "report" => self.report = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown: {word}")),
        }
        Ok(())
    }

    /// Returns the words that repeat this campaign.
    pub(crate) fn words(&self) -> String {
        let mut words = format!(
            "seed={} faults={} brokers={} protocol={} workers={} members={} rate={} alone={}",
            self.seed,
            self.faults,
            self.brokers,
            self.protocol,
            self.workers,
            if self.static_members { "static" } else { "dynamic" },
            self.rate,
            if self.alone { "yes" } else { "no" },
        );
        if let Some(lasting) = self.lasting {
            words.push_str(&format!(" minutes={}", lasting.as_secs() / 60));
        }
        if !self.only.is_empty() {
            let names: Vec<_> = self.only.iter().map(|kind| kind.name()).collect();
            words.push_str(&format!(" only={}", names.join(",")));
        }
        words
    }

    /// Returns the command that repeats this campaign, to be pasted.
    pub(crate) fn command(&self) -> String {
        let mut command = "scripts/campaign".to_owned();
        for word in self.words().split_whitespace() {
            match word.split_once('=').expect("a word has a value") {
                ("alone", "no") => {}
                ("alone", _) => command.push_str(" --alone"),
                (key, value) => command.push_str(&format!(" --{key} {value}")),
            }
        }
        if let Some(binary) = &self.binary {
            command.push_str(&format!(" --binary {}", binary.display()));
        }
        command
    }
}

fn number<N: std::str::FromStr>(word: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("not a number: {word}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_words_of_a_campaign_repeat_it() {
        let told =
            Options::parse("faults=7 seed=12 minutes=4 protocol=consumer only=broker-killed,clock-stepped")
                .unwrap();
        assert_eq!((told.seed, told.faults, told.protocol), (12, 7, "consumer"));
        let again = Options::parse(&told.words()).unwrap();
        assert_eq!(format!("{told:?}"), format!("{again:?}"));
    }

    #[test]
    fn the_command_of_a_campaign_is_what_its_script_takes() {
        let words = "seed=12 faults=7 minutes=3 workers=2 members=static alone=yes only=disk-full binary=/b";
        assert_eq!(
            Options::parse(words).unwrap().command(),
            "scripts/campaign --seed 12 --faults 7 --brokers 3 --protocol classic --workers 2 --members static --rate 60 \
             --alone --minutes 3 --only disk-full --binary /b"
        );
        let command = Options::parse("seed=1").unwrap().command();
        assert!(!command.contains("alone"), "{command}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/campaign");
        let script = std::fs::read_to_string(script).unwrap();
        let options = command.split_whitespace().filter(|word| word.starts_with("--"));
        for option in options.chain(["--alone", "--minutes", "--only", "--binary"]) {
            assert!(
                script.contains(&format!("#   {option} ")),
                "{option} is not explained"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (words, said) in [
            ("faults", "not key=value: faults"),
            ("faults=many", "not a number: faults=many"),
            ("brokers=2", "brokers is 1 or 3: brokers=2"),
            ("faluts=3", "unknown: faluts=3"),
            ("only=flood", "no such fault: flood; there are "),
        ] {
            let error = Options::parse(words).unwrap_err();
            assert!(error.starts_with(said), "{words}: {error}");
        }
    }
}
