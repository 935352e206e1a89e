/* Only the declarations: the library itself is optional and opened at run time. */
#include <isa-l/igzip_lib.h>
