"""Privileges: setuid, capabilities, chroot, mount, set-uid programs; checks that the kernel's filter is on."""
#: seconds = 30
import ctypes, os, posix

libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
if status["Seccomp"].strip() != "2":
    print("GOT no seccomp filter")
if status.get("NoNewPrivs", "1").strip() != "1":
    print("GOT new privileges allowed")
for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
    if int(status.get(name, "0"), 16):
        print("GOT", name, status.get(name))
if posix.getuid() == 0 or posix.geteuid() == 0 or 0 in posix.getgroups():
    print("GOT root")
for name, call in {"setuid": lambda: posix.setuid(0), "setgid": lambda: posix.setgid(0), "setresuid": lambda: posix.setresuid(0, 0, 0), "setgroups": lambda: posix.setgroups([0]), "chroot": lambda: posix.chroot("/tmp"), "nice": lambda: posix.nice(-5)}.items():
    try:
        call()
        print("GOT", name)
    except OSError:
        pass
for name, arguments in {"mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0), "remount": (165, b"none", b"/", b"", 32, 0), "bind": (165, b"/tmp", b"/usr", b"", 4096, 0), "umount": (166, b"/proc", 2), "pivot": (155, b"/tmp", b"/tmp"), "name": (170, b"x", 1), "keep": (157, 8, 1)}.items():
    if libc.syscall(*arguments) == 0 and name != "keep":
        print("GOT", name)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
if libc.syscall(126, header, (ctypes.c_uint32 * 6)(0xFFFFFFFF, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)) == 0:
    print("GOT capabilities")
for folder in ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec"):
    for place, _, files in os.walk(folder):
        for name in files:
            path = f"{place}/{name}"
            try:
                if not os.lstat(path).st_mode & 0o6000 or os.path.islink(path):
                    continue
            except OSError:
                continue
            child = posix.fork()
            if child == 0:
                try:
                    posix.execv(path, [path, "--version"])
                finally:
                    os._exit(0)
            for line in open(f"/proc/{child}/status"):
                if line.startswith("Uid") and "0" in line.split()[1:]:
                    print("GOT root by", path)
            posix.kill(child, 9)
            posix.waitpid(child, 0)
print("TRIED")
