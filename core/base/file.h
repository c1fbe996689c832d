/* file.h - files and directories: whole reads, atomic writes, maps, hashes. */
#ifndef TD_BASE_FILE_H
#define TD_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tandem/error.h"

/* All bytes, with a 0 after them; free() it. NULL with `error`. What is no regular file is read
 * only below /dev and /proc; elsewhere it is refused, here and below. */
char *td_file_read(const char *path, size_t *size, td_error *error);

/* Write beside `path`, fsync, rename over it, fsync the directory: after a crash there is the old
 * file or the new. */
int td_file_write(const char *path, const void *data, size_t size, td_error *error);

/* The same in pieces: write to `file`, then commit or abandon. */
typedef struct td_atomic_file {
    FILE *file;
    char *path, *temporary;
} td_atomic_file;
int  td_atomic_open(td_atomic_file *, const char *path, td_error *error);
/* on failure the temporary file is removed */
int  td_atomic_commit(td_atomic_file *, td_error *error);
void td_atomic_abandon(td_atomic_file *);

/* A read-only memory map. */
typedef struct td_mapped_file {
    const unsigned char *data;
    size_t               size;
} td_mapped_file;
int  td_file_map(td_mapped_file *, const char *path, td_error *error);
void td_file_unmap(td_mapped_file *);

/* A new one in $TMPDIR, or /tmp, whose name begins with `name`; remove and free() it. */
char   *td_temporary_directory(const char *name, td_error *error);
/* With those above it. The empty path is a mistake of the config. */
int     td_make_directories(const char *path, td_error *error);
int     td_sync_directory(const char *path, td_error *error);
bool    td_file_exists(const char *path);
int64_t td_file_size(const char *path); /* -1: none */
int     td_remove_tree(const char *path, td_error *error);
/* Directory `from` gets the name `to`; what had it is removed. At every moment `to` is whole, old
 * or new. */
int     td_replace_directory(const char *from, const char *to, td_error *error);
/* Names in a directory, sorted, without . and ..; free each and the array. -1 with `error`. */
int64_t td_list_directory(const char *path, char ***names, td_error *error);
void    td_free_names(char **names, int64_t count);

/* XXH3-128 of a file as 32 hex digits. */
int td_file_hash(const char *path, char hex[33], td_error *error);

/* dir + "/" + name, or name if it is absolute; free() it. */
char *td_path_join(const char *directory, const char *name);
/* The directory part, "." if there is none; free() it. */
char *td_path_directory(const char *path);
/* Where this program or the library's build/install tree is: .../bin of /proc/self/exe; free()
 * it. */
char *td_program_directory(void);

#endif
