#!/usr/bin/env bash
# Builds the plugins of this folder to TARGET/plugins/NAME.wasm, where TARGET is
# ${CARGO_TARGET_DIR:-target}.
#
#   plugins/build.sh [NAME...]      default: all
#
# See toolchain.sh for where the compiler comes from. What is built for wasm has a
# cargo folder of its own, TARGET/wasm, since its compiler may be another.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(dirname "$here")
cd "$workspace"
target=${CARGO_TARGET_DIR:-$workspace/target}
mkdir -p "$target/plugins" "$target/wasm"
target=$(cd "$target" && pwd)
names=("$@")
[ $# -gt 0 ] || names=(file kafka postgresql)

# shellcheck source=plugins/toolchain.sh
. "$here/toolchain.sh"

exec 9>"$target/wasm/lock"
flock 9
prepare_toolchain "$target/wasm"

packages=()
for name in "${names[@]}"; do
    [ -f "$here/$name/Cargo.toml" ] || toolchain_failed "there is no plugin $name in plugins/"
    packages+=(-p "pgshovel-plugin-$name")
done
CARGO_TARGET_DIR=$target/wasm/cargo "$wasm_cargo" build --locked --lib --profile plugin --target "$wasm_target" "${packages[@]}"

for name in "${names[@]}"; do
    built=$target/wasm/cargo/$wasm_target/plugin/pgshovel_plugin_$name.wasm
    # Only when it differs, and whole or not at all: a worker may be loading it.
    if ! cmp -s "$built" "$target/plugins/$name.wasm"; then
        cp "$built" "$target/plugins/.$name.wasm"
        mv "$target/plugins/.$name.wasm" "$target/plugins/$name.wasm"
    fi
done
