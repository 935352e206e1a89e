/* Seccomp user notification (seccomp_unotify(2)), and looking into the processes that are notified about. */
#ifndef SINGULARITY_NOTIFY_H
#define SINGULARITY_NOTIFY_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* System calls by what they do, whatever their numbers on this processor. */
enum clinux_call {
    CLINUX_CALL_OTHER = 0,
    CLINUX_CALL_CHOWN, CLINUX_CALL_LCHOWN, CLINUX_CALL_FCHOWN, CLINUX_CALL_FCHOWNAT,
    CLINUX_CALL_MKNOD, CLINUX_CALL_MKNODAT,
    CLINUX_CALL_STAT, CLINUX_CALL_LSTAT, CLINUX_CALL_FSTAT, CLINUX_CALL_NEWFSTATAT, CLINUX_CALL_STATX,
    CLINUX_CALL_OPEN, CLINUX_CALL_CREAT, CLINUX_CALL_OPENAT, CLINUX_CALL_MKDIR, CLINUX_CALL_MKDIRAT,
    CLINUX_CALL_SETXATTR, CLINUX_CALL_LSETXATTR, CLINUX_CALL_FSETXATTR,
    CLINUX_CALL_SETUID, CLINUX_CALL_SETGID, CLINUX_CALL_SETREUID, CLINUX_CALL_SETREGID,
    CLINUX_CALL_SETRESUID, CLINUX_CALL_SETRESGID, CLINUX_CALL_SETFSUID, CLINUX_CALL_SETFSGID, CLINUX_CALL_SETGROUPS,
    CLINUX_CALL_GETUID, CLINUX_CALL_GETGID, CLINUX_CALL_GETEUID, CLINUX_CALL_GETEGID,
    CLINUX_CALL_GETRESUID, CLINUX_CALL_GETRESGID, CLINUX_CALL_GETGROUPS, CLINUX_CALL_CHROOT,
};

struct clinux_request {
    uint64_t id;
    /* In the process id namespace of the reader. */
    int32_t pid;
    enum clinux_call call;
    uint64_t arguments[6];
};

/* Makes the kernel ask before certain system calls of this process and its children. Returns the descriptor that is
 * asked, or -1. `identity`: calls about owners and ids; otherwise only those that make devices. */
int clinux_notify_install(int identity);
/* Waits for a question. -1 with ENOENT where the asking process has died. */
int clinux_notify_receive(int listener, struct clinux_request *request);
/* The call has been done: its result, or a positive errno. */
int clinux_notify_answer(int listener, uint64_t id, int64_t value, int error);
/* The kernel shall do the call itself. */
int clinux_notify_continue(int listener, uint64_t id);
/* Answers with a copy of a descriptor in the asking process. */
int clinux_notify_answer_descriptor(int listener, uint64_t id, int descriptor, int close_on_exec);
/* Wakes the two sides on one processor, where the kernel can (Linux 6.6): several times faster. */
void clinux_notify_stay_on_processor(int listener);

/* Copies up to `count` bytes from a process, fewer where its memory ends. */
int64_t clinux_read_memory(int pid, uint64_t address, void *buffer, uint64_t count);
int clinux_write_memory(int pid, uint64_t address, const void *buffer, uint64_t count);

/* A number that a process inherits from its parent and keeps over execve(2), 0 at first: the kernel has no field for
 * such a thing, and the limit of POSIX message queue bytes serves as one. */
int clinux_get_tag(int pid, uint32_t *tag);
int clinux_set_tag(int pid, uint32_t tag);
/* Gives the limit that the tags are counted from to this process. */
int clinux_prepare_tags(void);

int clinux_send_descriptor(int socket, int descriptor);
int clinux_receive_descriptor(int socket);
/* socketpair(2) of SOCK_SEQPACKET with O_CLOEXEC. */
int clinux_socket_pair(int *ends);

/* statx(2) into the kernel's own structure, 256 bytes. */
int clinux_statx(int directory, const char *path, int flags, unsigned int mask, void *buffer);
/* Puts an owner and a type into the result of statx(2); -1 leaves a field. */
void clinux_statx_patch(void *buffer, int64_t uid, int64_t gid, int64_t mode, uint32_t major, uint32_t minor, int is_device);

/* signalfd(2) for SIGCHLD, which is blocked for this process. */
int clinux_child_signals(void);

#endif
