#include <gcrypt.h>
#include <stdbool.h>

/* gcry_control takes any number of arguments, and others are macros: Swift can call neither. */
static inline bool cgcrypt_control(enum gcry_ctl_cmds command) { return gcry_control(command, 0) == 0; }
static inline gcry_error_t cgcrypt_reset(gcry_cipher_hd_t handle) { return gcry_cipher_ctl(handle, GCRYCTL_RESET, NULL, 0); }
static inline gcry_error_t cgcrypt_final(gcry_cipher_hd_t handle) { return gcry_cipher_ctl(handle, GCRYCTL_FINALIZE, NULL, 0); }
