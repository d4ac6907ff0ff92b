#!/usr/bin/env bash
# pgbench writes into a PostgreSQL database; another one follows it, first through
# its copy of the rows, then change by change. Everything runs on private servers
# that are gone afterwards.
#
#   examples/pgbench/run.sh [file|kafka]
#
# PGSHOVEL_DEMO_SCALE (pgbench's scale, 100,000 accounts each; default 5) and
# PGSHOVEL_DEMO_SECONDS (of load after the bootstrap; default 15) make it larger or longer.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
make -s -C "$root" build
"$root/plugins/build.sh" file kafka postgresql
target=${CARGO_TARGET_DIR:-$root/target}
exec "$target/debug/demo" "$here" "${1:-file}"
