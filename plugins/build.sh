#!/usr/bin/env bash
# Builds the plugins of this folder, and the examples in other languages, to
# TARGET/plugins/NAME.wasm, where TARGET is ${CARGO_TARGET_DIR:-target}.
#
#   plugins/build.sh [NAME...]      default: all
#
# See toolchain.sh for where the compiler for Rust comes from. What is built for
# wasm has a cargo folder of its own, TARGET/wasm, since its compiler may be
# another. The examples' tools are those of tests/requirements.txt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(dirname "$here")
cd "$workspace"
target=${CARGO_TARGET_DIR:-$workspace/target}
mkdir -p "$target/plugins" "$target/wasm"
target=$(cd "$target" && pwd)

declare -A examples=(
    [history]=examples/python-target [redact]=examples/c-transform
    [asker-python]=tests/fixtures/asker-python [asker-javascript]=tests/fixtures/asker-javascript
)
names=("$@")
# The probe and the askers are for the tests of the plugin host.
[ $# -gt 0 ] || names=(file kafka postgresql history redact probe asker asker-python asker-javascript)

# shellcheck source=plugins/toolchain.sh
. "$here/toolchain.sh"

# Replaces the component whole, and only if it differs: a worker may be loading it.
publish() {
    local built=$1 name=$2
    cmp -s "$built" "$target/plugins/$name.wasm" && return 0
    cp "$built" "$target/plugins/.$name.wasm"
    mv "$target/plugins/.$name.wasm" "$target/plugins/$name.wasm"
}

build_rust() {
    local name packages=()
    for name in "$@"; do packages+=(-p "pgshovel-plugin-$name"); done
    prepare_toolchain "$target/wasm"
    CARGO_TARGET_DIR=$target/wasm/cargo "$wasm_cargo" build --locked --lib --profile plugin --target "$wasm_target" "${packages[@]}"
    for name in "$@"; do
        publish "$target/wasm/cargo/$wasm_target/plugin/pgshovel_plugin_$name.wasm" "$name"
    done
}

# Only when something that goes into it has changed.
build_example() {
    local name=$1 folder=$workspace/${examples[$1]} work=$target/wasm/$1 inputs
    inputs=$(cd "$workspace" && find "${examples[$name]}" wit tests/requirements.txt -type f -not -path '*/__pycache__/*' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum)
    if [ -f "$target/plugins/$name.wasm" ] && [ "$inputs" = "$(cat "$work/inputs" 2>/dev/null)" ]; then return 0; fi
    mkdir -p "$work"
    echo "plugins: building $name from ${examples[$name]}" >&2
    PATH=$target/python/bin:$PATH "$folder/build.sh" "$work"
    publish "$work/$name.wasm" "$name"
    echo "$inputs" >"$work/inputs"
}

rust=()
others=()
for name in "${names[@]}"; do
    if [ -f "$here/$name/Cargo.toml" ] || [ -f "$workspace/tests/fixtures/$name/Cargo.toml" ]; then
        rust+=("$name")
    elif [ -n "${examples[$name]:-}" ]; then
        others+=("$name")
    else
        toolchain_failed "there is no plugin $name, neither in plugins/ nor among the examples ${!examples[*]}"
    fi
done

exec 9>"$target/wasm/lock"
flock 9
[ ${#rust[@]} -eq 0 ] || build_rust "${rust[@]}"
for name in "${others[@]}"; do build_example "$name"; done
