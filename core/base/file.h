/* file.h - files and directories: whole reads, atomic writes, maps, hashes, paths.
 *
 * Everything that a run leaves behind is written through here, so that a crash, a full disk or a
 * kill at any moment leaves the old content or the new, never half of either.
 *
 * Functions that take an error fail with TD_EIO and a message that names the path, or with
 * TD_ENOMEM. All are [any], except that nothing here locks: two threads must not write to the same
 * path.
 */
#ifndef TD_BASE_FILE_H
#define TD_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tandem/error.h"

/* "cannot WHAT 'PATH': ..", with the text of errno. Returns TD_EIO. */
int td_io_error(td_error *error, const char *what, const char *path);

/* ---- reading --------------------------------------------------------------------------------- */

/* Only regular files are accepted, except under /dev and /proc (standard input, a shell's
 * `<(command)`): opening a pipe without a writer would block forever. */

/* The whole file, followed by a 0; free() it. NULL with `error`, also where a pipe or a device holds
 * more than 256 MiB. `size` may be NULL. */
char *td_file_read(const char *path, size_t *size, td_error *error);

/* A read-only memory map of a regular file; `data` is NULL if the file is empty. */
typedef struct td_mapped_file {
    const unsigned char *data;
    size_t               size;
} td_mapped_file;
int  td_file_map(td_mapped_file *, const char *path, td_error *error);
void td_file_unmap(td_mapped_file *); /* may be called again */

/* XXH3-128 of the content as 32 hex digits: to detect corruption, not tampering. */
int td_file_hash(const char *path, char hex[33], td_error *error);

bool    td_file_exists(const char *path); /* also true of a directory */
int64_t td_file_size(const char *path);   /* -1: cannot be read */

/* ---- writing --------------------------------------------------------------------------------- */

/* Replace the file with these bytes: write a temporary file next to it, fsync, rename over it,
 * fsync the directory. */
int td_file_write(const char *path, const void *data, size_t size, td_error *error);
/* The file of this name in a folder. */
int td_file_write_in(const char *folder, const char *name, const void *data, size_t size,
                     td_error *error);

/* The same in pieces: write to `file`, then commit or abandon. Commit also reports errors of
 * earlier writes. Neither leaves the temporary file behind. */
typedef struct td_atomic_file {
    FILE *file;
    char *path, *temporary;
} td_atomic_file;
int  td_atomic_open(td_atomic_file *, const char *path, td_error *error);
int  td_atomic_commit(td_atomic_file *, td_error *error);
void td_atomic_abandon(td_atomic_file *);

/* Open a file for appending; it is created if it does not exist. A link is not followed, and a file
 * that is not regular is refused. NULL with `error`. */
FILE *td_file_append(const char *path, td_error *error);

/* fsync; 0 also where the file system has none. -1 with errno. */
int td_sync_file(int fd);

/* ---- directories ----------------------------------------------------------------------------- */

/* A new directory in $TMPDIR, or /tmp, whose name begins with `name`. Remove and free() it. */
char *td_temporary_directory(const char *name, td_error *error);

/* Create a directory and its parents; existing ones are fine. TD_ECONFIG if the path is empty. */
int td_make_directories(const char *path, td_error *error);

/* Create it like td_make_directories, and check that files can be made in it: TD_EIO if not. */
int td_make_writable(const char *path, td_error *error);

/* Names in a directory, sorted, without . and ..; free them with td_free_names. A negative code
 * with `error`. */
int64_t td_list_directory(const char *path, char ***names, td_error *error);
void    td_free_names(char **names, int64_t count);

/* Make the creation, renaming and removal of files in a directory durable. */
int td_sync_directory(const char *path, td_error *error);

/* Remove a file, or a directory with everything in it; links are removed, not followed. A path that
 * does not exist is not an error. */
int td_remove_tree(const char *path, td_error *error);

/* Rename directory `from` to `to` and remove the one that was there; if removing it fails, it is
 * left under the name `from`. At every moment there is a whole directory `to`, old or new, where
 * the file system can exchange two names (see directory.c for those that cannot). */
int td_replace_directory(const char *from, const char *to, td_error *error);

/* ---- paths: free() the results; NULL when out of memory -------------------------------------- */

/* directory + "/" + name, or `name` alone if it is absolute or the directory is "". */
char *td_path_join(const char *directory, const char *name);
/* Everything before the last slash, or "." without a slash. */
char *td_path_directory(const char *path);
/* The path of a program, as the shell would find it in PATH; NULL: there is none. */
char *td_program_find(const char *name);

#endif
