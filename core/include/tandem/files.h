/* files.h - file names as patterns, and Git LFS pointers in the place of files. [any]
 *
 * Patterns are the shell's. The leading parts of a path that exist are taken literally: where there
 * is a directory "e[1]", the pattern "e[1]/x*" does not match files in "e1". From the first part
 * that does not exist, "*", "?" and "[..]" are wildcards, and "\" escapes them.
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

/* Like glob(pattern, flags, NULL, found), except for parts that exist; not with GLOB_NOESCAPE. */
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
    /* with GLOB_NOCHECK, a pattern that matches nothing is itself the result: restore the original,
     * which is no longer than the quoted one */
    if (!result && flags & GLOB_NOCHECK && !strcmp(found->gl_pathv[found->gl_pathc - 1], quoted))
        strcpy(found->gl_pathv[found->gl_pathc - 1], pattern);
    free(quoted);
    return result;
}

/* ---- Git LFS, which leaves a short text in the place of a file that was not fetched ---------- */

#define TD_POINTER_ADVICE \
    "it is a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'"

/* By how a file begins; `size` bytes of it are known. */
static inline bool td_is_pointer(const void *begin, size_t size)
{
    static const char version[] = "version https://git-lfs";
    return size >= sizeof version - 1 && !memcmp(begin, version, sizeof version - 1);
}

/* The same for an open file, which is rewound. The specification limits a pointer to 1023 bytes; a
 * longer text may begin like one. */
static inline bool td_is_pointer_file(int fd)
{
    enum { LIMIT = 1024 };
    char        begin[32];
    struct stat st;
    ssize_t     n;
    /* reading from a pipe would consume its data */
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size >= LIMIT)
        return false;
    n = read(fd, begin, sizeof begin);
    return lseek(fd, 0, SEEK_SET) == 0 && n > 0 && td_is_pointer(begin, (size_t)n);
}

#ifdef __cplusplus
}
#endif
#endif
