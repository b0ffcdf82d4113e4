"""A driver that shares its photos out in small shards: ray_driver.py FOLDER SHARDS N [ADDRESS]."""

from __future__ import annotations

import sys

from indexer.engines.ray_extraction import extract

if __name__ == "__main__":
    folder, shards, per_shard, *address = sys.argv[1:]
    extract([folder], shards, per_shard=int(per_shard), address=address[0] if address else None)
