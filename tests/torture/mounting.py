"""File systems of a process's own: mounted where no other process sees it, gone when it ends."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_DETACH = 2
_CAPBSET_DROP = 24
_CAPGET, _CAPSET = (90, 91) if platform.machine() == "aarch64" else (125, 126)
_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> None:
    """From now on this process mounts for itself. Raises OSError where it may not."""
    uid, gid = os.getuid(), os.getgid()
    _do(_libc.unshare(_NEWNS if uid == 0 else _NEWNS | _NEWUSER))
    if uid != 0:  # as root of a namespace, in which nobody else exists
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _mount("none", Path("/"), None, _REC | _PRIVATE)


def obey_modes() -> None:
    """From now on this process, and what it starts, may do only what files' modes say."""
    dropped = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    header, words = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _do(_libc.syscall(_CAPGET, header, words))
    for capability in dropped:
        _do(_libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0))
        for at in range(3):  # those in effect, permitted, inherited
            words[at] &= ~(1 << capability)
    _do(_libc.syscall(_CAPSET, header, words))


def mount_memory(place: Path, megabytes: int) -> None:
    """A file system of this size in memory."""
    place.mkdir(exist_ok=True)
    _mount("none", place, "tmpfs", 0, f"size={megabytes}m")


def make_read_only(place: Path, yes: bool = True) -> None:
    """Change how what is mounted here is."""
    _mount("none", place, None, _REMOUNT | (_RDONLY if yes else 0))


def detach(place: Path) -> None:
    """As an unplugged disk: files that are open stay so, their names are gone."""
    _do(_libc.umount2(os.fsencode(place), _DETACH))


def show_again(source: Path, place: Path) -> None:
    """Mount a folder at another place too."""
    place.mkdir(exist_ok=True)
    _mount(str(source), place, None, _BIND)


def _mount(source: str, place: Path, kind: str | None, flags: int, options: str = "") -> None:
    _do(
        _libc.mount(
            source.encode(),
            os.fsencode(place),
            None if kind is None else kind.encode(),
            flags,
            options.encode(),
        )
    )


def _do(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
