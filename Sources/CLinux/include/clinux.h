/* Constants and system calls that Swift's Glibc module does not show.
 * Only the Linux module imports this. */
#ifndef SINGULARITY_CLINUX_H
#define SINGULARITY_CLINUX_H

#include "notify.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/loop.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Macros that Swift cannot import, as typed constants. */
static const uint64_t clinux_clone_newuser = CLONE_NEWUSER;
static const uint64_t clinux_clone_newns = CLONE_NEWNS;
static const uint64_t clinux_clone_newpid = CLONE_NEWPID;
static const uint64_t clinux_clone_newipc = CLONE_NEWIPC;
static const uint64_t clinux_clone_newuts = CLONE_NEWUTS;
static const uint64_t clinux_clone_newnet = CLONE_NEWNET;
static const uint64_t clinux_ms_rdonly = MS_RDONLY;
static const uint64_t clinux_ms_nosuid = MS_NOSUID;
static const uint64_t clinux_ms_nodev = MS_NODEV;
static const uint64_t clinux_ms_noexec = MS_NOEXEC;
static const uint64_t clinux_ms_rec = MS_REC;
static const uint64_t clinux_ms_slave = MS_SLAVE;
static const uint64_t clinux_ms_private = MS_PRIVATE;
static const uint64_t clinux_fuse_dev_ioc_clone = FUSE_DEV_IOC_CLONE;
static const uint64_t clinux_fionread = FIONREAD;
static const uint64_t clinux_tiocgwinsz = TIOCGWINSZ;

int clinux_unshare(uint64_t flags);
/* The kernel's key service, see keyctl(2). A key of the type "user" in the user's own keyring. All return a negative number
 * where there is none, or no such service. */
int32_t clinux_key_add(const char *name, const void *bytes, size_t count, unsigned int seconds);
int32_t clinux_key_find(const char *name);
long clinux_key_read(int32_t key, void *bytes, size_t count);
int clinux_key_forget(int32_t key);
int clinux_setns(int fd, int kind);
int clinux_pivot_root(const char *new_root, const char *put_old);
int clinux_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode,
                   uint64_t resolve);
int clinux_renameat2(int olddirfd, const char *oldpath, int newdirfd,
                     const char *newpath, unsigned int flags);
/* The mount calls of Linux 5.2 and 5.12, see fsopen(2), open_tree(2), move_mount(2),
 * mount_setattr(2). A detached copy of what is mounted at `path`, as a descriptor. */
int clinux_open_tree(const char *path, int recursive);
/* A file system that is mounted nowhere, as a descriptor: a new one, or that of a device. Attributes are MOUNT_ATTR_*. */
int clinux_new_mount(const char *type, const char *source, uint64_t attributes);
/* Attaches a detached tree; links in `target` are followed. */
int clinux_move_mount(int tree, const char *target);
int clinux_mount_setattr(int tree, uint64_t attributes, int recursive);
static const uint64_t clinux_mount_attr_rdonly = 1;
static const uint64_t clinux_mount_attr_nosuid = 2;
static const uint64_t clinux_mount_attr_nodev = 4;
static const uint64_t clinux_mount_attr_noexec = 8;

/* fork(2), which Swift's module hides on some platforms. */
int clinux_fork(void);
/* prctl(2) is variadic, which Swift cannot call. */
int clinux_die_with_parent(int number);
/* fork(2) of a child that the kernel kills when its parent ends, however soon, and also in a PID namespace of its own. */
int clinux_fork_bound(void);
int clinux_no_new_privileges(void);
int clinux_set_undumpable(void);
/* Leaves this process, and the threads that it will start, what reading open files and answering takes (seccomp(2)). It can
   start no program, open no socket, write no file, signal nobody; other calls fail with EPERM. */
int clinux_confine_reader(void);
/* The same, and changing open files; files of a directory may be made, changed and removed, and no others (Landlock). */
int clinux_confine_writer(int folder);
/* PR_SET_CHILD_SUBREAPER */
int clinux_adopt_orphans(void);
int clinux_set_name(const char *name);

int clinux_close_range(unsigned int first, unsigned int last, unsigned int flags);
/* copy_file_range(2) */
int64_t clinux_copy_range(int from, int64_t from_offset, int to, int64_t to_offset, uint64_t count);
int clinux_pidfd_open(int pid);
int clinux_memfd(const char *name);
/* pipe2(2) with O_CLOEXEC. */
int clinux_pipe(int *ends);
/* environ(7). */
char **clinux_environ(void);
int clinux_bring_up_loopback(void);
/* A TAP interface of this network namespace that has an address and is up; `address` and `mask` in the host's byte
 * order, `hardware` of 6 bytes. A descriptor that gives and takes one Ethernet frame at a time and never waits, or -1
 * with errno. */
