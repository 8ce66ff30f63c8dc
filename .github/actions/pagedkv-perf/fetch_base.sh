#!/usr/bin/env bash
# Find the commit to compare with, fetch it if a shallow clone lacks it, and write it to the output `sha`.
#   GATE_BASE   a commit, branch or tag; empty: the first parent of what is checked out
#   GATE_TOKEN  reads the repository where it is not public; may be empty
# Ends with 11, as pytest does where there is nothing to compare with.
set -euo pipefail

refuse() {
    echo "::error title=pagedkv::$*"
    exit 11
}

# A shallow clone has the commit's own text, parents included, though not the parents.
first_parent() { git cat-file commit HEAD | awk '/^$/ { exit } $1 == "parent" { print $2; exit }'; }

here() { git rev-parse --verify --quiet --end-of-options "$1^{commit}"; }

fetch() {
    local depth=()
    if [[ $(git rev-parse --is-shallow-repository) == true ]]; then depth=(--depth=1); fi
    GIT_TERMINAL_PROMPT=0 git fetch --quiet --no-tags "${depth[@]}" origin -- "$1"
}

# The header goes through the environment, so that no list of processes shows it.
fetch_with_token() {
    [[ -n ${GATE_TOKEN:-} && -n ${GITHUB_SERVER_URL:-} ]] || return 1
    local basic
    basic=$(printf 'x-access-token:%s' "$GATE_TOKEN" | base64 | tr -d '\n')
    GIT_CONFIG_COUNT=1 \
        GIT_CONFIG_KEY_0="http.$GITHUB_SERVER_URL/.extraheader" \
        GIT_CONFIG_VALUE_0="AUTHORIZATION: basic $basic" \
        fetch "$1"
}

git rev-parse --git-dir >/dev/null || refuse "this is not a git repository; check the project out first"
base=${GATE_BASE:-}
if [[ -z $base ]]; then
    base=$(first_parent)
    [[ -n $base ]] || refuse "HEAD is the first commit, so there is nothing to compare it with; set the input base"
fi
[[ $base != -* ]] || refuse "the base $base is not a commit, a branch or a tag"

if ! sha=$(here "$base"); then
    name=${base#origin/}
    fetch "$name" || fetch_with_token "$name" ||
        refuse "the base $base is not in this clone and origin does not give it out"
    sha=$(here FETCH_HEAD) || refuse "the base $base is not a commit"
fi
echo "base: $base, commit $sha"
echo "sha=$sha" >>"$GITHUB_OUTPUT"
