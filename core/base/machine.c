/* machine.c - what this machine is, from uname and /proc. */
#include "base/machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/file.h"
#include "base/threads.h"

double td_memory_bytes(void)
{
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

static double number_in(const char *path, double otherwise)
{
    double value;
    FILE  *f = fopen(path, "re");
    bool   known = f && fscanf(f, "%lf", &value) == 1; /* cgroups say "max" where there is none */
    if (f)
        fclose(f);
    return known ? value : otherwise;
}

double td_memory_limit(void)
{
    double all = td_memory_bytes(), v2 = number_in("/sys/fs/cgroup/memory.max", all),
           v1 = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", all);
    return v2 < all ? v2 : v1 < all ? v1 : all;
}

/* The first "model name : .. of /proc/cpuinfo; "unknown" where there is none. */
static void processor(char *out, size_t size)
{
    char  line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strncmp(line, "model name", 10) ? NULL : strchr(line, ':');
        if (!colon)
            continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

static void command_line(td_text *out)
{
    size_t size = 0;
    char  *all = td_file_read("/proc/self/cmdline", &size, NULL);
    for (size_t i = 0; all && i < size; i += strlen(all + i) + 1)
        td_text_print(out, "%s%s", i ? " " : "", all + i);
    free(all);
}

void td_machine_describe(td_text *out)
{
    struct utsname u;
    char           cpu[400], memory[32];
    processor(cpu, sizeof cpu);
    if (!uname(&u))
        td_text_print(out, "host: %s, %s %s, %s\n", u.nodename, u.sysname, u.release, u.machine);
    td_text_print(out, "processor: %d of %s\nmemory: %s\ncompiler: %s\ncommand: ", td_processors(),
                  cpu, td_human_bytes(memory, td_memory_bytes()), __VERSION__);
    command_line(out);
    td_text_print(out, "\n");
}
