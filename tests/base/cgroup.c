/* cgroup.c - limits of control groups, of either version, at any height above the process. */
#include "base/cgroup.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static char root[64], membership[96];

static void setup(void)
{
    strcpy(root, "/tmp/test-cgroup-XXXXXX");
    cr_assert(mkdtemp(root));
    snprintf(membership, sizeof membership, "%s/self", root);
}

static void teardown(void) { td_remove_tree(root, NULL); }

TestSuite(cgroup, .init = setup, .fini = teardown);

static void put(const char *name, const char *text)
{
    char  path[400], *directory;
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", root, name);
    directory = td_path_directory(path);
    cr_assert_eq(td_make_directories(directory, NULL), 0);
    free(directory);
    f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

static double processors(void) { return td_cgroup_processors(root, membership); }
static double memory(void) { return td_cgroup_memory(root, membership); }

Test(cgroup, without_limits)
{
    cr_expect(processors() == 0 && memory() == 0);
    put("self", "0::/a/b\n");
    put("a/b/cpu.max", "max 100000\n");
    put("a/b/memory.max", "max\n");
    cr_expect(processors() == 0 && memory() == 0);
    put("self", "7:cpu,cpuacct:/x\n3:memory:/x\n");
    put("cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
    put("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    put("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    cr_expect(processors() == 0 && memory() == 0);
}

Test(cgroup, version_2_at_any_height)
{
    static const char *const at[] = { "a/b/cpu.max", "a/cpu.max", "cpu.max" };
    put("self", "0::/a/b\n");
    for (int k = 0; k < 3; k++) {
        put(at[k], "150000 100000\n");
        cr_expect_eq(processors(), 1.5, "%s", at[k]);
        put(at[k], "max 100000\n");
    }
    put("a/b/cpu.max", "400000 100000\n");
    put("a/cpu.max", "100000 100000\n");
    cr_expect_eq(processors(), 1, "the tighter one counts");
    put("a/memory.max", "1000000\n");
    put("a/b/memory.max", "5000000\n");
    cr_expect_eq(memory(), 1000000);
}

Test(cgroup, version_1)
{
    put("self", "12:cpuset:/x\n7:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/\n");
    put("cpu,cpuacct/docker/x/cpu.cfs_quota_us", "50000\n");
    put("cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
    put("memory/docker/memory.limit_in_bytes", "7000000\n");
    cr_expect_eq(processors(), 0.5);
    cr_expect_eq(memory(), 7000000);
    /* in a container the path is the host's, and its own group is the root of the mount */
    put("self", "7:cpu,cpuacct:/docker/host/y\n3:memory:/docker/host/y\n");
    put("cpu/cpu.cfs_quota_us", "300000\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    put("memory/memory.limit_in_bytes", "6000000\n");
    cr_expect_eq(processors(), 3);
    cr_expect_eq(memory(), 6000000);
}
