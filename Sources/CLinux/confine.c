#define _GNU_SOURCE
#include "clinux.h"
#include "filter.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* What serving from open files takes, the most frequent first: reading, answering, memory, threads, clocks. */
static const int reader_calls[] = {
    SYS_read, SYS_writev, SYS_write, SYS_futex, SYS_pread64, SYS_sched_yield, SYS_close, SYS_readv, SYS_preadv,
    SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk, SYS_mlock, SYS_munlock,
    SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_getpriority, SYS_setpriority, SYS_getpid, SYS_gettid, SYS_getuid, SYS_getgid,
    SYS_fstat, SYS_lseek, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_getrandom, SYS_sysinfo,
    SYS_set_robust_list, SYS_rseq, SYS_membarrier, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sigaltstack, SYS_restart_syscall, SYS_ppoll, SYS_exit, SYS_exit_group,
#ifdef SYS_poll
    SYS_poll, SYS_time,
#endif
};
#define READER_COUNT (sizeof reader_calls / sizeof reader_calls[0])

int clinux_confine_reader(void) {
    struct sock_filter program[16 + 2 * READER_COUNT];
    struct sock_fprog description;
    size_t count = 0, index;
#define EMIT(...) program[count++] = (struct sock_filter)__VA_ARGS__
    EMIT(LOAD(arch));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCHITECTURE, 1, 0));
    EMIT(REFUSE);
    EMIT(LOAD(nr));
    for (index = 0; index < READER_COUNT; index++) {
        EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)reader_calls[index], 0, 1));
        EMIT(ALLOW);
    }
    /* What it makes is behind a pointer: the C library takes clone(2) instead. */
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
    EMIT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
    /* Files are opened for reading alone. */
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3));
    EMIT(LOAD_ARGUMENT(2));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 4));
    EMIT(REFUSE);
    /* Threads, and nothing with a memory of its own. */
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3));
    EMIT(LOAD_ARGUMENT(0));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1));
    EMIT(ALLOW);
    EMIT(REFUSE);
#undef EMIT
    description.len = (unsigned short)count;
    description.filter = program;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &description, 0, 0);
}
