#!/usr/bin/env bash
# A first run: hello.py and a pipeline as plain processes; with an engine also the R sample in an image built for it.
set -euo pipefail
cd "$(dirname "$0")"

try() { printf '\n$ %s\n' "$*"; "$@"; }

try runner submit hello/hello.py --backend process --wait
try runner show @last
try runner submit hello-io/pipeline.yml --backend process --wait
try runner graph @last
try runner submit hello-io/pipeline.yml --backend process --wait
try runner why @last

if runner backends --json | python3 -c 'import json, sys; sys.exit(all(b["state"] != "ready" for b in json.load(sys.stdin) if b["name"] == "docker"))'; then
  try runner build --libs penguins-r/libs.yaml
  try runner submit penguins-r/train.R --backend docker --wait
  try runner show @last
  try runner list --limit 3
else
  printf '\nNo container engine answers, so the R sample in its image is left out. What is missing, and the fix:\n\n'
  runner doctor || true
fi
