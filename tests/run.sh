#!/usr/bin/env bash
# Runs every test of the workspace, and then makes sure of what no single test
# can see: that tests ran at all, and that nothing of their servers is left.
# `tests/run.sh ARGUMENTS` hands the arguments to `cargo test`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
gone_within_s=60

servers=$(mktemp -d "${PGSHOVEL_SERVERS_DIR:-${TMPDIR:-/tmp}}/pgshovel-tests-XXXXXX")
chmod 755 "$servers"
export PGSHOVEL_SERVERS_DIR=$servers
export PGSHOVEL_TEST_PYTHON=${PGSHOVEL_TEST_PYTHON:-$target/python/bin/python}
log=$servers/output.log

arguments=("$@")
[ $# -gt 0 ] || arguments=(--workspace)
cargo test --locked --no-fail-fast "${arguments[@]}" 2>&1 | tee "$log"
status=$?

read -r passed failed ignored < <(awk '
    /^test result: / {
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^passed/) passed += $(i - 1)
            if ($i ~ /^failed/) failed += $(i - 1)
            if ($i ~ /^ignored/) ignored += $(i - 1)
        }
    }
    END { print passed + 0, failed + 0, ignored + 0 }' "$log")

# The servers end a moment after the tests; one that failed leaves its folder, marked.
left() {
    local folder
    for folder in "$servers"/pgshovel-*/; do
        [ -d "$folder" ] && [ ! -e "$folder/keep" ] && echo "$folder"
    done
    local process
    for process in /proc/[0-9]*; do
        [[ $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") == *"$servers/"* ]] && echo "process ${process#/proc/}"
    done
}
for ((tenths = 0; tenths < gone_within_s * 10; tenths++)); do
    [ -n "$(left)" ] || break
    sleep 0.1
done
if [ -n "$(left)" ]; then
    printf 'tests: left behind after %s s:\n%s\n' "$gone_within_s" "$(left)" >&2
    status=1
fi

if [ "$passed" -eq 0 ]; then
    echo "tests: no test was run" >&2
    status=1
fi
if [ "$status" -eq 0 ]; then
    rm -rf "$servers"
else
    echo "tests: output and logs are kept in $servers" >&2
fi
echo "total: $passed passed, $failed failed, $ignored skipped"
exit "$status"
