"""The system calls that a sandboxed program does not get, as a filter (BPF) for Linux's seccomp.

The guest puts it on itself before its first program, on top of Docker's default filter, or alone under
bubblewrap. It refuses what containers were left by (namespaces, mounts, bpf, io_uring, keys, …), what
reaches from the program to the guest, which has the same user (limits, priority, memory, tracing of
another process), and memory that belongs to no process (memfd, System V, message queues), which no
limit on processes sees. Programs of contests need none of these. Refused calls fail with EPERM.
"""

import struct
from dataclasses import dataclass, field

EPERM, ENOSYS = 1, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
X32 = 0x40000000
NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
OWNER_COMMANDS = (8, 10, 15)
OWNER_REQUESTS = (0x8901, 0x8902)
"""fcntl's F_SETOWN, F_SETSIG, F_SETOWN_EX; ioctl's FIOSETOWN, SIOCSPGRP: who gets a descriptor's signals."""
FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK, which Python's own modules try. There is no network."""

SAME_NUMBERS = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "memfd_secret": 447, "process_mrelease": 448, "open_tree_attr": 467,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Processor:
    """One architecture: its AUDIT_ARCH, the calls refused whatever their arguments, and those looked into.

    `own` calls take a process first and may name only the caller (0); `signals` may not name process 1, the
    guest, which Linux itself shields and other kernels (gVisor) may not. Numbers: Linux's syscall tables.
    """

    arch: int
    refused: dict[str, int]
    own: dict[str, int]
    signals: dict[str, int]
    setpriority: int
    fcntl: int
    ioctl: int
    clone: int
    clone3: int
    socket: int
    other_abi: bool = False


X86_64 = Processor(
    arch=0xC000003E,
    refused=SAME_NUMBERS
    | {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "unshare": 272,
        "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "bpf": 321,
        "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250, "add_key": 248, "request_key": 249,
        "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313,
        "delete_module": 176, "name_to_handle_at": 303, "open_by_handle_at": 304, "memfd_create": 319,
        "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "ioprio_set": 251, "quotactl": 179,
        "swapon": 167, "swapoff": 168, "reboot": 169, "acct": 163, "settimeofday": 164,
        "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305, "syslog": 103, "iopl": 172,
        "ioperm": 173, "modify_ldt": 154, "fanotify_init": 300, "move_pages": 279, "migrate_pages": 256,
        "lookup_dcookie": 212, "vhangup": 153, "uselib": 134, "sethostname": 170, "setdomainname": 171,
    },
    own={
        "prlimit64": 302, "sched_setparam": 142, "sched_setscheduler": 144, "sched_setattr": 314,
        "sched_setaffinity": 203,
    },
    signals={"kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    setpriority=141, fcntl=72, ioctl=16, clone=56, clone3=435, socket=41, other_abi=True,
)  # fmt: skip

AARCH64 = Processor(
    arch=0xC00000B7,
    refused=SAME_NUMBERS
    | {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "unshare": 97,
        "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "keyctl": 219, "add_key": 217, "request_key": 218,
        "kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273,
        "delete_module": 106, "name_to_handle_at": 264, "open_by_handle_at": 265, "memfd_create": 279,
        "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180, "ioprio_set": 30, "quotactl": 60,
        "swapon": 224, "swapoff": 225, "reboot": 142, "acct": 89, "settimeofday": 170,
        "clock_settime": 112, "adjtimex": 171, "clock_adjtime": 266, "syslog": 116, "fanotify_init": 262,
        "move_pages": 239, "migrate_pages": 238, "lookup_dcookie": 18, "vhangup": 58, "sethostname": 161,
        "setdomainname": 162,
    },
    own={
        "prlimit64": 261, "sched_setparam": 118, "sched_setscheduler": 119, "sched_setattr": 274,
        "sched_setaffinity": 122,
    },
    signals={"kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
    setpriority=140, fcntl=25, ioctl=29, clone=220, clone3=435, socket=198,
)  # fmt: skip


@dataclass(kw_only=True)
class Block:
    """The instructions for one architecture: (code, value, label if true, label if false)."""

    lines: list[tuple[int, int, str, str]] = field(default_factory=list)

    def add(self, code: int, value: int, then: str = "", otherwise: str = "") -> None:
        self.lines.append((code, value, then, otherwise))

    def look(self, number: int, *checks: tuple[int, int, str, str], argument: int = FIRST_ARGUMENT) -> None:
        """Where the call is `number`: these checks of an argument, then allow."""
        self.add(EQUAL, number, "", f"over {len(checks) + 2}")
        self.add(LOAD, argument)
        self.lines += checks
        self.add(JUMP, 0, "allow")

    def assembled(self) -> bytes:
        """Labels as distances to the three returns at the end."""
        ends = {name: len(self.lines) + place for place, name in enumerate(("allow", "refuse", "absent"))}
        program = b""
        for place, (code, value, then, otherwise) in enumerate(self.lines):
            jumps = [distance(label, place, ends) for label in (then, otherwise)]
            if code == JUMP:
                program += struct.pack("=HBBI", code, 0, 0, jumps[0])
            else:
                program += struct.pack("=HBBI", code, *jumps, value)
        for value in (ALLOW, ERRNO | EPERM, ERRNO | ENOSYS):
            program += struct.pack("=HBBI", RETURN, 0, 0, value)
        return program


def distance(label: str, place: int, ends: dict[str, int]) -> int:
    if not label:
        return 0
    if label.startswith("over "):
        return int(label.removeprefix("over "))
    return ends[label] - place - 1


def block(processor: Processor) -> bytes:
    """What is done with each system call on one architecture."""
    made = Block()
    made.add(LOAD, NUMBER)
    if processor.other_abi:
        made.add(AT_LEAST, X32, "refuse")
    for number in sorted(processor.refused.values()):
        made.add(EQUAL, number, "refuse")
    # The C library falls back to clone, whose flags can be looked into.
    made.add(EQUAL, processor.clone3, "absent")
    for number in processor.own.values():
        made.look(number, (EQUAL, 0, "", "refuse"))
    for number in processor.signals.values():
        made.look(number, (EQUAL, 1, "refuse", ""))
    for number, requests in ((processor.fcntl, OWNER_COMMANDS), (processor.ioctl, OWNER_REQUESTS)):
        owning = [(EQUAL, request, "refuse", "") for request in requests]
        made.look(number, *owning, argument=SECOND_ARGUMENT)
    made.look(processor.clone, (ANY_BIT, NEW_NAMESPACES, "refuse", ""))
    families = [(EQUAL, family, "allow", "") for family in FAMILIES[:-1]]
    made.look(processor.socket, *families, (EQUAL, FAMILIES[-1], "", "refuse"))
    made.look(
        processor.setpriority,
        (EQUAL, 0, "", "refuse"),
        (LOAD, SECOND_ARGUMENT, "", ""),
        (EQUAL, 0, "", "refuse"),
    )
    return made.assembled()


def program() -> bytes:
    """The filter, as an array of struct sock_filter, for x86-64 and aarch64. Elsewhere nothing is allowed.

    The 32-bit gates of both are such an elsewhere.
    """
    made = struct.pack("=HBBI", LOAD, 0, 0, ARCHITECTURE)
    for processor in (X86_64, AARCH64):
        lines = block(processor)
        made += struct.pack("=HBBI", EQUAL, 1, 0, processor.arch)
        made += struct.pack("=HBBI", JUMP, 0, 0, len(lines) // 8) + lines
    return made + struct.pack("=HBBI", RETURN, 0, 0, ERRNO | EPERM)
