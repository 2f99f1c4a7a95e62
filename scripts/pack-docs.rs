//! Build script: packs the reference for the binary, which carries it in a third of its size.

use std::io::Write;
use std::path::Path;
use std::{env, fs};

use flate2::Compression;
use flate2::write::DeflateEncoder;

fn main() -> std::io::Result<()> {
    let docs = Path::new("src/docs");
    let out = env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?;
    writeln!(std::io::stdout(), "cargo::rerun-if-changed={}", docs.display())?;
    for entry in fs::read_dir(docs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            let name = Path::new(path.file_name().unwrap_or_default()).with_extension("deflate");
            let packed = fs::File::create(Path::new(&out).join(name))?;
            let mut packing = DeflateEncoder::new(packed, Compression::best());
            packing.write_all(&fs::read(&path)?)?;
            packing.finish()?;
        }
    }
    Ok(())
}
