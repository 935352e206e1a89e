#include <seccomp.h>

/* Macros that Swift cannot import. */
static const uint32_t cseccomp_kill_process = SCMP_ACT_KILL_PROCESS;
static const uint32_t cseccomp_kill_thread = SCMP_ACT_KILL_THREAD;
static const uint32_t cseccomp_trap = SCMP_ACT_TRAP;
static const uint32_t cseccomp_log = SCMP_ACT_LOG;
static const uint32_t cseccomp_allow = SCMP_ACT_ALLOW;
static inline uint32_t cseccomp_errno(uint16_t code) { return SCMP_ACT_ERRNO(code); }
static inline uint32_t cseccomp_trace(uint16_t code) { return SCMP_ACT_TRACE(code); }
