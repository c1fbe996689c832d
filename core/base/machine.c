/* machine.c - the machine, from uname, /proc and the control group. */
#include "base/machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/file.h"
#include "base/threads.h"

/* A double: sizes are compared and printed, and products of sizes must not overflow. */
double td_memory_bytes(void)
{
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

/* The number in a control group's file; `otherwise` if there is no such file, or no limit, in which
 * case the file contains the word "max". */
static double number_in(const char *path, double otherwise)
{
    double value;
    FILE  *f = fopen(path, "re");
    bool   known = f && fscanf(f, "%lf", &value) == 1;
    if (f)
        fclose(f);
    return known ? value : otherwise;
}

double td_memory_limit(void)
{
    /* a machine has version 1 of control groups or version 2; the files of the other are missing */
    double all = td_memory_bytes();
    double v2 = number_in("/sys/fs/cgroup/memory.max", all);
    double v1 = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", all);
    if (v2 < all)
        return v2;
    return v1 < all ? v1 : all; /* "no limit" of version 1 is a number near 2^63 */
}

/* "model name : .." of the first processor; "unknown" on machines (ARM, for one) that list none. */
static void processor_name(char *out, size_t size)
{
    char  line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "unknown");
    /* the first is enough: all processors of a machine are alike, or nearly so */
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strncmp(line, "model name", 10) ? NULL : strchr(line, ':');
        if (!colon || colon[1] != ' ')
            continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

/* Taken from /proc, so that no caller has to hand argv down to here. */
static void put_command_line(td_text *out)
{
    size_t size = 0;
    char  *all = td_file_read("/proc/self/cmdline", &size, NULL);
    /* arguments end with a 0 each, the last one too */
    for (size_t i = 0; all && i < size; i += strlen(all + i) + 1)
        td_text_print(out, "%s%s", i ? " " : "", all + i);
    free(all);
}

void td_machine_describe(td_text *out)
{
    struct utsname u;
    char           cpu[400], memory[32];
    processor_name(cpu, sizeof cpu);
    if (!uname(&u))
        td_text_print(out, "host: %s, %s %s, %s\n", u.nodename, u.sysname, u.release, u.machine);
    td_text_print(out, "processor: %d of %s\nmemory: %s\ncompiler: %s\ncommand: ", td_processors(),
                  cpu, td_human_bytes(memory, td_memory_bytes()), __VERSION__);
    put_command_line(out);
    td_text_print(out, "\n");
}
