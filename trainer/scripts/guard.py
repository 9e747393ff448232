"""Starts a script and, when it ends, ends every process that it has started.

The guard is a fork of the runner in a session of its own, so that killing the runner's process group does not end it before it has cleaned
up. Processes that fork away become its children (PR_SET_CHILD_SUBREAPER), and the script is killed if the guard is (PR_SET_PDEATHSIG).

On its pipe `control` the byte T sends SIGTERM to the script's process group; the end of the pipe, which is also the end of the runner,
kills everything. On `status` it writes lines of JSON: `error`, if the command could not be started, and at the end `code`, `left` and
`peak`.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_SECONDS = 5.0  # how long to wait for killed processes; one that is blocked in the kernel ends only when it wakes
CANNOT_START = 127
FIRST_PRIVATE = 10  # the guard's own descriptors are this one and above; shells can name those below
RESET = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Launch:
    """What the guard starts, and the descriptors that it uses."""

    command: list[str]
    environment: Mapping[str, str]
    workdir: str
    file_bytes: int | None  # largest size of a file
    descriptors: Sequence[int]  # what the script has as its descriptors 0, 1, 2 and so on
    control: int
    status: int


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process on Linux; elsewhere without effect."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value)


def descendants(pid: int) -> list[int]:
    """The processes that descend from one, without it, parents first; empty where /proc does not exist. Ended ones are left out."""
    children = dict[int, list[int]]()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdecimal() and (parent := _parent(name)) is not None:
            children.setdefault(parent, []).append(int(name))
    found = list(children.get(pid, ()))
    for one in found:  # grows while it is read
        found += children.get(one, ())
    return found


def _parent(pid: str) -> int | None:
    """The parent of a process; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in b"ZX" else int(parent)


def kill_descendants(pid: int) -> int:
    """Kill the processes that descend from one, and return their number. They are stopped first, so that none of them can fork away."""
    stopped = set[int]()
    while fresh := [one for one in descendants(pid) if one not in stopped]:
        for one in fresh:
            _signal(one, signal.SIGSTOP)
        stopped.update(fresh)
    for one in stopped:
        _signal(one, signal.SIGKILL)
    return len(stopped)


def has_children() -> bool:
    """Whether this process has children, also ended ones. Without any, a subreaper has no descendants either."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def start(launch: Launch) -> int:
    """Fork the guard, and return its process id. Raises OSError if the system allows no further process."""
    # The other thread of the runner may hold a lock at this time, for ever in the child: the guard makes system calls only.
    pid = os.fork()
    if pid == 0:
        try:
            _guard(launch)
        finally:
            os._exit(1)
    return pid


def _guard(launch: Launch) -> NoReturn:
    """The guard's life, in the forked process."""
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    moved = [
        fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE) for descriptor in (launch.control, launch.status, *launch.descriptors)
    ]
    control, status, *given = moved
    for target, descriptor in enumerate(given):
        os.dup2(descriptor, target)
    _close_all_but({*range(len(given)), control, status})
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    script = os.fork()
    if script == 0:
        signal.set_wakeup_fd(-1)
        _start(launch, status)
    # The script's pipes must end with the script.
    _close_all_but({control, status, woken, wake})
    code, left = _follow(script, control, woken)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    os.write(status, json.dumps({"code": code, "left": left, "peak": peak}).encode() + b"\n")
    os._exit(0)


def _close_all_but(kept: Collection[int]) -> None:
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # that of the listing itself
                continue


def _start(launch: Launch, status: int) -> NoReturn:
    """Replace this process, the child of the guard, by the command."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in RESET:
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if launch.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (launch.file_bytes, launch.file_bytes))
        os.chdir(launch.workdir)
        os.execvpe(launch.command[0], launch.command, launch.environment)  # noqa: S606  (without a shell, as intended)
    except OSError as error:
        os.write(status, json.dumps({"error": error.strerror or str(error)}).encode() + b"\n")
    finally:
        os._exit(CANNOT_START)


def _follow(script: int, control: int, woken: int) -> tuple[int | None, int]:
    """Wait for the script's end or that of the runner, then kill what is left. Returns exit code and number of processes killed."""
    while (code := _reap(script)) is None:
        readable = select.select([control, woken], [], [])[0]
        if woken in readable:
            os.read(woken, 4096)
        if control in readable:
            if not os.read(control, 16):
                break
            _signal_group(script, signal.SIGTERM)
            _signal_group(script, signal.SIGCONT)
    if not has_children():
        return code, 0
    left = kill_descendants(os.getpid())
    if code is None:
        _signal_group(script, signal.SIGKILL)  # where there is no /proc
    return _bury(script, code), left


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _bury(script: int, code: int | None) -> int | None:
    """Wait for killed processes, and return the script's exit code."""
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline:
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if ended == script:
            code = os.waitstatus_to_exitcode(how)
        elif ended == 0:
            time.sleep(0.002)
            kill_descendants(os.getpid())
    return code


def _reap(script: int) -> int | None:
    """Reap ended children, and return the script's exit code if it is among them."""
    code = None
    while True:
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if ended == 0:
            return code
        if ended == script:
            code = os.waitstatus_to_exitcode(how)
