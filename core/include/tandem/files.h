/* files.h - names of files as patterns, and files that are not what their names say. [any]
 *
 * Patterns are those of the shell. The parts of a path that exist are taken as they are, whatever they
 * would mean as a pattern: with a directory of the name "e[1]", the pattern "e[1]/x*" is not looked
 * for in "e1". After the first part that does not exist, "*", "?" and "[..]" are wildcards, and "\"
 * takes their meaning away.
 *
 * Example:
 *
 *     #include "tandem/files.h"
 *
 *     static size_t count(const char *pattern)
 *     {
 *         glob_t found = { 0 };
 *         size_t n = td_glob(pattern, 0, &found) ? 0 : found.gl_pathc;
 *         globfree(&found);
 *         return n;
 *     }
 */
#ifndef TANDEM_FILES_H
#define TANDEM_FILES_H

#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How many bytes of the pattern name something that exists. `part`: memory for a copy of it. */
static inline size_t td_glob_existing(const char *pattern, char *part)
{
    struct stat st;
    size_t      existing = 0;
    for (size_t end = 0; pattern[end];) {
        end += strspn(pattern + end, "/");
        end += strcspn(pattern + end, "/");
        memcpy(part, pattern, end);
        part[end] = 0;
        if (stat(part, &st))
            break;
        existing = end;
    }
    return existing;
}

/* glob(pattern, flags, NULL, found); GLOB_NOESCAPE is not for it. */
static inline int td_glob(const char *pattern, int flags, glob_t *found)
{
    size_t size = 2 * strlen(pattern) + 1, existing, n = 0;
    char  *quoted = (char *)malloc(size);
    int    result;
    if (!quoted)
        return GLOB_NOSPACE;
    existing = td_glob_existing(pattern, quoted);
    for (size_t k = 0; k < existing; k++) {
        if (strchr("\\*?[", pattern[k]))
            quoted[n++] = '\\';
        quoted[n++] = pattern[k];
    }
    strcpy(quoted + n, pattern + existing);
    result = glob(quoted, flags, NULL, found);
    /* with GLOB_NOCHECK, what matches nothing is itself the result; it is shorter without quotes */
    if (!result && flags & GLOB_NOCHECK && !strcmp(found->gl_pathv[found->gl_pathc - 1], quoted))
        strcpy(found->gl_pathv[found->gl_pathc - 1], pattern);
    free(quoted);
    return result;
}

/* ---- Git LFS, which puts a short text in the place of a large file that was not fetched -------- */

#define TD_POINTER_ADVICE \
    "it is a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'"

/* By how a file begins; `size` bytes of it are known. */
static inline bool td_is_pointer(const void *begin, size_t size)
{
    static const char version[] = "version https://git-lfs";
    return size >= sizeof version - 1 && !memcmp(begin, version, sizeof version - 1);
}

/* The same of an open file, which is at its beginning afterwards. A pointer has at most 1023 bytes,
 * as its specification says: a longer text may begin like one. */
static inline bool td_is_pointer_file(int fd)
{
    enum { LIMIT = 1024 };
    char        begin[32];
    struct stat st;
    ssize_t     n;
    /* what is read from a pipe is lost */
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size >= LIMIT)
        return false;
    n = read(fd, begin, sizeof begin);
    return lseek(fd, 0, SEEK_SET) == 0 && n > 0 && td_is_pointer(begin, (size_t)n);
}

#ifdef __cplusplus
}
#endif
#endif
