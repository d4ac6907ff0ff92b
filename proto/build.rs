//! Compiles the definitions below `pgshovel/` without `protoc`.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 4] = [
    "pgshovel/interfaces/common.proto",
    "pgshovel/interfaces/configurations.proto",
    "pgshovel/interfaces/replication.proto",
    "pgshovel/interfaces/streams.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=pgshovel");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new().enable_type_names().compile_fds(descriptors)?;
    Ok(())
}
