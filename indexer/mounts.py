"""What is mounted where: of changes on a network drive the system can't tell."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# Those whose files other machines (or a host, for a guest) change without this one being told.
_REMOTE = {
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fuse", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs",
    "vmhgfs",
}  # fmt: skip
_ESCAPED = re.compile(rb"\\([0-7]{3})")  # a blank in a name is written \040
_TABLE = Path("/proc/self/mounts")  # Linux's; elsewhere nothing is known to be remote


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system, and where it is seen."""

    place: Path
    kind: str  # ext4, nfs4, fuse.sshfs ...

    @property
    def is_remote(self) -> bool:
        return self.kind in _REMOTE or self.kind.startswith("fuse.")


def mounts() -> tuple[Mount, ...]:
    """What is mounted now, in the order in which it was; nothing where the system won't say."""
    try:
        return parse_mounts(_TABLE.read_bytes())
    except OSError:
        return ()


@lru_cache(maxsize=2)
def parse_mounts(table: bytes) -> tuple[Mount, ...]:
    """Read the lines of /proc/mounts: device, place, kind, options ..."""
    rows = [line.split(b" ") for line in table.splitlines()]
    return tuple(Mount(_path(row[1]), os.fsdecode(row[2])) for row in rows if len(row) > 2)


def mount_of(folder: Path, table: tuple[Mount, ...]) -> Mount | None:
    """The mount that an absolute folder lies on: the innermost, and of several there the last."""
    above = [mount for mount in table if mount.place in (folder, *folder.parents)]
    return max(reversed(above), key=lambda mount: len(mount.place.parts), default=None)


def mounts_around(folder: Path, table: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Those that a folder lies on, and those in it."""
    near = (folder, *folder.parents)
    return tuple(one for one in table if one.place in near or folder in one.place.parents)


def _path(written: bytes) -> Path:
    return Path(os.fsdecode(_ESCAPED.sub(lambda code: bytes([int(code[1], 8)]), written)))
