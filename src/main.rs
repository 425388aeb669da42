//! The `softstake` binary: see `softstake::cli`.

fn main() -> std::process::ExitCode {
    softstake::cli::run()
}
