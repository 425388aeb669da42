//! The command line: parses and dispatches, one file or folder per command.

mod audit;
mod bench;
mod child;
mod demo;
mod dev_certs;
pub mod floods;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing {
    //! The commands' readers of files, opened to `fuzz/`.

    pub use super::demo::fuzzing::files;
}
mod health;
mod restore;
#[cfg(feature = "seeded-bugs")]
mod seeded_bugs;
mod serve;
mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The staking back end of an exchange or custodian that offers soft staking.
#[derive(Debug, Parser)]
#[command(name = "softstake", version, about, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service until it is told to stop (Ctrl-C or SIGTERM).
    Serve(serve::ServeArgs),
    /// Makes an authority, certificates and tokens for trying TLS out, and a settings file that uses them.
    DevCerts(dev_certs::DevCertsArgs),
    /// Checks or exports the audit log of a service that does not run.
    Audit(audit::AuditArgs),
    /// Makes a data_dir of a backup, for a service that does not run; and lifts its fence.
    Restore(restore::RestoreArgs),
    /// Lives some weeks of soft staking against a service of its own, and checks every figure.
    Demo(demo::DemoArgs),
    /// Asks a running service whether it serves: exit status 0 if so, 1 if not. For probes.
    Health(health::HealthArgs),
    /// Measures a service of its own, from the feed to recovery, at any number of positions.
    Bench(bench::BenchArgs),
    /// Simulates whole worlds with every fault, each from a seed, and checks every promise.
    Simulate(simulate::SimulateArgs),
    /// Puts bugs in, one at a time, and shows which seed and which check sees each.
    #[cfg(feature = "seeded-bugs")]
    SeededBugs(seeded_bugs::SeededBugsArgs),
}

/// Parses this process's arguments and runs the command. Exit status 0 is success, 1 a failure, 2 a wrong command line.
pub fn run() -> ExitCode {
    let CommandLine { command } = CommandLine::parse();
    // A socket that has something to say is looked at after so few steps of other tasks: what they take is how long a caller
    // waits on a busy server before anybody hears it.
    const STEPS: u32 = 8;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().event_interval(STEPS).global_queue_interval(STEPS).build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&format!("no threads to run on: {error}")),
    };
    let result = match command {
        Command::Serve(args) => runtime.block_on(serve::run(args)).map_err(|error| error.to_string()),
        Command::DevCerts(args) => dev_certs::run(&args).map_err(|error| error.to_string()),
        Command::Audit(args) => runtime.block_on(audit::run(args)).map_err(|error| error.to_string()),
        Command::Restore(args) => runtime.block_on(restore::run(args)).map_err(|error| error.to_string()),
        Command::Demo(args) => runtime.block_on(demo::run(args)).map_err(|error| error.to_string()),
        Command::Health(args) => runtime.block_on(health::run(args)).map_err(|error| error.to_string()),
        Command::Bench(args) => runtime.block_on(bench::run(args)).map_err(|error| error.to_string()),
        Command::Simulate(args) => Ok(simulate::run(&args)),
        #[cfg(feature = "seeded-bugs")]
        Command::SeededBugs(args) => Ok(seeded_bugs::run(&args)),
    };
    match result {
        Ok(code) => code,
        Err(problem) => failure(&problem),
    }
}

fn failure(problem: &str) -> ExitCode {
    use std::io::Write;
    // Where even stderr is gone, the exit status remains.
    let _ = writeln!(std::io::stderr(), "softstake: {problem}");
    ExitCode::FAILURE
}

/// What tells a command to stop.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// From here on neither signal ends the process by itself.
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them, and names it.
    async fn received(mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn serve_needs_no_settings_file() {
        let parsed = CommandLine::try_parse_from(["softstake", "serve"]);
        assert!(matches!(parsed.map(|line| line.command), Ok(Command::Serve(args)) if args.config.is_none()));
    }

    #[test]
    fn presets_are_checked_while_parsing() {
        assert!(CommandLine::try_parse_from(["softstake", "demo", "--preset", "atom,near"]).is_ok());
        assert!(CommandLine::try_parse_from(["softstake", "demo", "--preset", "atom,doge"]).is_err());
        assert!(CommandLine::try_parse_from(["softstake", "demo", "--days", "0"]).is_err());
    }
}
