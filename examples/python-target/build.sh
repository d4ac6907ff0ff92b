#!/usr/bin/env bash
# Builds FOLDER/history.wasm (default: this folder) with componentize-py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here}
command -v componentize-py >/dev/null || {
    echo "history: there is no componentize-py. remedy: make install, or pip install componentize-py==0.25.1" >&2
    exit 1
}
componentize-py --quiet -d "$here/../../wit" -d "$here/history.wit" -w example:history/history componentize app \
    -p "$here/app" -o "$folder/history.wasm"
