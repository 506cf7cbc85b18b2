//! Parses arguments, starts logging, picks a role, turns errors into an exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use frontstream::config::cli::{self, Cli, Command, Global};
use frontstream::config::{self, Environment, Origin, Purpose, Report, Settings};
use frontstream::lifecycle::Exit;
use frontstream::observe::{Colours, Console};
use frontstream::roles::dev::{Chosen, Face, Output};
use frontstream::roles::host::Role;
use frontstream::{observe, operate, roles};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit_of(&error);
            if exit != Exit::Done {
                // Logging may not have been started, and a person waits for the answer.
                let _ = writeln!(std::io::stderr().lock(), "frontstream: {}", readable(&error));
            }
            exit.into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { global, command } = cli;
    match command {
        Command::Receiver => {
            let settings = start(&global, Purpose::Receiver)?;
            let sources = global.sources(Environment::of_process());
            let reread = move || config::load(&sources, Purpose::Receiver);
            host(settings, Role::Receiver(Arc::new(reread)))
        }
        Command::Processor => host(start(&global, Purpose::Processor)?, Role::Processor),
        Command::Dev(args) => dev(&global, &args),
        Command::Send(args) => operate::send::run(&start(&global, Purpose::Send)?, &args, global.json),
        Command::Tail(args) => operate::tail::run(&start(&global, Purpose::Tool)?, &args, global.json),
        Command::Topics { action } => {
            operate::topics::run(&start(&global, Purpose::Tool)?, action, global.json)
        }
        Command::Secrets { action } => {
            operate::secrets::run(&start(&global, Purpose::Send)?, &action, global.json)
        }
        Command::Lag(args) => operate::lag::run(&start(&global, Purpose::Tool)?, &args, global.json),
        Command::Audit(args) => operate::audit::run(&start(&global, Purpose::Tool)?, &args, global.json),
        Command::Config { action } => {
            operate::config::run(action, &global.sources(Environment::of_process()), global.json)
        }
    }
}

/// Runs a role.
fn host(settings: Settings, role: Role) -> anyhow::Result<Exit> {
    to_its_end(roles::host::host(settings, role))?;
    Ok(Exit::Done)
}

/// Runs `work` on a runtime of its own, and leaves behind whatever blocks at its end.
fn to_its_end<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(work);
    // Dropped, it would wait for every blocking call, such as a question to brokers that do not answer or a worker
    // that outstayed its drain, with nobody left to hear a second signal.
    runtime.shutdown_background();
    ended
}

/// Reads the settings and starts logging: what every role and command begins with.
fn start(global: &Global, purpose: Purpose) -> anyhow::Result<Settings> {
    let environment = Environment::of_process();
    let colours = colours(&environment);
    let settings = config::load(&global.sources(environment), purpose)?;
    start_logging(&settings, colours, &Console::default())?;
    Ok(settings)
}

/// Does the same for `dev`, whose log is quiet unless somebody chose a filter: what it prints is what there is to see.
fn dev(global: &Global, args: &cli::Dev) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let face = Face {
        output: match (global.json, std::io::stdout().is_terminal()) {
            (true, _) => Output::Json,
            (false, true) if environment.has_cursor() => Output::Live,
            (false, _) => Output::Lines,
        },
        colours: colours(&environment),
        console: Console::default(),
        program: std::env::args()
            .next()
            .unwrap_or_else(|| "frontstream".to_owned()),
    };
    let reading = config::read(&global.sources(environment), Purpose::Dev);
    let (chosen, filter) = (Chosen::of(&reading), reading.origin("log.filter"));
    let mut settings = reading.into_settings()?;
    if filter == Origin::Default {
        "warn".clone_into(&mut settings.log.filter);
    }
    start_logging(&settings, face.colours, &face.console)?;
    to_its_end(roles::dev::run(settings, &chosen, args, face))
}

fn colours(environment: &Environment) -> Colours {
    if environment.wants_colours() {
        Colours::Wanted
    } else {
        Colours::Unwanted
    }
}

fn start_logging(settings: &Settings, colours: Colours, console: &Console) -> anyhow::Result<()> {
    observe::start_logging(&settings.log, colours, console)
        .map_err(|error| anyhow::anyhow!("logging does not start: {error}"))
}

/// Decides the exit code: what the error was marked with, or what kind of error it is.
fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return *exit;
    }
    if error.downcast_ref::<Report>().is_some() {
        return Exit::Usage;
    }
    let closed = error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    });
    // A reader such as `head` has enough: that is an end like any other.
    if closed { Exit::Done } else { Exit::Outside }
}

/// Writes an error with its causes in one line; the marks of the exit code are not for people.
fn readable(error: &anyhow::Error) -> String {
    let mark = error.downcast_ref::<Exit>().map(ToString::to_string);
    let causes = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| Some(cause) != mark.as_ref());
    observe::joined(causes)
}
