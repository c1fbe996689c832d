/* pages.c - makes the pages of a loaded module the process's own. */
#include "plugin/pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A line of /proc/self/maps. */
typedef struct range {
    uintptr_t low, high;
    int       protection;
} range;

enum { RANGES = 64 }; /* of one module; linkers make five */

/* Whether the line is a private mapping of a file that begins in [low, high). */
static bool read_line(const char *line, uintptr_t low, uintptr_t high, range *out)
{
    unsigned long from, to, inode;
    char          allowed[5];
    if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &from, &to, allowed, &inode) != 4)
        return false;
    *out = (range){ from, to,
                    (allowed[0] == 'r' ? PROT_READ : 0) | (allowed[1] == 'w' ? PROT_WRITE : 0) |
                        (allowed[2] == 'x' ? PROT_EXEC : 0) };
    return inode && from >= low && from < high && allowed[3] == 'p';
}

/* Reads all ranges before any is changed, because the file shows the current mappings. */
static int find(uintptr_t low, uintptr_t high, range out[RANGES])
{
    FILE *f = fopen("/proc/self/maps", "re");
    char  line[4500];
    int   n = 0;
    while (f && n < RANGES && fgets(line, sizeof line, f))
        n += read_line(line, low, high, &out[n]);
    if (f)
        fclose(f);
    return n;
}

/* Reads through the kernel, which returns an error where the file has become too short. */
static bool read_memory(int memory, const range *r, char *out)
{
    size_t size = r->high - r->low;
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(memory, out + done, size - done, (off_t)(r->low + done));
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* mremap puts the copy in place in one step. Pages that were written to are copied, too: they
 * belong to the process, but are lost with the file's pages when it is truncated. */
static void replace(int memory, const range *r)
{
    size_t size = r->high - r->low;
    char  *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return;
    if (!read_memory(memory, r, copy) || mprotect(copy, size, r->protection) ||
        mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)r->low) == MAP_FAILED)
        munmap(copy, size);
}

/* The system must not give the file's number to another one after it was removed: dlopen knows the
 * modules that are loaded by device and number alone, and would return this one for that. A mapping
 * that is never touched keeps it. */
static void hold(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    mmap(NULL, 1, PROT_NONE, MAP_PRIVATE, fd, 0);
    close(fd);
}

void td_pages_own(const char *path, uintptr_t low, uintptr_t high, bool writable)
{
    range ranges[RANGES];
    int   memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    int   n = memory < 0 ? 0 : find(low, high, ranges);
    hold(path);
    for (int k = 0; k < n; k++)
        if (ranges[k].protection && (writable || !(ranges[k].protection & PROT_WRITE)))
            replace(memory, &ranges[k]);
    if (memory >= 0)
        close(memory);
}
