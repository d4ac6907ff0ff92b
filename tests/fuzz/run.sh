#!/bin/sh
# Fuzzes one target for so many seconds: `tests/fuzz/run.sh decode 60`. Starts from the
# corpus, and puts what it finds beside it: see README.md.
set -eu
target=$1 seconds=$2
cd "$(dirname "$0")"
# What cargo-fuzz passes, but for the sanitizer, which takes a nightly compiler and
# finds nothing in code that has no `unsafe`. Overflows are panics.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-$PWD/target}"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --locked --release --target "$host" --bin "$target"
cargo run --locked --release --bin pack -- unpack "$target" "start/$target"
mkdir -p "found/$target" artifacts
"$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="artifacts/$target-" "found/$target" "start/$target"
