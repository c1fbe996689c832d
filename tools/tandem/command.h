/* command.h - what every subcommand of `tandem` shares: arguments, log, registry, exit codes. */
#ifndef TD_TOOLS_COMMAND_H
#define TD_TOOLS_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "base/log.h"
#include "base/threads.h"
#include "plugin/registry.h"

/* Exit codes (docs/config.md). */
enum {
    TD_EXIT_OK = 0,
    TD_EXIT_FAILED = 1,
    TD_EXIT_USAGE = 2,
    TD_EXIT_DIVERGED = 3,
    TD_EXIT_REQUEUE = 75,
    TD_EXIT_INTERRUPTED = 130
};

/* An option of one command, beside those that all have. `value` NULL: a switch. */
typedef struct td_flag {
    const char  *name;  /* "--weights" */
    const char  *value; /* "FILE" */
    const char  *help;
    const char **text; /* where its value goes, or NULL */
    bool        *on;   /* where a switch goes, or NULL */
} td_flag;

typedef struct td_usage {
    const char    *name, *arguments, *brief, *example;
    const td_flag *flags;  /* name NULL at the end; NULL: none */
    bool           config; /* takes -c and key=value */
    bool           json;   /* takes --json */
    size_t         plain;  /* arguments that are no options, at most */
    const char    *notes;  /* lines to print below the options, or NULL */
} td_usage;

enum { TD_ARGUMENTS = 256, TD_FLAGS = 64 };

typedef struct td_tool {
    const char           *command;
    td_journal           *log;
    td_registry          *registry;
    const char           *files[TD_ARGUMENTS]; /* -c */
    size_t                n_files;
    const char           *overrides[TD_ARGUMENTS]; /* key=value */
    size_t                n_overrides;
    const char           *plain[TD_ARGUMENTS]; /* all other arguments */
    size_t                n_plain;
    const char           *plugin_paths[TD_ARGUMENTS];
    size_t                n_plugin_paths;
    char                  threads[64];
    bool                  json;
    const struct td_flag *given[TD_FLAGS]; /* options that were said already */
    size_t                n_given;
} td_tool;

/* Parse the arguments of a command. 0: go on; else an exit code is in `*code` (0 after --help). */
bool         td_tool_parse(td_tool *, const td_usage *, int argc, char **argv, int *code);
/* The registry with --plugin-path; NULL after a message. */
td_registry *td_tool_registry(td_tool *);
/* Print what went wrong, and give the exit code for it. */
int          td_tool_fail(td_tool *, const td_error *);
int          td_tool_usage_error(td_tool *, const char *format, ...) TD_PRINTF(2, 3);

/* A number for JSON, which has no NaN and no infinity: null instead. */
json_t *td_tool_number(double);

/* Directory of the shipped configs/ and data/: where they are installed, or the source tree; free()
 * it. */
char *td_tool_shipped(void);
/* Its configs/; free() it. */
char *td_tool_configs(void);

#define COMMAND(name, brief) int td_command_##name(td_tool *, int argc, char **argv);
#include "commands.def"
#undef COMMAND

#endif
