#define _GNU_SOURCE
#include "clinux.h"
#include <fcntl.h>
#include <string.h>
#include <sys/fanotify.h>
#include <unistd.h>

static int begin(unsigned int flags, uint64_t what, int file) {
    int group = fanotify_init(flags | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
    if (group < 0) return -1;
    if (fanotify_mark(group, FAN_MARK_ADD, what, file, NULL) == 0) return group;
    close(group);
    return -1;
}

int clinux_watch_openings(int file) { return begin(FAN_CLASS_NOTIF | FAN_REPORT_FID, FAN_OPEN | FAN_CLOSE, file); }

int clinux_watch_reads(int group, int file, int on) {
    return fanotify_mark(group, on ? FAN_MARK_ADD : FAN_MARK_REMOVE, FAN_ACCESS, file, NULL);
}

int clinux_guard_openings(int file) { return begin(FAN_CLASS_CONTENT, FAN_OPEN_PERM | FAN_ACCESS | FAN_CLOSE, file); }

void clinux_allow_opening(int group, int file) {
    struct fanotify_response response = {.fd = file, .response = FAN_ALLOW};
    (void)!write(group, &response, sizeof response);
}

int clinux_next_file_event(const void *events, size_t size, size_t *position, struct clinux_file_event *event) {
    struct fanotify_event_metadata head;
    if (*position > size || size - *position < sizeof head) return 0;
    memcpy(&head, (const char *)events + *position, sizeof head);
    if (head.vers != FANOTIFY_METADATA_VERSION || head.event_len < sizeof head || head.event_len > size - *position) return 0;
    *position += head.event_len;
    event->process = head.pid;
    event->file = head.fd;
    event->opened = (head.mask & FAN_OPEN) != 0;
    event->asks = (head.mask & FAN_OPEN_PERM) != 0;
    event->closed = (head.mask & FAN_CLOSE) != 0;
    event->was_read = (head.mask & FAN_ACCESS) != 0;
    event->is_overflow = (head.mask & FAN_Q_OVERFLOW) != 0;
    return 1;
}
