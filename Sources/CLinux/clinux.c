#define _GNU_SOURCE
#include "clinux.h"
#include <linux/capability.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

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

int clinux_new_mount(const char *type, uint64_t attributes) {
    int saved, mount, context = (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
    if (context < 0) return -1;
    if (syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) != 0) {
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

int clinux_fork(void) { return (int)fork(); }

int clinux_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

int clinux_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

int clinux_set_undumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

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

int clinux_bring_up_loopback(void) {
    struct ifreq request;
    int result, saved, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    result = ioctl(fd, SIOCSIFFLAGS, &request);
    saved = errno;
    close(fd);
    errno = saved;
    return result;
}

int clinux_attach_loop(int file, uint64_t offset, uint64_t size_limit, int *number) {
    char path[32];
    struct loop_config config;
    int attempt, control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -1;
    memset(&config, 0, sizeof config);
    config.fd = (uint32_t)file;
    config.info.lo_offset = offset;
    config.info.lo_sizelimit = size_limit;
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    /* Another process may take the device between the two calls: try again. */
    for (attempt = 0; attempt < 64; attempt++) {
        int device, index = ioctl(control, LOOP_CTL_GET_FREE);
        if (index < 0) break;
        snprintf(path, sizeof path, "/dev/loop%d", index);
        device = open(path, O_RDONLY | O_CLOEXEC);
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