int clinux_tap(const char *name, const unsigned char *hardware, uint32_t address, uint32_t mask, int mtu);

/* Processors that the calling thread may use, one bit each (sched_setaffinity(2)). */
#define CLINUX_AFFINITY_SIZE 1024
int clinux_get_affinity(unsigned char *mask);
int clinux_set_affinity(const unsigned char *mask);

/* How many processors this thread may run on, 0 where that cannot be told. */
int clinux_affinity_count(void);

/* Attaches `file` read-only to a free loop device that detaches itself when it
 * is closed or unmounted (LO_FLAGS_AUTOCLEAR). Returns the open loop device and
 * writes its number, or -1 with errno. offset and size_limit are bytes. */
int clinux_attach_loop(int file, uint64_t offset, uint64_t size_limit, int writable, int *number);

/* Empties the inheritable, permitted, effective, bounding and ambient sets. */
int clinux_drop_capabilities(void);
int clinux_drop_bounding_set(void);
/* Makes `mask` all five sets of the calling process. */
int clinux_set_capabilities(uint64_t mask);
uint64_t clinux_effective_capabilities(void);
/* Changes real, effective and saved ids; UINT32_MAX and NULL leave them.
 * Around a change of the user the permitted set survives it, and is made effective again. */
int clinux_become(uint32_t uid, uint32_t gid, const uint32_t *groups, size_t count);
int clinux_keep_capabilities(void);
int clinux_restore_capabilities(void);

int clinux_pidfd_send_signal(int pidfd, int number);

/* Sockets of the file system, see unix(7). A listening or a connected one, or -1 with errno. */
int clinux_local_socket(const char *path, int listens);
/* Sends a text to a socket of datagrams; 0 or an errno value. */
int clinux_send_datagram(const char *path, const char *text);
int clinux_accept(int socket);
/* Who made the other end; 0 for a process that has no number here. */
int clinux_peer(int socket, uint32_t *uid, int *pid);
/* One byte, with descriptors. Receiving returns how many there were, or -1. */
#define CLINUX_MAX_DESCRIPTORS 4
int clinux_send_descriptors(int socket, const int *descriptors, int count);
int clinux_receive_descriptors(int socket, int *descriptors, int count);
int clinux_set_receive_timeout(int socket, int milliseconds);

/* Installs a filter program, an array of struct sock_filter of `size` bytes, see seccomp(2). */
int clinux_seccomp_filter(const void *program, size_t size);

/* Puts a title in the place of the command line that `ps` shows. The words of argv and the variables of the
 * environment are overwritten: nothing may use them any more. */
void clinux_set_title(char **argv, const char *title);

/* fallocate(2): takes room without changing the size; makes a hole. 0, or -1 with errno. */
int clinux_reserve(int file, uint64_t offset, uint64_t length);
/* FICLONERANGE, see ioctl_ficlonerange(2): shares the blocks of another file. 0, or -1 with errno. */
int clinux_clone_range(int from, uint64_t from_offset, uint64_t length, int to, uint64_t to_offset);
/* FIFREEZE and FITHAW, see fsfreeze(8). 0, or -1 with errno. */
int clinux_freeze(int file, int on);
/* The kernel begins to write a range to the disk, as far as its queue has room, and does not wait for it (sync_file_range(2)). */
void clinux_begin_writing(int file, uint64_t offset, uint64_t length);
int clinux_punch_hole(int file, uint64_t offset, uint64_t length);

/* Who opens, reads and closes a file, see fanotify(7). The first two return a queue of events, or -1 with errno.
 * Every user may watch; to guard, so that each opening waits until it is allowed, takes root. */
int clinux_watch_openings(int file);
int clinux_guard_openings(int file);
/* Adds reads to what is watched, or takes them away. */
int clinux_watch_reads(int group, int file, int on);
void clinux_allow_opening(int group, int file);
struct clinux_file_event {
    /* Of who did it; 0 where that is not told. */
    int process;
    /* For an answer, and to be closed; negative for none. */
    int file;
    int opened, asks, closed, was_read, is_overflow;
};
/* Numbers of calls, as /proc/PID/syscall has them. */
enum { CLINUX_CALL_COPY_FILE_RANGE = SYS_copy_file_range, CLINUX_CALL_SENDFILE = SYS_sendfile };
/* Takes the next of the events that read(2) gave, `position` on. 0 for no more. */
int clinux_next_file_event(const void *events, size_t size, size_t *position, struct clinux_file_event *event);

#endif
