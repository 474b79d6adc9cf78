"""Processes that claim at once never share a shard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import ingested

CLAIM_ALL = """
import sys
from pathlib import Path
from pixmill.stores.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
sys.stdin.readline()
while lease := store.claim(sys.argv[2], now=1_800_000_001.0, lease_seconds=600):
    print(lease.number)
"""


def test_8_processes_that_claim_at_once_never_share_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    store = SqliteStore(path)
    ingested(store, urls=128 * 100)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, str(path), f"worker {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for claimer in claimers:
        assert claimer.stdin
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    claimed = [int(number) for claimer in claimers for number in claimer.communicate()[0].split()]
    assert sorted(claimed) == list(range(1, 101))
    store.close()
