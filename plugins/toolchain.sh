# Sourced by build.sh: finds or makes a Rust toolchain for wasm32-unknown-unknown.
#
#   prepare_toolchain FOLDER    FOLDER keeps what has to be built for it
#
# Sets wasm_cargo (the cargo to call), and exports RUSTC and CARGO_ENCODED_RUSTFLAGS
# so that it makes components. WASM_TOOLCHAIN forces one of the routes, which are
# otherwise tried in this order:
#
#   installed   the active toolchain has the target already
#   rustup      `rustup target add`, given up after WASM_RUSTUP_SECONDS (default 90)
#   debian      rustc-web, cargo-web and rust-web-src of Debian; the standard library
#               is built once and kept in FOLDER

wasm_target=wasm32-unknown-unknown
# For toolchains that do not bring wasm-component-ld themselves.
component_linker_version=0.5.31

prepare_toolchain() {
    local folder=$1
    local route=${WASM_TOOLCHAIN:-any}
    mkdir -p "$folder"
    case $route in
    any)
        use_installed || use_debian_sysroot "$folder" || use_rustup || use_debian "$folder" || toolchain_failed \
            "no Rust toolchain for $wasm_target: the reasons stand above. remedy: rustup target add $wasm_target" ;;
    installed)
        use_installed || toolchain_failed \
            "the toolchain $(rustc --version) has no target $wasm_target. remedy: rustup target add $wasm_target, or unset WASM_TOOLCHAIN" ;;
    rustup)
        use_rustup || toolchain_failed "rustup cannot install $wasm_target. remedy: look at its message above, or set WASM_TOOLCHAIN=debian" ;;
    debian)
        use_debian_sysroot "$folder" || use_debian "$folder" || toolchain_failed \
            "the toolchain of Debian is not usable: the reason stands above. remedy: rustup target add $wasm_target and unset WASM_TOOLCHAIN" ;;
    *)
        toolchain_failed "WASM_TOOLCHAIN=$route is not known. remedy: one of installed, rustup, debian" ;;
    esac
    use_linker "$folder"
}

toolchain_failed() {
    echo "plugins: $1" >&2
    exit 1
}

use_installed() {
    command -v cargo >/dev/null || return 1
    local library
    library=$(rustc --print sysroot)/lib/rustlib/$wasm_target/lib
    compgen -G "$library/libstd-*.rlib" >/dev/null || return 1
    wasm_cargo=$(command -v cargo)
    RUSTC=$(command -v rustc)
    export RUSTC
}

use_rustup() {
    command -v rustup >/dev/null || return 1
    echo "plugins: rustup target add $wasm_target" >&2
    timeout --kill-after=5 "${WASM_RUSTUP_SECONDS:-90}" rustup target add "$wasm_target" >&2 </dev/null || {
        echo "plugins: rustup did not install $wasm_target" >&2
        return 1
    }
    use_installed
}

# The standard library of the very compiler that is installed now.
debian_sysroot() {
    echo "$1/sysroot-$(/usr/bin/rustc --version | cut -d' ' -f2)"
}

use_debian_sysroot() {
    [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] || return 1
    local sysroot
    sysroot=$(debian_sysroot "$1")
    [ -x "$sysroot/bin/rustc" ] || return 1
    wasm_cargo=/usr/bin/cargo
    export RUSTC=$sysroot/bin/rustc
}

use_debian() {
    install_debian && build_debian_sysroot "$1" && use_debian_sysroot "$1"
}

install_debian() {
    debian_is_complete && return 0
    command -v apt-get >/dev/null || {
        echo "plugins: this is no Debian: it has no apt-get" >&2
        return 1
    }
    local sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    echo "plugins: installing rustc-web, cargo-web and rust-web-src" >&2
    $sudo apt-get update -qq >&2 &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-remove --no-install-recommends \
            rustc-web cargo-web rust-web-src >&2 &&
        debian_is_complete
}

debian_is_complete() {
    [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]
}

