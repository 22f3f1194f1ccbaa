/*
 * inode.h: inode number <-> (parent, name), lookup counts, open files.
 *
 * An inode lives while the kernel has looked it up (nlookup), while it is open, or while it has children in the
 * table. Its number is a hash of its key, so that it is the same after a remount; two that would collide get
 * different numbers. An inode whose name was removed or replaced is detached: it keeps its number for those who
 * have it open, and is found under no name.
 *
 * The kernel keeps what it has looked up for as long as it likes. Above a limit the table says so, and inode_pick()
 * names those that it may be asked to forget (shed.h).
 *
 * One mutex guards the table and every field of every inode; it is held for moments only.
 */
#ifndef FS_INODE_H
#define FS_INODE_H

#include "../cache/cache.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define INODE_ROOT 1

struct inode {
    uint64_t ino;
    struct inode *hash_ino, *hash_name; /* chains */
    struct inode *parent;               /* NULL: the root, or detached */
    uint64_t nlookup;
    uint32_t refs;      /* children in the table, operations and open files */
    uint32_t children;  /* the first of these */
    uint32_t opens;     /* the last of these: open files, of a directory its open descriptors */
    uint32_t type;      /* S_IFMT */
    uint32_t etag_hash; /* of the content that the kernel's page cache was last filled from; 0: none */
    struct cfile *cf;   /* while it is open: one open of its own */
    bool detached;
    bool used;  /* since the hand of inode_pick() was here */
    char *name; /* "" for the root */
};

struct inodes;

struct inodes *inodes_new(const char *root_key);
void inodes_free(struct inodes *inodes);

/* The inode that the kernel names, referenced; NULL when unknown (ESTALE). Release with inode_put(). */
struct inode *inode_get(struct inodes *inodes, uint64_t ino);
void inode_put(struct inodes *inodes, struct inode *inode);

/*
 * The inode of a name, made when there is none, its lookup count raised by one and referenced. When the one that is
 * there is of another type, it is detached and a new one made. NULL when out of memory.
 */
struct inode *inode_lookup(struct inodes *inodes, struct inode *parent, const char *name, uint32_t type);

/* The inode of a name if there is one, referenced, else NULL. */
struct inode *inode_find(struct inodes *inodes, struct inode *parent, const char *name);

void inode_forget(struct inodes *inodes, uint64_t ino, uint64_t n);

/* The name is gone, or gone to another: the inode keeps only its number. */
void inode_detach(struct inodes *inodes, struct inode *parent, const char *name);

/* `from` in `parent` is now `to` in `new_parent`; what was there is detached. */
void inode_rename(struct inodes *inodes, struct inode *parent, const char *from, struct inode *new_parent,
                  const char *to);

/*
 * The object key: of a directory with trailing '/', of the root its own. 0, -ENOENT when detached, -ENAMETOOLONG.
 */
int inode_key(struct inodes *inodes, struct inode *inode, char key[OSS_KEY_MAX + 2]);

/* The key of the directory that the inode is in, and its name (NAME_MAX + 1 bytes); -ENOENT when detached or root. */
int inode_place(struct inodes *inodes, struct inode *inode, char dir[OSS_KEY_MAX + 2], char name[256]);

/*
 * One more open handle, which works on `cf` (the inode holds it too: the newest one's; NULL: of a directory), and one
 * less.
 */
void inode_opened(struct inodes *inodes, struct inode *inode, struct cfile *cf);
void inode_closed(struct inodes *inodes, struct inode *inode);

/* The open file's state, a hold of the caller's (cfile_release()); NULL: not open. */
struct cfile *inode_cfile(struct inodes *inodes, struct inode *inode);

/* The kernel's pages hold the content with this hash from now on (0: changed here). Did they hold it before? */
bool inode_note_content(struct inodes *inodes, struct inode *inode, uint32_t hash);

/* How many are in memory. */
size_t inodes_count(struct inodes *inodes);

/* How many have left it so far. */
uint64_t inodes_freed(struct inodes *inodes);

/* ------------------------------------------------------------------------------------------- the limit */

/*
 * `above(arg)` is called, under the lock (so it must be quick), by the lookup that brings the count above `limit`,
 * and not again before it was below. Before the first lookup.
 */
void inodes_limit(struct inodes *inodes, size_t limit, void (*above)(void *arg), void *arg);

/* Whom the kernel may be asked to forget; each takes in those before. */
enum inode_pick {
    INODE_PICK_FILES, /* no directories, none whose number would be another one next time, none in a busy directory */
    INODE_PICK_DIRS,
    INODE_PICK_BUSY, /* in a directory too that the kernel may have locked for an operation that waits for us */
};
struct inode_victim {
    uint64_t parent;
    char name[256];
};
/*
 * At most `max` of those that the kernel knows and nobody uses: not open, no operation on them, no children; least
 * recently used first, nearly (a clock). Looks at a part of the table: *rounds grows by one when its end was
 * reached. Who was picked counts as just used.
 */
size_t inode_pick(struct inodes *inodes, enum inode_pick whom, struct inode_victim *out, size_t max,
                  unsigned *rounds);

#endif
