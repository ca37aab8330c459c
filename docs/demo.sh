#!/usr/bin/env bash
# What `make demo` shows: a server of one's own, and a job from its start to its end.
# Leaves nothing behind, whether it succeeds or fails.
set -euo pipefail

WORKER_HOME=$(mktemp -d "${TMPDIR:-/tmp}/worker-demo.XXXXXX")
export WORKER_HOME
# Those of the person at the keyboard are not for this server.
unset WORKER_SERVER WORKER_CA WORKER_CERT WORKER_KEY WORKER_CONFIG
export WORKER_LISTEN=127.0.0.1:0

clean_up() {
  worker down --jobs >/dev/null 2>&1 || true
  rm -rf "$WORKER_HOME"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

show() {
  printf '$ %s\n' "$*"
  "$@"
}

show worker up
printf '$ worker start ls /\n'
answer=$(worker start ls /)
printf '%s\n' "$answer"
job=${answer#Job }
job=${job%% *}
show worker stream "$job"
show worker query "$job"
show worker down
