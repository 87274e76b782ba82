"""A lock on an open file that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    def try_lock(fd: int) -> bool:
        """Take the lock if nobody has it; says whether it is ours now."""
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def lock(fd: int) -> None:
        """Wait for the lock."""
        while not try_lock(fd):
            msvcrt.locking(fd, msvcrt.LK_LOCK, 1)  # gives up after ten seconds
            return

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Take the lock if nobody has it; says whether it is ours now."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(fd: int) -> None:
        """Wait for the lock."""
        fcntl.flock(fd, fcntl.LOCK_EX)