# Debian ships the sources of the library but no build of it for this target.
# `-Zbuild-std` builds it on the way to an empty crate, from where it is taken.
build_debian_sysroot() (
    set -e
    folder=$1
    sysroot=$(debian_sysroot "$folder")
    draft=$sysroot.draft
    echo "plugins: building the standard library for $wasm_target (once, about a minute)" >&2
    rm -rf "$draft" "$sysroot"
    mkdir -p "$draft/empty/src" "$draft/bin" "$draft/lib/rustlib/$wasm_target/lib"
    cat >"$draft/empty/Cargo.toml" <<'TOML'
[package]
name = "empty"
edition = "2024"

[workspace]
TOML
    echo '#![no_std]' >"$draft/empty/src/lib.rs"
    env -u CARGO_ENCODED_RUSTFLAGS -u RUSTFLAGS RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_DIR="$draft/build" \
        /usr/bin/cargo build --quiet --release -Zbuild-std=std,panic_abort --target "$wasm_target" \
        --manifest-path "$draft/empty/Cargo.toml" >&2
    cp "$draft/build/$wasm_target/release/deps/"*.rlib "$draft/lib/rustlib/$wasm_target/lib/"
    rm -f "$draft/lib/rustlib/$wasm_target/lib/"libempty-*
    rm -rf "$draft/build" "$draft/empty"
    for host in "$(/usr/bin/rustc --print sysroot)"/lib/rustlib/*-linux-*; do
        ln -s "$host" "$draft/lib/rustlib/"
    done
    cat >"$draft/bin/rustc" <<'SH'
#!/bin/sh
here=${0%/*}
exec /usr/bin/rustc --sysroot "${here%/*}" "$@"
SH
    chmod +x "$draft/bin/rustc"
    mv "$draft" "$sysroot"
)

# wasm-component-ld calls the linker for modules and makes a component of the
# result. rustup's toolchains bring both; elsewhere they are installed.
use_linker() {
    local folder=$1 tools component_linker module_linker
    tools=$(rustup_tools)
    component_linker=$tools/wasm-component-ld
    [ -x "$component_linker" ] || component_linker=$folder/tools/bin/wasm-component-ld
    if ! [ -x "$component_linker" ]; then
        echo "plugins: installing wasm-component-ld $component_linker_version (once, some minutes)" >&2
        env -u CARGO_ENCODED_RUSTFLAGS -u RUSTFLAGS "$wasm_cargo" install --quiet --locked --root "$folder/tools" \
            --target-dir "$folder/tools/build" "wasm-component-ld@$component_linker_version" >&2 ||
            toolchain_failed "cargo cannot install wasm-component-ld: the reason stands above"
        rm -rf "$folder/tools/build"
    fi
    module_linker=$tools/gcc-ld/wasm-ld
    [ -x "$module_linker" ] || module_linker=$(newest_module_linker)
    if [ -z "$module_linker" ]; then
        local sudo=
        [ "$(id -u)" -eq 0 ] || sudo=sudo
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-remove --no-install-recommends lld-22 >&2 || true
        module_linker=$(newest_module_linker)
    fi
    [ -n "$module_linker" ] || toolchain_failed "there is no wasm-ld of LLVM 20 or newer. remedy: apt-get install lld-22"
    printf -v CARGO_ENCODED_RUSTFLAGS '%s\x1f' \
        -Clinker-flavor=wasm-ld "-Clinker=$component_linker" "-Clink-arg=--wasm-ld-path=$module_linker"
    export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
    unset RUSTFLAGS
}

# Where the toolchain of the PATH keeps its own linkers; also useful to the
# compiler of Debian, which has none.
rustup_tools() {
    local sysroot host
    command -v rustc >/dev/null || return 0
    sysroot=$(env -u RUSTC rustc --print sysroot)
    host=$(env -u RUSTC rustc -vV | sed -n 's/^host: //p')
    echo "$sysroot/lib/rustlib/$host/bin"
}

newest_module_linker() {
    local version
    for version in 25 24 23 22 21 20; do
        command -v "wasm-ld-$version" && return 0
    done
    return 0
}
