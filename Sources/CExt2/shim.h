#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

/* A variable that nobody changes, which Swift cannot know. */
static inline io_manager cext2_unix_io(void) { return unix_io_manager; }
