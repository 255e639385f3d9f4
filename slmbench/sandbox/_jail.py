"""How a process is shut in: namespaces by way of libc, what is visible inside, resource limits, no privileges.

Linux alone. Everything here runs in a process of one thread, without torch and without a person's environment.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import struct
from collections.abc import Callable, Sequence
from typing import NoReturn

NOBODY = 65534
BOX = "/box"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
SYS_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "ppc64le": 184, "s390x": 185}
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
SYS_MOUNT_SETATTR = 442  # Linux 5.12; one number on all machines.
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
# Calls that no program needs: to look into other processes (ptrace, process_vm_readv and _writev, pidfd_getfd), into
# keyrings (add_key, request_key, keyctl), for namespaces (unshare, setns), for memory that no limit counts (shmget,
# msgget, semget, memfd_create, memfd_secret), what tells of the host (syslog; statmount and listmount, by which a mount
# names the path that it has outside), and what the kernel has had most holes in (bpf, userfaultfd, perf_event_open,
# io_uring_setup, _enter, _register).
_REFUSED_ANYWHERE = (438, 447, 425, 426, 427, 457, 458)
_REFUSED_GENERIC = (117, 270, 271, 217, 218, 219, 97, 268, 194, 186, 190, 116, 279, 280, 282, 241)
_REFUSED = {
    "x86_64": (101, 310, 311, 248, 249, 250, 272, 308, 29, 68, 64, 103, 319, 321, 323, 298),
    "aarch64": _REFUSED_GENERIC,
    "riscv64": _REFUSED_GENERIC,
}
# AUDIT_ARCH_*, clone, socket.
_CALLS = {"x86_64": (0xC000003E, 56, 41), "aarch64": (0xC00000B7, 220, 198), "riscv64": (0xC00000F3, 220, 198)}
SYS_CLONE3 = 435
CLONE_NEW_ANY = 0x7E020000
FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: those that a network namespace shuts in.

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument. Raises OSError."""
    _call(f"prctl {option}", _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))


def new_keyring() -> None:
    """Leaves the session keyring of whoever started this, for an empty one; nothing if that isn't available."""
    number = SYS_KEYCTL.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, ctypes.c_long(1), None)  # KEYCTL_JOIN_SESSION_KEYRING, an anonymous one


def forbid_user_namespaces() -> None:
    """In the user namespace that this process is in none can be made any more; nothing if that isn't available."""
    try:
        _write("/proc/sys/user/max_user_namespaces", "0")
    except OSError:
        pass  # Some containers show /proc/sys read-only. `deny_calls` is the second lock.


def new_user_namespace() -> None:
    """Puts this process into a user namespace of its own. Raises OSError."""
    _call("unshare", _libc.unshare(CLONE_NEWUSER))


def map_ids(pid: int) -> None:
    """Gives a process that has just made its user namespace its ids: for root all, else one's own as nobody."""
    if os.getuid():
        _write(f"/proc/{pid}/setgroups", "deny")
    for kind, own in (("uid_map", os.getuid()), ("gid_map", os.getgid())):
        ids = f"{NOBODY} {own} 1"
        if os.getuid() == 0:
            with open(f"/proc/self/{kind}") as table:
                ids = "\n".join(f"{inside} {inside} {count}" for inside, _, count in map(str.split, table))
        _write(f"/proc/{pid}/{kind}", ids)


def offer_to_oom_killer() -> None:
    """Puts this process and its children first in line when the machine's memory runs out."""
    try:
        _write("/proc/self/oom_score_adj", "1000")
    except OSError:
        pass


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def enter(
    wait: int, tell: int, view: Sequence[Sequence[str]], size_bytes: int, role: Callable[[], NoReturn]
) -> NoReturn:
    """Runs `role` in new namespaces, on a file system of the view (read-only) and an empty BOX; ends with its code.

    Three processes: this one outside, killed with its parent; the jail's first, which reaps and whose end is the
    end of all inside; and the role's. tell: a pipe that is written to when the ids can be mapped (`map_ids`); wait: one
    that is read until they are. view: what is bound, which folders of that are shown empty, which files as /dev/null.
    Raises OSError if the kernel refuses.
    """
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    _call("unshare", _libc.unshare(flags))
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.write(tell, b"u")
    if not os.read(wait, 1):
        os._exit(1)
    os.close(tell)
    os.close(wait)
    forbid_user_namespaces()
    _libc.sethostname(b"box", 3)
    _libc.setdomainname(b"(none)", 6)
    _bring_loopback_up()
    binds, masks, hidden = view
    _build_root(binds, masks, hidden, size_bytes)
    alive, parent = os.pipe()
    first = os.fork()
    if first == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(parent)
        # The signal comes only for a parent that dies after it was asked for.
        if not os.read(alive, 1):
            os._exit(1)
        os.close(alive)
        child = os.fork()
        if child == 0:
            os.setsid()
            role()
        _let_go()
        os._exit(_wait_for(child))
    os.write(parent, b"a")
    _let_go()
    os._exit(_wait_for(first))


