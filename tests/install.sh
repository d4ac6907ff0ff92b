#!/usr/bin/env bash
# Installs what building, testing and the demo need and this machine lacks, and
# nothing else: Debian's packages (as root, or with sudo), and below
# TARGET = ${CARGO_TARGET_DIR:-target} Kafka's jars and a Python environment.
# Quick when all is there. Debian's own database and services are neither
# started nor touched.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$(dirname "$here")/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)

fail() {
    echo "install: $1" >&2
    exit 1
}

# Runs a command silently; shows what it printed if it fails.
step() {
    local doing=$1 output
    shift
    echo "install: $doing" >&2
    output=$("$@" 2>&1 </dev/null) || fail "$doing failed ($*):"$'\n'"$output"
}

has_package() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# What apt has to install: a package counts as there if its command is, from
# wherever that came.
missing_packages() {
    local package
    for package in postgresql-15 postgresql-15-pgq3 pgqd pgbouncer zookeeper zlib1g-dev libssl-dev libcurl4-openssl-dev libc6-dev python3-venv; do
        has_package "$package" || echo "$package"
    done
    command -v java >/dev/null || echo default-jre-headless
    command -v mvn >/dev/null || echo maven
    command -v make >/dev/null || echo make
    command -v cc >/dev/null || echo gcc
    command -v pkg-config >/dev/null || echo pkg-config
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

# apt-get as root. Packages would start their services, and PostgreSQL's would
# make a cluster on port 5432: both are switched off while they are installed,
# if nobody has set them already.
apt_get() {
    # shellcheck disable=SC2016
    local script='
        set -e
        policy=/usr/sbin/policy-rc.d
        clusters=/etc/postgresql-common/createcluster.d/pgshovel-install.conf
        made=
        trap "rm -f \$made" EXIT
        if [ ! -e $policy ]; then
            made=$policy
            printf "#!/bin/sh\nexit 101\n" >$policy
            chmod 755 $policy
        fi
        mkdir -p "${clusters%/*}"
        made="$made $clusters"
        echo "create_main_cluster = off" >$clusters
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -qq -y --no-remove --no-install-recommends "$@"
        rm -f $made
        rmdir --ignore-fail-on-non-empty "${clusters%/*}"
    '
    if [ "$(id -u)" -eq 0 ]; then
        sh -c "$script" sh "$@"
    else
        sudo -n sh -c "$script" sh "$@"
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "this machine has no apt-get; install what these packages of Debian 12 hold: ${packages[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "neither root nor sudo; let an administrator run: apt-get install ${packages[*]}"
        # A password is asked for here, where it can be seen.
        sudo -v || fail "sudo is refused; let an administrator run: apt-get install ${packages[*]}"
    fi
    step "apt packages ${packages[*]}" apt_get "${packages[@]}"
}

# Made elsewhere and moved into place whole: an interrupted run leaves nothing half done.
install_kafka() {
    local jars=$target/kafka
    cmp -s "$here/pom.xml" "$jars/pom.xml" && return 0
    rm -rf "$jars" "$jars.draft"
    step "Kafka's jars with Maven" mvn -q -B -e -Dstyle.color=never -f "$here/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$jars.draft"
    cp "$here/pom.xml" "$jars.draft/"
    mv "$jars.draft" "$jars"
}

# A virtual environment cannot be moved, so the copy of its requirements says that it is whole.
install_python() {
    local folder=$target/python
    cmp -s "$here/requirements.txt" "$folder/requirements.txt" && "$folder/bin/python" -c '' 2>/dev/null && return 0
    rm -rf "$folder"
    step "a Python environment" python3 -m venv "$folder"
    step "Python packages" "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$folder/"
}

command -v cargo >/dev/null || fail "there is no cargo; install Rust 1.95 or newer, for example with rustup"
exec 9>"$target/install.lock"
flock 9
install_packages
install_kafka
install_python
