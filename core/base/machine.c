/* machine.c - the machine, from uname, /proc and the control group. */
#include "base/machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/file.h"
#include "base/threads.h"

/* A double: sizes are compared and printed, and products of sizes must not overflow. */
double td_memory_bytes(void)
{
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

double td_memory_limit(void)
{
    double all = td_memory_bytes();
    double granted = td_cgroup_memory(TD_CGROUP_ROOT, TD_CGROUP_MEMBERSHIP);
    return granted > 0 && granted < all ? granted : all;
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
