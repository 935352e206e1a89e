#define _GNU_SOURCE
#include "clinux.h"
#include "filter.h"
#include "notify.h"
#include <fcntl.h>
#include <linux/stat.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* What is looked at before the kernel asks. */
enum condition { ALWAYS, CREATES_IN_1, CREATES_IN_2, DEVICE_IN_1, DEVICE_IN_2 };

struct watched {
    int number;
    enum clinux_call call;
    enum condition condition;
    int only_identity;
};

static const struct watched watched_calls[] = {
#ifdef SYS_chown
    {SYS_chown, CLINUX_CALL_CHOWN, ALWAYS, 1},
    {SYS_lchown, CLINUX_CALL_LCHOWN, ALWAYS, 1},
#endif
    {SYS_fchown, CLINUX_CALL_FCHOWN, ALWAYS, 1},
    {SYS_fchownat, CLINUX_CALL_FCHOWNAT, ALWAYS, 1},
#ifdef SYS_mknod
    {SYS_mknod, CLINUX_CALL_MKNOD, DEVICE_IN_1, 0},
#endif
    {SYS_mknodat, CLINUX_CALL_MKNODAT, DEVICE_IN_2, 0},
#ifdef SYS_stat
    {SYS_stat, CLINUX_CALL_STAT, ALWAYS, 1},
    {SYS_lstat, CLINUX_CALL_LSTAT, ALWAYS, 1},
#endif
    {SYS_fstat, CLINUX_CALL_FSTAT, ALWAYS, 1},
    {SYS_newfstatat, CLINUX_CALL_NEWFSTATAT, ALWAYS, 1},
    {SYS_statx, CLINUX_CALL_STATX, ALWAYS, 1},
#ifdef SYS_open
    {SYS_open, CLINUX_CALL_OPEN, CREATES_IN_1, 1},
    {SYS_creat, CLINUX_CALL_CREAT, ALWAYS, 1},
    {SYS_mkdir, CLINUX_CALL_MKDIR, ALWAYS, 1},
#endif
    {SYS_openat, CLINUX_CALL_OPENAT, CREATES_IN_2, 1},
    {SYS_mkdirat, CLINUX_CALL_MKDIRAT, ALWAYS, 1},
    {SYS_setxattr, CLINUX_CALL_SETXATTR, ALWAYS, 1},
    {SYS_lsetxattr, CLINUX_CALL_LSETXATTR, ALWAYS, 1},
    {SYS_fsetxattr, CLINUX_CALL_FSETXATTR, ALWAYS, 1},
    {SYS_setuid, CLINUX_CALL_SETUID, ALWAYS, 1},
    {SYS_setgid, CLINUX_CALL_SETGID, ALWAYS, 1},
    {SYS_setreuid, CLINUX_CALL_SETREUID, ALWAYS, 1},
    {SYS_setregid, CLINUX_CALL_SETREGID, ALWAYS, 1},
    {SYS_setresuid, CLINUX_CALL_SETRESUID, ALWAYS, 1},
    {SYS_setresgid, CLINUX_CALL_SETRESGID, ALWAYS, 1},
    {SYS_setfsuid, CLINUX_CALL_SETFSUID, ALWAYS, 1},
    {SYS_setfsgid, CLINUX_CALL_SETFSGID, ALWAYS, 1},
    {SYS_setgroups, CLINUX_CALL_SETGROUPS, ALWAYS, 1},
    {SYS_getuid, CLINUX_CALL_GETUID, ALWAYS, 1},
    {SYS_getgid, CLINUX_CALL_GETGID, ALWAYS, 1},
    {SYS_geteuid, CLINUX_CALL_GETEUID, ALWAYS, 1},
    {SYS_getegid, CLINUX_CALL_GETEGID, ALWAYS, 1},
    {SYS_getresuid, CLINUX_CALL_GETRESUID, ALWAYS, 1},
    {SYS_getresgid, CLINUX_CALL_GETRESGID, ALWAYS, 1},
    {SYS_getgroups, CLINUX_CALL_GETGROUPS, ALWAYS, 1},
    {SYS_chroot, CLINUX_CALL_CHROOT, ALWAYS, 1},
};
#define WATCHED_COUNT (sizeof watched_calls / sizeof watched_calls[0])

static enum clinux_call call_of(int number) {
    size_t index;
    for (index = 0; index < WATCHED_COUNT; index++)
        if (watched_calls[index].number == number) return watched_calls[index].call;
    return CLINUX_CALL_OTHER;
}

int clinux_notify_install(int identity) {
    struct sock_filter program[8 + 8 * WATCHED_COUNT];
    struct sock_fprog description;
    size_t count = 0, index;
    long listener;
#define EMIT(...) program[count++] = (struct sock_filter)__VA_ARGS__
    EMIT(LOAD(arch));
    EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCHITECTURE, 1, 0));
    EMIT(ALLOW);
    EMIT(LOAD(nr));
    for (index = 0; index < WATCHED_COUNT; index++) {
        const struct watched *call = &watched_calls[index];
        unsigned char argument = call->condition == CREATES_IN_1 || call->condition == DEVICE_IN_1 ? 1 : 2;
        if (call->only_identity && !identity) continue;
        switch (call->condition) {
        case ALWAYS:
            EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)call->number, 0, 1));
            EMIT(ASK);
            break;
        case CREATES_IN_1:
        case CREATES_IN_2:
            EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)call->number, 0, 4));
            EMIT(LOAD_ARGUMENT(argument));
            EMIT(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 1));
            EMIT(ASK);
            EMIT(ALLOW);
            break;
        case DEVICE_IN_1:
        case DEVICE_IN_2:
            EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)call->number, 0, 6));
            EMIT(LOAD_ARGUMENT(argument));
            EMIT(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, S_IFMT));
            EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, S_IFCHR, 1, 0));
            EMIT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, S_IFBLK, 0, 1));
            EMIT(ASK);
            EMIT(ALLOW);
            break;
        }
    }
    EMIT(ALLOW);
