#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Where libext2fs's blocks come from and go to, in bytes from the beginning of the file system. Both return an errno value. */
struct cext2_store {
    void *object;
    int (*read)(void *object, uint64_t offset, size_t count, void *bytes);
    int (*write)(void *object, uint64_t offset, size_t count, const void *bytes);
};

/* libext2fs names what it opens by a path only: the store stands here while it is opened. */
static inline struct cext2_store **cext2_opening(void) {
    static __thread struct cext2_store *store;
    return &store;
}

static inline size_t cext2_length(io_channel channel, int count) {
    return count < 0 ? (size_t)-(long)count : (size_t)count * (size_t)channel->block_size;
}

static inline io_manager cext2_manager(void) {
    static struct struct_io_manager manager;
    return &manager;
}

static errcode_t cext2_channel_open(const char *name, int flags, io_channel *result) {
    (void)flags;
    io_channel channel = (io_channel)calloc(1, sizeof *channel);
    if (!channel) return EXT2_ET_NO_MEMORY;
    channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel->name = strdup(name);
    channel->block_size = 1024;
    channel->refcount = 1;
    channel->manager = cext2_manager();
    channel->private_data = *cext2_opening();
    *result = channel;
    return channel->name ? 0 : EXT2_ET_NO_MEMORY;
}

static errcode_t cext2_channel_close(io_channel channel) {
    if (--channel->refcount > 0) return 0;
    free(channel->name);
    free(channel);
    return 0;
}

static errcode_t cext2_channel_set_blksize(io_channel channel, int size) {
    channel->block_size = size;
    return 0;
}

static errcode_t cext2_channel_read64(io_channel channel, unsigned long long block, int count, void *data) {
    struct cext2_store *store = (struct cext2_store *)channel->private_data;
    return store->read(store->object, block * (uint64_t)channel->block_size, cext2_length(channel, count), data);
}

static errcode_t cext2_channel_write64(io_channel channel, unsigned long long block, int count, const void *data) {
    struct cext2_store *store = (struct cext2_store *)channel->private_data;
    return store->write(store->object, block * (uint64_t)channel->block_size, cext2_length(channel, count), data);
}

static errcode_t cext2_channel_read(io_channel channel, unsigned long block, int count, void *data) {
    return cext2_channel_read64(channel, block, count, data);
}

static errcode_t cext2_channel_write(io_channel channel, unsigned long block, int count, const void *data) {
    return cext2_channel_write64(channel, block, count, data);
}

static errcode_t cext2_channel_write_byte(io_channel channel, unsigned long offset, int count, const void *data) {
    struct cext2_store *store = (struct cext2_store *)channel->private_data;
    return store->write(store->object, offset, (size_t)count, data);
}

static errcode_t cext2_channel_flush(io_channel channel) {
    (void)channel;
    return 0;
}

static errcode_t cext2_channel_set_option(io_channel channel, const char *option, const char *value) {
    (void)channel;
    (void)option;
    (void)value;
    return 0;
}

/* Opens the file system in a store, which must stay where it is until the file system is freed. */
static inline errcode_t cext2_open(struct cext2_store *store, const char *name, int flags, ext2_filsys *result) {
    io_manager manager = cext2_manager();
    manager->magic = EXT2_ET_MAGIC_IO_MANAGER;
    manager->name = "store";
    manager->open = cext2_channel_open;
    manager->close = cext2_channel_close;
    manager->set_blksize = cext2_channel_set_blksize;
    manager->read_blk = cext2_channel_read;
    manager->write_blk = cext2_channel_write;
    manager->flush = cext2_channel_flush;
    manager->write_byte = cext2_channel_write_byte;
    manager->set_option = cext2_channel_set_option;
    manager->read_blk64 = cext2_channel_read64;
    manager->write_blk64 = cext2_channel_write64;
    *cext2_opening() = store;
    errcode_t status = ext2fs_open2(name, NULL, flags, 0, 0, manager, result);
    *cext2_opening() = NULL;
    return status;
}

/* Macros, which Swift cannot see. */
static inline unsigned cext2_inode_size(ext2_filsys fs) { return EXT2_INODE_SIZE(fs->super); }
static inline unsigned cext2_descriptor_size(ext2_filsys fs) { return EXT2_DESC_SIZE(fs->super); }
