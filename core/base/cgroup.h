/* cgroup.h - the limits that control groups set for this process, in version 1 and version 2. */
#ifndef TD_BASE_CGROUP_H
#define TD_BASE_CGROUP_H

/* A limit may be set for a group or for any group above it; the tightest one counts. `root` is where
 * control groups are mounted, normally TD_CGROUP_ROOT; `membership` is the file that lists the groups
 * of the process, normally TD_CGROUP_MEMBERSHIP. Both functions return 0 without a limit. [any] */
#define TD_CGROUP_ROOT "/sys/fs/cgroup"
#define TD_CGROUP_MEMBERSHIP "/proc/self/cgroup"

/* The processor time that may be used, in processors. */
double td_cgroup_processors(const char *root, const char *membership);
/* Bytes of memory. */
double td_cgroup_memory(const char *root, const char *membership);

#endif