#undef EMIT
    description.len = (unsigned short)count;
    description.filter = program;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    /* With the first flag (Linux 5.19) only a deadly signal interrupts a call that is being answered. */
    listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | (1UL << 5), &description);
    if (listener < 0 && errno == EINVAL)
        listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &description);
    return (int)listener;
}

int clinux_notify_receive(int listener, struct clinux_request *request) {
    /* The kernel wants it zeroed, and may know a longer structure than this header. */
    union {
        struct seccomp_notif notification;
        char room[512];
    } buffer;
    memset(&buffer, 0, sizeof buffer);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &buffer) != 0) return -1;
    request->id = buffer.notification.id;
    request->pid = (int32_t)buffer.notification.pid;
    request->call = call_of(buffer.notification.data.nr);
    memcpy(request->arguments, buffer.notification.data.args, sizeof request->arguments);
    return 0;
}

static int respond(int listener, uint64_t id, int64_t value, int error, unsigned int flags) {
    union {
        struct seccomp_notif_resp response;
        char room[256];
    } buffer;
    memset(&buffer, 0, sizeof buffer);
    buffer.response.id = id;
    buffer.response.val = value;
    buffer.response.error = -error;
    buffer.response.flags = flags;
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &buffer);
}

int clinux_notify_answer(int listener, uint64_t id, int64_t value, int error) {
    return respond(listener, id, error ? 0 : value, error, 0);
}

int clinux_notify_continue(int listener, uint64_t id) {
    return respond(listener, id, 0, 0, 1 /* SECCOMP_USER_NOTIF_FLAG_CONTINUE */);
}

int clinux_notify_answer_descriptor(int listener, uint64_t id, int descriptor, int close_on_exec) {
    struct {
        uint64_t id;
        uint32_t flags, source, target, target_flags;
    } request = {id, 2 /* SECCOMP_ADDFD_FLAG_SEND */, (uint32_t)descriptor, 0, close_on_exec ? O_CLOEXEC : 0};
    return ioctl(listener, _IOW('!', 3, request), &request);
}

void clinux_notify_stay_on_processor(int listener) {
    (void)ioctl(listener, _IOW('!', 4, uint64_t), 1 /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */);
}

int64_t clinux_read_memory(int pid, uint64_t address, void *buffer, uint64_t count) {
    /* Whole pieces are copied or none, so they end at the pages' ends. */
    uint64_t first = 4096 - address % 4096;
    struct iovec local = {buffer, count};
    struct iovec remote[2] = {{(void *)address, first < count ? first : count},
                              {(void *)(address + first), first < count ? count - first : 0}};
    return process_vm_readv(pid, &local, 1, remote, first < count ? 2 : 1, 0);
}

int clinux_write_memory(int pid, uint64_t address, const void *buffer, uint64_t count) {
    struct iovec local = {(void *)buffer, count}, remote = {(void *)address, count};
    return process_vm_writev(pid, &local, 1, &remote, 1, 0) == (ssize_t)count ? 0 : -1;
}

/* Limits from here downwards are tags. */
#define TAG_BASE 819199u

int clinux_prepare_tags(void) {
    struct rlimit limit;
    if (prlimit(0, RLIMIT_MSGQUEUE, NULL, &limit) != 0) return -1;
    if (limit.rlim_max < TAG_BASE) {
        errno = EPERM;
        return -1;
    }
    limit.rlim_cur = TAG_BASE;
    return prlimit(0, RLIMIT_MSGQUEUE, &limit, NULL);
}

int clinux_get_tag(int pid, uint32_t *tag) {
    struct rlimit limit;
    if (prlimit(pid, RLIMIT_MSGQUEUE, NULL, &limit) != 0) return -1;
    *tag = limit.rlim_cur <= TAG_BASE ? (uint32_t)(TAG_BASE - limit.rlim_cur) : 0;
    return 0;
}

int clinux_set_tag(int pid, uint32_t tag) {
    struct rlimit limit;
    if (prlimit(pid, RLIMIT_MSGQUEUE, NULL, &limit) != 0) return -1;
    if (tag > TAG_BASE) {
        errno = ERANGE;
        return -1;
    }
    limit.rlim_cur = TAG_BASE - tag;
    return prlimit(pid, RLIMIT_MSGQUEUE, &limit, NULL);
}

int clinux_socket_pair(int *ends) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends); }

int clinux_send_descriptor(int socket, int descriptor) { return clinux_send_descriptors(socket, &descriptor, 1); }

int clinux_receive_descriptor(int socket) {
    int descriptor = -1;
    return clinux_receive_descriptors(socket, &descriptor, 1) == 1 ? descriptor : -1;
}

int clinux_statx(int directory, const char *path, int flags, unsigned int mask, void *buffer) {
    return (int)syscall(SYS_statx, directory, path, flags, mask, buffer);
}

void clinux_statx_patch(void *buffer, int64_t uid, int64_t gid, int64_t mode, uint32_t major, uint32_t minor, int is_device) {
    struct statx *result = buffer;
    if (uid >= 0) result->stx_uid = (uint32_t)uid;
    if (gid >= 0) result->stx_gid = (uint32_t)gid;
    if (mode >= 0) result->stx_mode = (uint16_t)mode;
    if (is_device) {
        result->stx_rdev_major = major;
        result->stx_rdev_minor = minor;
    }
}

int clinux_child_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
