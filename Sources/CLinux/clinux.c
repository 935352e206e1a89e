#define _GNU_SOURCE
#include "clinux.h"
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sys/time.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Names of the user keyring and of the operations, see linux/keyctl.h. */
#define USER_KEYRING (-4)

int32_t clinux_key_add(const char *name, const void *bytes, size_t count, unsigned int seconds) {
    int32_t key = (int32_t)syscall(SYS_add_key, "user", name, bytes, count, USER_KEYRING);
    if (key < 0) return key;
    /* Its owner alone, from whatever session: a search from another session needs the right of the user. */
    syscall(SYS_keyctl, 5 /* KEYCTL_SETPERM */, key, 0x3f3f0000u);
    if (seconds > 0) syscall(SYS_keyctl, 15 /* KEYCTL_SET_TIMEOUT */, key, seconds);
    return key;
}

int32_t clinux_key_find(const char *name) {
    return (int32_t)syscall(SYS_keyctl, 10 /* KEYCTL_SEARCH */, USER_KEYRING, "user", name, 0);
}

long clinux_key_read(int32_t key, void *bytes, size_t count) { return syscall(SYS_keyctl, 11 /* KEYCTL_READ */, key, bytes, count); }

int clinux_key_forget(int32_t key) { return (int)syscall(SYS_keyctl, 9 /* KEYCTL_UNLINK */, key, USER_KEYRING); }

int clinux_unshare(uint64_t flags) { return (int)syscall(SYS_unshare, flags); }

int clinux_setns(int fd, int kind) { return (int)syscall(SYS_setns, fd, kind); }

int clinux_pivot_root(const char *new_root, const char *put_old) {
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}

int clinux_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode,
                   uint64_t resolve) {
    struct open_how how;
    memset(&how, 0, sizeof how);
    how.flags = flags;
    how.mode = mode;
    how.resolve = resolve;
    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
}

int clinux_renameat2(int olddirfd, const char *oldpath, int newdirfd,
                     const char *newpath, unsigned int flags) {
    return (int)syscall(SYS_renameat2, olddirfd, oldpath, newdirfd, newpath, flags);
}

int clinux_open_tree(const char *path, int recursive) {
    return (int)syscall(SYS_open_tree, AT_FDCWD, path,
                        1 /* OPEN_TREE_CLONE */ | O_CLOEXEC | (recursive ? 0x8000 /* AT_RECURSIVE */ : 0));
}

int clinux_new_mount(const char *type, const char *source, uint64_t attributes) {
    int saved, mount, context = (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
    if (context < 0) return -1;
    if ((source != NULL && syscall(SYS_fsconfig, context, 1 /* FSCONFIG_SET_STRING */, "source", source, 0) != 0)
        || syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) != 0) {
        saved = errno;
        close(context);
        errno = saved;
        return -1;
    }
    mount = (int)syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, (unsigned int)attributes);
    saved = errno;
    close(context);
    errno = saved;
    return mount;
}

int clinux_move_mount(int tree, const char *target) {
    return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, target,
                        0x04 /* MOVE_MOUNT_F_EMPTY_PATH */ | 0x10 /* MOVE_MOUNT_T_SYMLINKS */);
}

int clinux_mount_setattr(int tree, uint64_t attributes, int recursive) {
    struct {
        uint64_t set, clear, propagation, user_namespace;
    } change = {attributes, 0, 0, 0};
    return (int)syscall(SYS_mount_setattr, tree, "", 0x1000 /* AT_EMPTY_PATH */ | (recursive ? 0x8000 : 0),
                        &change, sizeof change);
}

/* Who has made this process by clinux_fork, 0 where nobody has. */
static pid_t forked_by;

int clinux_fork(void) {
    const pid_t parent = getpid();
    const int child = (int)fork();
    if (child == 0) forked_by = parent;
    return child;
}

int clinux_die_with_parent(int number) {
    pid_t parent;
    if (prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0) return -1;
    /* One that has died before sends nothing any more. In another PID namespace it has no number. */
    parent = getppid();
    return forked_by == 0 || parent == 0 || parent == forked_by ? 0 : kill(getpid(), number);
}

