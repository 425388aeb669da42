//! Compiles every .proto below `proto/` with protox, so that no `protoc` is needed, and writes two file descriptor sets: of
//! what the service serves, for its reflection, and of all, of which the rest is what others serve and it calls.

use std::error::Error;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The packages that the service itself serves, or keeps on disk.
const SERVED: [&str; 3] = ["softstake/v1", "softstake/sim", "softstake/store"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let compile = |files: &[PathBuf]| -> Result<protox::Compiler, Box<dyn Error>> {
        let mut compiler = protox::Compiler::new([root])?;
        compiler.include_source_info(true).include_imports(true).open_files(files)?;
        Ok(compiler)
    };
    let served = |file: &&PathBuf| SERVED.iter().any(|folder| file.starts_with(root.join(folder)));
    let served: Vec<PathBuf> = files.iter().filter(served).cloned().collect();
    fs::write(out.join("served.bin"), compile(&served)?.encode_file_descriptor_set())?;
    let compiler = compile(&files)?;
    fs::write(out.join("all.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .bytes(".softstake.v1.PackedBalances")
        .include_file("modules.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Every .proto below `folder`, as a path that begins with the root.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension() == Some(OsStr::new("proto")) {
            files.push(path);
        }
    }
    Ok(())
}
