"""Run a command where only loopback exists: python tests/engines/namespace.py COMMAND ...

Milvus and Ray bind every address of the machine. Inside a network namespace of its own there is
no address but 127.0.0.1, so nobody outside reaches them, and two runs on one machine do not
meet on a port. The process namespace ends whatever the command left running.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
KINDS = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
OWN_USER = ["--map-root-user"]  # what a user who is not root needs before the rest is allowed
INSIDE = "--inside"


def loopback_only() -> bool:
    """Whether no interface but loopback exists here, so a server that binds all is not seen."""
    return {name for _, name in socket.if_nameindex()} == {"lo"}


def unshare() -> list[str] | None:
    """The `unshare` command that works on this machine for this user, None where none does."""
    tool = shutil.which("unshare")
    for extra in ([], OWN_USER):
        command = [tool or "unshare", *extra, *KINDS]
        if (
            tool
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def run(command: list[str]) -> int:
    """Run a command to its end; SIGTERM ends it and all it started. Process 1 buries orphans."""
    child = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the command as well
    signal.signal(signal.SIGTERM, lambda *_: child.kill())
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments:
        sys.exit(__doc__)
    if arguments[0] == INSIDE:
        loopback_up()
        sys.exit(run(arguments[1:]))
    command = unshare()
    if command:
        sys.exit(run([*command, sys.executable, __file__, INSIDE, *arguments]))
    print("no network namespace can be made here (unshare --net): what needs one will skip")
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    main()
