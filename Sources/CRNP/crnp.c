#define _GNU_SOURCE
#include "crnp.h"
#include <dlfcn.h>
#include <stdlib.h>

static struct crnp_functions functions;
static int is_loaded;

const struct crnp_functions *crnp_load(int has_secrets, const char **why) {
    if (is_loaded) return &functions;
    /* Botan, below librnp, locks memory for secrets page by page when it is loaded, which takes as long as all the rest. */
    if (!has_secrets) setenv("BOTAN_MLOCK_POOL_SIZE", "0", 1);
    /* The library brings a C++ runtime of its own, which must not be mixed with the one in this program. */
    void *library = dlopen("librnp.so.0", RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND);
    if (library == NULL) {
        *why = dlerror();
        return NULL;
    }
    void *address;
#define CRNP_LOOK_UP(name) \
    address = dlsym(library, #name); \
    if (address == NULL) { \
        *why = dlerror(); \
        dlclose(library); \
        return NULL; \
    } \
    functions.name = (__typeof__(&name))address;
    CRNP_FUNCTIONS(CRNP_LOOK_UP)
    is_loaded = 1;
    if (!has_secrets) {
        /* The variable is read when the first object is made, and must not get to anybody else. */
        rnp_ffi_t first = NULL;
        if (functions.rnp_ffi_create(&first, "GPG", "GPG") == 0) functions.rnp_ffi_destroy(first);
        unsetenv("BOTAN_MLOCK_POOL_SIZE");
    }
    return &functions;
}
