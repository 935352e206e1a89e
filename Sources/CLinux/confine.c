#define _GNU_SOURCE
#include "clinux.h"
#include "filter.h"
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* What changing an open file takes further, and keeping a lease beside it. */
static const int writer_calls[] = {
    SYS_pwrite64, SYS_pwritev, SYS_fdatasync, SYS_fsync, SYS_fallocate, SYS_ftruncate, SYS_openat, SYS_newfstatat, SYS_utimensat,
    SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_fstatfs, SYS_fcntl, SYS_fanotify_mark,
#ifdef SYS_unlink
    SYS_unlink, SYS_rename, SYS_utimes,
#endif
};
#define WRITER_COUNT (sizeof writer_calls / sizeof writer_calls[0])

/* Lets pass the calls of a reader, and those that are given. */
static int confine(const int *more, size_t more_count) {
    struct sock_filter program[16 + 2 * (READER_COUNT + WRITER_COUNT)];
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
    for (index = 0; index < more_count; index++) {
        EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)more[index], 0, 1));
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

int clinux_confine_reader(void) { return confine(NULL, 0); }

int clinux_confine_writer(int folder) {
    /* Files elsewhere can be changed no more (Landlock, Linux 5.13); where the kernel has no such rules, the filter stands alone. */
    const struct landlock_ruleset_attr changes = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR
                             | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR
                             | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO
                             | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM};
    const struct landlock_path_beneath_attr beside = {
        .allowed_access = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG,
        .parent_fd = folder};
    int rules;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    rules = (int)syscall(SYS_landlock_create_ruleset, &changes, sizeof changes, 0);
    if (rules >= 0) {
        if (folder >= 0) syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beside, 0);
        syscall(SYS_landlock_restrict_self, rules, 0);
        close(rules);
    }
    return confine(writer_calls, WRITER_COUNT);
}