int clinux_fork_bound(void) {
    const int parent = (int)syscall(SYS_pidfd_open, getpid(), 0);
    const int child = clinux_fork();
    if (child == 0) {
        struct pollfd watched = {.fd = parent, .events = POLLIN};
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (parent >= 0 && poll(&watched, 1, 0) > 0) _exit(255);
    }
    if (parent >= 0) close(parent);
    return child;
}

int clinux_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

int clinux_set_undumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

int clinux_adopt_orphans(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

int clinux_set_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

int clinux_close_range(unsigned int first, unsigned int last, unsigned int flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}

int64_t clinux_copy_range(int from, int64_t from_offset, int to, int64_t to_offset, uint64_t count) {
    loff_t source = from_offset, target = to_offset;
    return copy_file_range(from, &source, to, &target, count, 0);
}

int clinux_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_memfd(const char *name) { return (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC); }

int clinux_pipe(int *ends) { return pipe2(ends, O_CLOEXEC); }

char **clinux_environ(void) { return environ; }

int clinux_attach_loop(int file, uint64_t offset, uint64_t size_limit, int writable, int *number) {
    char path[32];
    struct loop_config config;
    int attempt, control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -1;
    memset(&config, 0, sizeof config);
    config.fd = (uint32_t)file;
    config.info.lo_offset = offset;
    config.info.lo_sizelimit = size_limit;
    config.info.lo_flags = (writable ? 0 : LO_FLAGS_READ_ONLY) | LO_FLAGS_AUTOCLEAR;
    /* Another process may take the device between the two calls: try again. */
    for (attempt = 0; attempt < 64; attempt++) {
        int device, index = ioctl(control, LOOP_CTL_GET_FREE);
        if (index < 0) break;
        snprintf(path, sizeof path, "/dev/loop%d", index);
        device = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        if (device < 0) break;
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0) {
            close(control);
            *number = index;
            return device;
        }
        if (errno != EBUSY) {
            int saved = errno;
            close(device);
            errno = saved;
            break;
        }
        close(device);
    }
    attempt = errno;
    close(control);
    errno = attempt;
    return -1;
}

int clinux_drop_bounding_set(void) {
    int capability;
    for (capability = 0; capability <= 63; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return errno == EINVAL ? 0 : -1;
    return 0;
}

int clinux_drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    if (clinux_drop_bounding_set() != 0) return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -1;
    return (int)syscall(SYS_capset, &header, data);
}

int clinux_affinity_count(void) {
    unsigned char mask[1024];
    long index, size = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int count = 0;
    for (index = 0; index < size; index++) count += __builtin_popcount(mask[index]);
    return count;
}

int clinux_get_affinity(unsigned char *mask) {
    memset(mask, 0, CLINUX_AFFINITY_SIZE);
    return syscall(SYS_sched_getaffinity, 0, CLINUX_AFFINITY_SIZE, mask) < 0 ? -1 : 0;
}

int clinux_set_affinity(const unsigned char *mask) {
    return (int)syscall(SYS_sched_setaffinity, 0, CLINUX_AFFINITY_SIZE, mask);
}

int clinux_set_capabilities(uint64_t mask) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    int capability;
    for (capability = 0; capability <= 63; capability++)
        if (!(mask >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
            if (errno == EINVAL) break;
            return -1;
        }
    memset(data, 0, sizeof data);
    data[0].effective = data[0].permitted = data[0].inheritable = (uint32_t)mask;
    data[1].effective = data[1].permitted = data[1].inheritable = (uint32_t)(mask >> 32);
    if (syscall(SYS_capset, &header, data) != 0) return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -1;
    for (capability = 0; capability <= 63; capability++)
        if (mask >> capability & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) {
            if (errno == EINVAL) break;
            return -1;
        }
    return 0;
}

int clinux_pidfd_send_signal(int pidfd, int number) { return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0); }

int clinux_peer(int socket, uint32_t *uid, int *pid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    *uid = peer.uid;
    *pid = peer.pid;
    return 0;
}

/* A socket, and the address of a path; -1 for a path that is too long. */
static int local_socket(const char *path, int type, struct sockaddr_un *address) {
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strcpy(address->sun_path, path);
    return socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
}

