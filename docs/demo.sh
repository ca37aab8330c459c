#!/usr/bin/env bash
# The demo of `make demo`: starts a server, and shows a job from start to end.
# Removes everything it created, whether it succeeds or fails.
set -euo pipefail

WORKER_HOME=$(mktemp -d "${TMPDIR:-/tmp}/worker-demo.XXXXXX")
export WORKER_HOME
# The user's own settings are not for this server.
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
