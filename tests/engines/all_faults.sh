#!/usr/bin/env bash
# The long runs of docs/scaling.md, one after the other, on loopback: tests/engines/all_faults.sh PHOTOS
# PHOTOS: a folder with many photos (20,000 or more), which stay as they are. An hour or more.
set -euo pipefail
photos=$(realpath "$1")
cd "$(dirname "$0")/../.."
python=.venv-test/bin/python
alone() { "$python" tests/engines/namespace.py "$python" "$@"; }
shards=$(mktemp -d)
trap 'rm -rf "$shards"' EXIT
alone -m ui.cli index "$photos" --engine ray --shards "$shards"
alone tests/engines/real_photos.py "$shards"
alone tests/engines/ray_faults.py data/gallery 4
"$python" tests/engines/milvus_cluster.py --fetch # etcd and a broker, by the network
alone tests/engines/milvus_faults.py --replicas 1 --faults 6
alone tests/engines/milvus_faults.py --faults 20
alone tests/engines/milvus_library_faults.py --faults 8
