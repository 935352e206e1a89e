#include <gcrypt.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

/* gcry_control takes any number of arguments, and others are macros: Swift can call neither. */
static inline bool cgcrypt_control(enum gcry_ctl_cmds command) { return gcry_control(command, 0) == 0; }
static inline gcry_error_t cgcrypt_reset(gcry_cipher_hd_t handle) { return gcry_cipher_ctl(handle, GCRYCTL_RESET, NULL, 0); }
static inline gcry_error_t cgcrypt_final(gcry_cipher_hd_t handle) { return gcry_cipher_ctl(handle, GCRYCTL_FINALIZE, NULL, 0); }

/* Memory of ciphers and hashes: pages of their own, which no core dump has and which are empty when they are given back.
 * The size stands before what is handed out. */
enum { cgcrypt_head = 64 };

static void *cgcrypt_allocate(size_t count) {
    unsigned char *base;
    size_t size;
    if (__builtin_add_overflow(count, (size_t)cgcrypt_head, &size)) return NULL;
    base = (unsigned char *)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    madvise(base, size, 16 /* MADV_DONTDUMP */);
    memcpy(base, &size, sizeof size);
    return base + cgcrypt_head;
}

static void cgcrypt_free(void *pointer) {
    unsigned char *base = (unsigned char *)pointer - cgcrypt_head;
    size_t size;
    if (pointer == NULL) return;
    memcpy(&size, base, sizeof size);
    munmap(base, size);
}

static void *cgcrypt_reallocate(void *pointer, size_t count) {
    size_t size;
    void *larger;
    if (pointer == NULL) return cgcrypt_allocate(count);
    larger = cgcrypt_allocate(count);
    if (larger == NULL) return NULL;
    memcpy(&size, (unsigned char *)pointer - cgcrypt_head, sizeof size);
    size -= cgcrypt_head;
    memcpy(larger, pointer, size < count ? size : count);
    cgcrypt_free(pointer);
    return larger;
}

static int cgcrypt_is_secure(const void *pointer) {
    (void)pointer;
    return 0;
}

static inline void cgcrypt_use_own_memory(void) {
    gcry_set_allocation_handler(cgcrypt_allocate, cgcrypt_allocate, cgcrypt_is_secure, cgcrypt_reallocate, cgcrypt_free);
}
