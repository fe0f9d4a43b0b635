"""Make a running process try something from inside: one system call in its main thread, by ptrace (root, x86-64)."""

import contextlib
import ctypes
import os
import platform
import signal

from harness.process import Failure

PTRACE_SINGLESTEP, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH, PTRACE_DETACH = 9, 12, 13, 16, 17
SYS_OPENAT, SYS_CLOSE = 257, 3
AT_FDCWD = -100
SYSCALL_INSTRUCTION = b"\x0f\x05"
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
             "ds es fs gs").split()


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in REGISTERS]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def possible():
    """None, or the reason why it cannot be done here."""
    if platform.machine() != "x86_64":
        return "system calls are put into a process on x86-64 only"
    return None if os.geteuid() == 0 else "needs root, to attach to an undumpable process"


def ptrace(request, pid, data=None):
    if libc.ptrace(request, pid, None, data) != 0:
        raise Failure(f"ptrace({request}) of {pid}: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def attached(pid):
    ptrace(PTRACE_ATTACH, pid)
    os.waitpid(pid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, pid)


def syscall_address(pid, memory):
    """Where some mapped code has a syscall instruction."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        for line in maps:
            span, mode = line.split()[:2]
            if "x" not in mode or "[vsyscall]" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            at = memory.read(end - start).find(SYSCALL_INSTRUCTION)
            if at >= 0:
                return start + at
    raise Failure(f"no syscall instruction in process {pid}")


def call(pid, memory, *values):
    """One system call: number, then up to three arguments. What it returns, negative errno included."""
    before, now = Registers(), Registers()
    ptrace(PTRACE_GETREGS, pid, ctypes.byref(before))
    ctypes.memmove(ctypes.byref(now), ctypes.byref(before), ctypes.sizeof(now))
    now.rip = syscall_address(pid, memory)
    now.orig_rax = ctypes.c_ulonglong(-1).value  # nothing to restart
    for name, value in zip(("rax", "rdi", "rsi", "rdx"), values):
        setattr(now, name, ctypes.c_ulonglong(value).value)
    ptrace(PTRACE_SETREGS, pid, ctypes.byref(now))
    ptrace(PTRACE_SINGLESTEP, pid)
    _, status = os.waitpid(pid, 0x40000000)
    if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != signal.SIGTRAP:
        raise Failure(f"process {pid} did not stop after one instruction: {status:#x}")
    ptrace(PTRACE_GETREGS, pid, ctypes.byref(now))
    ptrace(PTRACE_SETREGS, pid, ctypes.byref(before))
    return ctypes.c_longlong(now.rax).value


def open_from_inside(pid, path, flags=os.O_RDONLY):
    """What open(path, flags) gives in that process: 0 (it worked, and was closed again) or the errno."""
    with attached(pid), open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        registers = Registers()
        ptrace(PTRACE_GETREGS, pid, ctypes.byref(registers))
        text = os.fsencode(path) + b"\0"
        at = (registers.rsp - 1024 - len(text)) & ~15  # below the stack's red zone
        memory.seek(at)
        saved = memory.read(len(text))
        memory.seek(at)
        memory.write(text)
        descriptor = call(pid, memory, SYS_OPENAT, AT_FDCWD, at, flags)
        if descriptor >= 0:
            call(pid, memory, SYS_CLOSE, descriptor)
        memory.seek(at)
        memory.write(saved)
        return -descriptor if descriptor < 0 else 0
