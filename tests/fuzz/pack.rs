//! Moves the corpus of a fuzz target between its file and a folder, which is what libFuzzer reads.
//!
//! usage: pack unpack TARGET FOLDER | pack pack TARGET FOLDER

use std::io::Write as _;
use std::path::Path;

#[path = "corpus.rs"]
mod corpus;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, target, folder] = arguments.as_slice() else {
        return Err(std::io::Error::other("usage: pack unpack TARGET FOLDER | pack pack TARGET FOLDER"));
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match command.as_str() {
        "unpack" => {
            std::fs::create_dir_all(folder)?;
            for (index, input) in corpus::corpus(here, target).iter().enumerate() {
                std::fs::write(Path::new(folder).join(format!("{index:05}")), input)?;
            }
        }
        "pack" => {
            let named = std::fs::read_dir(here.join("corpus").join(target))?.map(|entry| std::fs::read(entry?.path()));
            let named: Vec<Vec<u8>> = named.collect::<std::io::Result<_>>()?;
            let mut inputs = std::fs::read_dir(folder)?.map(|entry| std::fs::read(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            inputs.retain(|input| !named.contains(input));
            inputs.sort();
            inputs.dedup();
            let mut file = std::fs::File::create(here.join(format!("corpus/{target}.inputs")))?;
            for input in inputs {
                let length = u32::try_from(input.len()).map_err(std::io::Error::other)?;
                file.write_all(&length.to_le_bytes())?;
                file.write_all(&input)?;
            }
        }
        other => return Err(std::io::Error::other(format!("{other:?} is neither unpack nor pack"))),
    }
    Ok(())
}