int clinux_send_datagram(const char *path, const char *text) {
    struct sockaddr_un address;
    int error, fd = local_socket(path, SOCK_DGRAM, &address);
    if (fd < 0) return errno;
    error = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address) < 0 ? errno : 0;
    close(fd);
    return error;
}

int clinux_local_socket(const char *path, int listens) {
    struct sockaddr_un address;
    int saved, fd = local_socket(path, SOCK_STREAM, &address);
    if (fd < 0) return -1;
    if (listens ? bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 4096) == 0
                : connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int clinux_accept(int socket) { return accept4(socket, NULL, NULL, SOCK_CLOEXEC); }

int clinux_send_descriptors(int socket, const int *descriptors, int count) {
    char byte = 1;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CLINUX_MAX_DESCRIPTORS)];
    struct iovec data = {&byte, 1};
    struct msghdr message;
    struct cmsghdr *header;
    if (count < 1 || count > CLINUX_MAX_DESCRIPTORS) {
        errno = EINVAL;
        return -1;
    }
    memset(&message, 0, sizeof message);
    memset(control, 0, sizeof control);
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * (size_t)count);
    return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int clinux_receive_descriptors(int socket, int *descriptors, int count) {
    char byte;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CLINUX_MAX_DESCRIPTORS)];
    struct iovec data = {&byte, 1};
    struct msghdr message;
    struct cmsghdr *header;
    int received, index, found[CLINUX_MAX_DESCRIPTORS];
    ssize_t size;
    memset(&message, 0, sizeof message);
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    do size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size != 1) {
        if (size == 0) errno = ECONNRESET;
        return -1;
    }
    header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return 0;
    received = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    if (received > CLINUX_MAX_DESCRIPTORS) received = CLINUX_MAX_DESCRIPTORS;
    memcpy(found, CMSG_DATA(header), sizeof(int) * (size_t)received);
    for (index = 0; index < received; index++) {
        if (index < count) descriptors[index] = found[index];
        else close(found[index]);
    }
    return received < count ? received : count;
}

int clinux_set_receive_timeout(int socket, int milliseconds) {
    struct timeval limit = {milliseconds / 1000, milliseconds % 1000 * 1000};
    return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

int clinux_seccomp_filter(const void *program, size_t size) {
    struct sock_fprog filter = {(unsigned short)(size / sizeof(struct sock_filter)), (struct sock_filter *)program};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

void clinux_set_title(char **argv, const char *title) {
    char *end = argv[0];
    char **word;
    size_t room, length = strlen(title);
    /* The strings lie one behind the other: arguments, then variables (execve(2), proc_pid_cmdline(5)). */
    for (word = argv; *word; word++)
        if (*word == end) end = *word + strlen(*word) + 1;
    for (word = environ; *word; word++)
        if (*word == end) end = *word + strlen(*word) + 1;
    room = (size_t)(end - argv[0]);
    if (room < 2) return;
    if (length > room - 1) length = room - 1;
    memset(argv[0], 0, room);
    memcpy(argv[0], title, length);
}

int clinux_keep_capabilities(void) { return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0); }

int clinux_restore_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0) return -1;
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return (int)syscall(SYS_capset, &header, data);
}

int clinux_become(uint32_t uid, uint32_t gid, const uint32_t *groups, size_t count) {
    if (groups && setgroups(count, groups) != 0) return -1;
    if (gid != UINT32_MAX && setresgid(gid, gid, gid) != 0) return -1;
    return uid == UINT32_MAX ? 0 : setresuid(uid, uid, uid);
}

uint64_t clinux_effective_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0) return 0;
    return data[0].effective | (uint64_t)data[1].effective << 32;
}

int clinux_reserve(int file, uint64_t offset, uint64_t length) {
    return fallocate(file, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
}

void clinux_begin_writing(int file, uint64_t offset, uint64_t length) {
    sync_file_range(file, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
}

int clinux_punch_hole(int file, uint64_t offset, uint64_t length) {
    return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
}

int clinux_clone_range(int from, uint64_t from_offset, uint64_t length, int to, uint64_t to_offset) {
    struct file_clone_range range = {from, from_offset, length, to_offset};
    return ioctl(to, FICLONERANGE, &range);
}

int clinux_freeze(int file, int on) { return ioctl(file, on ? FIFREEZE : FITHAW, 0); }