def _let_go() -> None:
    """Closes all files, and this process to others: what runs inside is to find nothing in it."""
    silence()
    os.closerange(3, 1 << 16)
    prctl(PR_SET_DUMPABLE, 0)


def _wait_for(child: int) -> int:
    """The exit code of a child, 128 + n after a signal; reaps whatever else ends meanwhile."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _bring_loopback_up() -> None:
    """127.0.0.1 of this network namespace, in which there is nothing else; nothing if the kernel refuses."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        request = struct.pack("16sH14x", b"lo", IFF_UP)
        try:
            fcntl.ioctl(asked, SIOCSIFFLAGS, request)
        except OSError:
            pass


def _build_root(binds: Sequence[str], masks: Sequence[str], hidden: Sequence[str], size_bytes: int) -> None:
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    # Opened before anything is mounted over them: an interpreter can lie below the folder that becomes the new root.
    sources = [(path, os.open(path, os.O_PATH)) for path in [*binds, *DEVICES]]
    links = [(path, os.readlink(path)) for path in ("/lib", "/lib64", "/bin") if os.path.islink(path)]
    root = "/tmp"
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path, source in sources:
        target = root + path
        if stat.S_ISDIR(os.fstat(source).st_mode):
            os.makedirs(target, 0o755, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
        os.close(source)
    for path in masks:
        _mount("tmpfs", root + path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,mode=555")
    for path in hidden:
        _mount("/dev/null", root + path, None, MS_BIND)
    for path, _ in sources:
        _read_only(root + path, ATTR_RDONLY | ATTR_NOSUID | (0 if path in DEVICES else ATTR_NODEV), AT_RECURSIVE)
    for path, to in links:
        if not os.path.lexists(root + path):
            os.symlink(to, root + path)
    # Named semaphores and shared memory are files of the box, and bounded with them.
    os.symlink(BOX, root + "/dev/shm")
    os.mkdir(root + BOX, 0o700)
    options = f"size={size_bytes},nr_inodes=4096,mode=700,uid={NOBODY},gid={NOBODY}"
    _mount("tmpfs", root + BOX, "tmpfs", MS_NOSUID | MS_NODEV, options)
    _read_only(root, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0)
    os.chdir(root)
    _call("pivot_root", _libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."))
    _call("umount", _libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    _call(f"mount {target}", _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def _read_only(path: str, attributes: int, flags: int) -> None:
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    result = _libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, wanted, ctypes.c_size_t(32))
    _call(f"mount_setattr {path}", result)


def silence() -> None:
    """Standard input is empty from here on, and what is printed goes nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def drop_privileges(uid: int) -> None:
    """Root becomes uid; all capabilities go, and none can be had by executing a file."""
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, *map(ctypes.c_ulong, (capability, 0, 0, 0)))
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    none = (ctypes.c_uint32 * 6)()
    _call("capset", _libc.syscall(SYS_CAPSET[os.uname().machine], header, none))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if os.getuid() == 0 or os.geteuid() == 0:
        raise OSError(f"still root after becoming {uid}")
    deny_calls()


def deny_calls() -> None:
    """From here on the calls above fail with EPERM; nothing on a machine or a kernel that this is not known for.

    A second lock, needs PR_SET_NO_NEW_PRIVS. Of other architectures' calls (int 0x80, x32) none is left.
    """
    machine = os.uname().machine
    if machine not in _CALLS:
        return
    arch, clone, sock = _CALLS[machine]
    load, equal, at_least, any_bit, end = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, absent = (end, 0, 0, 0x7FFF0000), (end, 0, 0, 0x00050000 | 1), (end, 0, 0, 0x00050000 | 38)
    # (code, jump if true, jump if false, operand), the data being number at 0, architecture at 4, first argument at 16.
    steps = [(load, 0, 0, 4), (equal, 1, 0, arch), refuse, (load, 0, 0, 0), (at_least, 0, 1, 1 << 30), refuse]
    for number in (*_REFUSED[machine], *_REFUSED_ANYWHERE):
        steps += [(equal, 0, 1, number), refuse]
    # Its flags are behind a pointer. As if the kernel were older, the C library takes clone instead.
    steps += [(equal, 0, 1, SYS_CLONE3), absent]
    steps += [(equal, 0, 4, clone), (load, 0, 0, 16), (any_bit, 0, 1, CLONE_NEW_ANY), refuse, allow]
    steps += [(equal, 0, 2 + len(FAMILIES), sock), (load, 0, 0, 16)]
    steps += [(equal, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    steps += [refuse, allow]
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(program, len(program))

    class Filter(ctypes.Structure):
        _fields_ = (("count", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    header = Filter(len(steps), ctypes.addressof(kept))
    _libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(header), *map(ctypes.c_ulong, (0, 0)))


def set_limits(limits: dict[str, int]) -> None:
    """Sets soft and hard limits; those that this system doesn't have, or that are lower already, stay.

    limits: names of `resource.RLIMIT_*` in lower case -> value in that limit's unit.
    """
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(number, (value, value))
        except (OSError, ValueError):
            if os.uname().sysname == "Linux":
                raise
