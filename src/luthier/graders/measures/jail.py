"""The child process in which code that a model wrote is run. Started as a script; imports nothing but the standard library.

    python -I -S jail.py FOLDER SECONDS MEGABYTES isolated|open < task.json > result.json

`isolated` (Linux) enters new user, mount, process, network, IPC and host-name namespaces: no network at all, every file
system read-only but an empty FOLDER, no other process in sight, and the usual places of sockets covered. Both kinds get limits on time, memory and file size. Then
the script starts itself anew as `run`, without any privilege, and executes the task.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from types import TracebackType

ISOLATION_FAILED = 97
_INNER_ID = 65534
_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # user mnt pid net ipc uts
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# A socket file is no network: what listens behind it, such as Docker or an agent with keys, is reached without one.
_COVERED = ("/run", "/var/run", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - covered, not used
_LARGEST_FILE = 16 << 20
_MOST_FILES = 64
_MOST_PROCESSES = 32
_LONGEST_FAULT = 300


def enter(folder: str, seconds: int, megabytes: int, isolated: bool) -> None:
    """Isolate this process as asked, limit it, and start the task in it; never returns."""
    os.chdir(folder)
    if isolated:
        try:
            _isolate(folder)
        except OSError as error:
            print(error, file=sys.stderr)
            sys.exit(ISOLATION_FAILED)
    os.environ["HOME"] = os.environ["TMPDIR"] = os.getcwd()
    _limit(seconds, megabytes, isolated)
    os.execv(sys.executable, [sys.executable, "-I", os.path.abspath(__file__), "run"])  # noqa: S606 - there is no shell in it


def run() -> None:
    """Execute the task on standard input and write its result; what the code itself prints goes nowhere."""
    task = json.load(sys.stdin)
    result, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    own, getpid, write, dumps = os.getpid(), os.getpid, os.write, json.dumps

    def report(found: dict[str, object]) -> None:
        # The code may fork; what its children come to is not the answer.
        if getpid() == own:
            write(result, dumps(found).encode())

    def report_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        report({"nonce": "", "fault": f"{kind.__name__}: {error}"[:_LONGEST_FAULT]})

    sys.excepthook = report_fault
    names: dict[str, object] = {"__name__": "answer", **task["names"]}
    for part in ("code", "tests"):
        exec(compile(task[part], f"{part}.py", "exec"), names)  # noqa: S102 - what this process is for
    value = names.get(task["value"]) if task["value"] else None
    # Only a run that came to its end knows the nonce, so that an early exit is no success.
    report({"nonce": task["nonce"], "value": value if isinstance(value, int | float) else None})
    os._exit(0)


def _isolate(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _call(libc.unshare, _NAMESPACES)
    for file, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INNER_ID} {user} 1"),
        ("gid_map", f"{_INNER_ID} {group} 1"),
    ):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as stream:
            stream.write(line)
    _call(libc.mount, None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    _call(
        libc.syscall,
        _MOUNT_SETATTR,
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )
    _mount(libc, b"tmpfs", folder, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=32m,mode=700")
    # One empty file system covers them all, for every one of its own would take time to take down.
    for place in _COVERED:
        if os.path.isdir(place) and not os.path.islink(place) and not _holds_python(place):
            _mount(libc, os.fsencode(folder), place, None, _MS_BIND, None)
            if folder.startswith(f"{place}/"):
                folder = place
    os.chdir(folder)
    _become_first_process(libc)


def _mount(libc: ctypes.CDLL, what: bytes, place: str, kind: bytes | None, flags: int, options: bytes | None) -> None:
    _call(libc.mount, what, os.fsencode(place), kind, flags, options)


def _holds_python(place: str) -> bool:
    return any(path.startswith(f"{place}/") for path in (sys.executable, sys.base_prefix, os.path.abspath(__file__)))


def _become_first_process(libc: ctypes.CDLL) -> None:
    """Go on as the first process of the new namespace; when it ends, all that it started ends with it."""
    child = os.fork()
    if child:
        # Killed this way round, everything in the namespace is gone before this process ends.
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGKILL))
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _call(libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _mount(libc, b"proc", "/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)
    _call(libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _limit(seconds: int, megabytes: int, isolated: bool) -> None:
    limits = [
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_AS, megabytes << 20),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ]
    # Outside a namespace of its own the limit would count all processes of the user.
    limits += [(resource.RLIMIT_NPROC, _MOST_PROCESSES)] if isolated else []
    for kind, most in limits:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run()
    else:
        enter(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "isolated")
