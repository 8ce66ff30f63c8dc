#!/usr/bin/env bash
# Install the project in its own way.
#   GATE_INSTALL  shell commands; empty: nothing to do
set -euo pipefail

if [[ -z ${GATE_INSTALL:-} ]]; then
    echo "nothing to install"
    exit 0
fi
exec bash -euo pipefail -c "$GATE_INSTALL"
