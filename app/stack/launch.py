"""Becomes one process of the stack: drops root where the program refuses it, ties its life to the parent, execs.

Run as a script without site-packages, so that it costs a few milliseconds:
`python -I -S launch.py PARENT DEATH_SIGNAL ACCOUNT -- /PROGRAM ARGUMENT…`, where ACCOUNT is
`uid:gid`, `uid:gid:reach`, or `-` for no change.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 4
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


# Loaded while this may still read its own library: a Python below /root is closed to other accounts.
LIBC = ctypes.CDLL(None, use_errno=True)


def _call(function, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")


def become(uid: int, gid: int, reach: bool) -> None:
    """Change to another account. With `reach` it may still pass folders that are closed to it.

    A checkout below /root is closed to every other account, and opening a person's home would
    outlast the stack. An ambient capability lets this one process in, and changes no file.
    """
    if reach:
        # PostgreSQL looks at its files with access(2), which forgets capabilities without this bit.
        _call(LIBC.prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if reach:
        mask = 1 << CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        _call(LIBC.capset, header, sets)
        _call(LIBC.prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def die_with_parent(parent: int, signal: int) -> None:
    """The second line behind the guard. After `become`: a change of account clears it."""
    if sys.platform == "linux":
        _call(LIBC.prctl, PR_SET_PDEATHSIG, signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent ended before this process began")


def main() -> None:
    parent, signal, account, separator, *argv = sys.argv[1:]
    if separator != "--" or not argv:
        sys.exit(__doc__)
    if account != "-":
        uid, gid, *reach = account.split(":")
        become(int(uid), int(gid), bool(reach))
    die_with_parent(int(parent), int(signal))
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
