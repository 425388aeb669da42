//! The `softstake` binary: see `softstake::cli`.

/// Records are read and written as many small values: this allocator spends less on each than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    softstake::cli::run()
}
