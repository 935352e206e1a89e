#define _GNU_SOURCE
#include "crnp.h"
#include <dlfcn.h>

static struct crnp_functions functions;
static int is_loaded;

const struct crnp_functions *crnp_load(const char **why) {
    if (is_loaded) return &functions;
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
    return &functions;
}
