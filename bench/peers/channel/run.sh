#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Channels here and in Go, one after the other on the same machine: run.sh <lwp_bench>.  Needs go (Debian: golang-go).
set -eu
bench=${1:?usage: run.sh <path of lwp_bench>}
here=$(dirname "$0")
go=$(mktemp -d)
trap 'rm -rf "$go"' EXIT
GOCACHE="$go/cache" go build -o "$go/peer" "$here/main.go"
"$go/peer"
"$bench" --benchmark_filter='BM_(Channel|Select)/' --benchmark_repetitions=5 --benchmark_report_aggregates_only=true 2>/dev/null |
	grep -E 'median|Time'
