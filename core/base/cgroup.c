/* cgroup.c - limits of control groups: from the group of the process up to the root. */
#include "base/cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 4096 };

/* The limit of one group, whose directory is `path`; 0: it has none. */
typedef double group_limit(const char *path);

/* The numbers at the beginning of a file, at most two; "max" is none. Returns how many there are.
 */
static int numbers_in(const char *path, const char *name, double out[2])
{
    char  file[LONGEST + 64];
    int   n;
    FILE *f;
    snprintf(file, sizeof file, "%s/%s", path, name);
    f = fopen(file, "re");
    n = f ? fscanf(f, "%lf %lf", &out[0], &out[1]) : 0;
    if (f)
        fclose(f);
    return n;
}

/* Version 2 has quota and period in one file, version 1 in two; -1 is "no limit" there. */
static double processors_of(const char *path)
{
    double quota[2], period[2];
    if (numbers_in(path, "cpu.max", quota) == 2 && quota[0] > 0 && quota[1] > 0)
        return quota[0] / quota[1];
    if (numbers_in(path, "cpu.cfs_quota_us", quota) >= 1 && quota[0] > 0 &&
        numbers_in(path, "cpu.cfs_period_us", period) >= 1 && period[0] > 0)
        return quota[0] / period[0];
    return 0;
}

static double memory_of(const char *path)
{
    double bytes[2];
    if (numbers_in(path, "memory.max", bytes) >= 1 && bytes[0] > 0)
        return bytes[0];
    /* without a limit, version 1 has a number near 2^63 */
    if (numbers_in(path, "memory.limit_in_bytes", bytes) >= 1 && bytes[0] > 0 && bytes[0] < 0x1p60)
        return bytes[0];
    return 0;
}

static double tighter(double a, double b) { return !a || (b && b < a) ? b : a; }

/* The tightest limit of `group` below `mount` and of all groups above it. In a container the path may
 * be the host's, of which only the end, or nothing, exists here: missing files have no limit. */
static double walk(const char *mount, const char *group, group_limit *limit)
{
    char   path[LONGEST];
    double least = 0;
    size_t base = strlen(mount);
    if ((size_t)snprintf(path, sizeof path, "%s%s", mount, group) >= sizeof path)
        return limit(mount);
    for (;;) {
        char *slash;
        least = tighter(least, limit(path));
        slash = strrchr(path, '/');
        if (strlen(path) <= base || !slash || (size_t)(slash - path) < base)
            return least;
        *slash = 0;
    }
}

/* Is `name`, of `n` bytes, one of the controllers, which are separated by commas? */
static bool has(const char *controllers, const char *name, size_t n)
{
    for (const char *at = controllers; *at; at += *at == ',') {
        size_t length = strcspn(at, ",");
        if (length == n && !memcmp(at, name, n))
            return true;
        at += length;
    }
    return false;
}

/* The kind of limit: its controller is what a name in version 1 begins with. */
typedef struct kind {
    const char  *name;
    group_limit *of;
} kind;

/* A line of the membership: "0::/path" for version 2, "5:cpu,cpuacct:/path" for version 1, whose
 * hierarchies are mounted below the root under the names of their controllers. */
static double limit_of_line(const char *root, char *line, const kind *k)
{
    size_t n = strcspn(k->name, ".");
    char   mount[LONGEST];
    char  *controllers = strchr(line, ':'),
         *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
        return 0;
    *group++ = 0;
    controllers++;
    group[strcspn(group, "\n")] = 0;
    if (!strcmp(group, "/"))
        group = "";
    if (!*controllers) {
        /* alongside version 1, version 2 is mounted here */
        snprintf(mount, sizeof mount, "%s/unified", root);
        return tighter(walk(root, group, k->of), walk(mount, group, k->of));
    }
    if (!has(controllers, k->name, n))
        return 0;
    snprintf(mount, sizeof mount, "%s/%s", root, controllers);
    double both = walk(mount, group, k->of);
    snprintf(mount, sizeof mount, "%s/%.*s", root, (int)n, k->name);
    return tighter(both, walk(mount, group, k->of));
}

static double tightest(const char *root, const char *membership, const kind *k)
{
    FILE  *f = fopen(membership, "re");
    char   line[LONGEST];
    /* the root itself, in case the membership is hidden or of another namespace */
    double least = k->of(root);
    while (f && fgets(line, sizeof line, f))
        least = tighter(least, limit_of_line(root, line, k));
    if (f)
        fclose(f);
    return least;
}

double td_cgroup_processors(const char *root, const char *membership)
{
    return tightest(root, membership, &(kind){ "cpu.cfs_quota_us", processors_of });
}

double td_cgroup_memory(const char *root, const char *membership)
{
    return tightest(root, membership, &(kind){ "memory.limit_in_bytes", memory_of });
}
