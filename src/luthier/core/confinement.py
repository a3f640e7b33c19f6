"""Take the network away from the process that runs, for good, with all that it starts.

A filter of system calls (seccomp), which needs no privilege: no socket of the internet can be made, whatever code asks
for one. Sockets between the processes of this machine stay, as graphics drivers use them.
"""

import ctypes
import errno
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _ALL_THREADS = 38, 1, 1
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # where these stand in the kernel's `seccomp_data`
_AF_INET, _AF_INET6, _IO_URING_SETUP = 2, 10, 425
_X32 = 0x40000000
# By machine: the kernel's name of the architecture, and its numbers of `socket` and `seccomp`.
_MACHINES = {"x86_64": (0xC000003E, 41, 317), "aarch64": (0xC00000B7, 198, 277)}


def without_network() -> bool:
    """Forbid this process sockets of the internet, in all its threads; tell whether this system can."""
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return False
    architecture, socket, seccomp = machine
    program = _program(architecture, socket)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return libc.syscall(seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(header)) == 0


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _program(architecture: int, socket: int) -> bytes:
    """Return the filter: calls of another architecture and io_uring, which can make sockets too, are refused."""
    refused = _ERRNO | errno.EACCES
    # Each jump says how many instructions to pass over: where it is equal, where it is not.
    lines = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 0, 8, architecture),
        (_LOAD_WORD, 0, 0, _NUMBER),
        (_JUMP_EQUAL, 6, 0, _IO_URING_SETUP),
        (_JUMP_EQUAL, 5, 0, socket | _X32),
        (_JUMP_EQUAL, 0, 3, socket),
        (_LOAD_WORD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_EQUAL, 2, 0, _AF_INET),
        (_JUMP_EQUAL, 1, 0, _AF_INET6),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, refused),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)
