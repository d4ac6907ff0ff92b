#!/usr/bin/env bash
# Makes gen/ anew: needed after a change of the WIT package, and then only.
# cargo install --locked --no-default-features --features c wit-bindgen-cli@0.63.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
wit-bindgen c ../../wit --world transform-plugin --out-dir gen
# The build takes the types from the WIT itself, not from an object file.
rm gen/*.o
sed -i '/Ensure that the .* object is linked in/,$d' gen/transform_plugin.c
