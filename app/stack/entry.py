"""The entry of each process of the stack: it changes the account, asks to end with its parent, and runs a program.

It runs as a script without site-packages, so that it takes a few milliseconds:
`python -I -S entry.py PARENT DEATH_SIGNAL ACCOUNT -- /PROGRAM ARGUMENT…`, where ACCOUNT is
`uid:gid`, `uid:gid:reach`, or `-` for no change.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 4
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


# The library is loaded before the account changes, since other accounts can't read a Python below /root.
LIBC = ctypes.CDLL(None, use_errno=True)


def _call_libc(libc_function, *arguments: object) -> None:
    if libc_function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{libc_function.__name__}: {os.strerror(number)}")


def change_account(uid: int, gid: int, bypass_permissions: bool) -> None:
    """Change to another account. With `bypass_permissions` the process can still enter closed folders."""
    if bypass_permissions:
        # PostgreSQL checks its files with access(2), which ignores capabilities unless this bit is set.
        _call_libc(LIBC.prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if bypass_permissions:
        # A checkout below /root is closed to all other accounts, and a changed permission would outlast the stack.
        # An ambient capability lets in this one process and changes no file.
        capability_mask = 1 << CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(capability_mask, capability_mask, capability_mask, 0, 0, 0)
        _call_libc(LIBC.capset, header, sets)
        _call_libc(LIBC.prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def die_with_parent(parent: int, signal: int) -> None:
    """Ask the kernel to signal this process when its parent ends, in case the watchdog is killed, too.

    Call it after `change_account`, which clears the request.
    """
    if sys.platform == "linux":
        _call_libc(LIBC.prctl, PR_SET_PDEATHSIG, signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("The parent ended before this process began.")


def main() -> None:
    """Become the program."""
    parent, signal, account, separator, *argv = sys.argv[1:]
    if separator != "--" or not argv:
        sys.exit(__doc__)
    if account != "-":
        uid, gid, *bypass_permissions = account.split(":")
        change_account(int(uid), int(gid), bool(bypass_permissions))
    die_with_parent(int(parent), int(signal))
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
