/* command.h - what every subcommand of `tandem` shares: arguments, log, registry, exit codes. */
#ifndef TD_TOOLS_COMMAND_H
#define TD_TOOLS_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "base/log.h"
#include "base/text.h"
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

typedef struct td_tool  td_tool;
typedef struct td_usage td_usage;

/* An option of one command, beside those that all have. What was given: td_tool_option. */
typedef struct td_flag {
    const char *name; /* "--weights" */
    /* NULL: a switch. "KEY ..": may be given again (td_tool_option_at). Completion knows "FILE", "DIR", "KEY", and "text|dot": one of these
     * words. */
    const char *value;
    const char *help;
} td_flag;

/* A word that a command takes first: `tandem plugins show`. */
typedef struct td_word {
    const char     *name;
    /* Completion knows KIND, NAME (of a plugin of that kind), KEY, FILE and DIR. */
    const char     *arguments;
    const char     *brief;
    /* A command of its own, with its options; NULL: it takes those of the command. */
    const td_usage *usage;
    int (*run)(td_tool *, int argc, char **argv);
} td_word;

/* All that --help, the man pages and completion know of a command. */
struct td_usage {
    const char    *name, *arguments, *brief, *example;
    const td_flag *flags;    /* name NULL at the end; NULL: none */
    const td_word *words;    /* name NULL at the end; NULL: none */
    bool           config;   /* takes -c and key=value */
    bool           optional; /* and can do without */
    bool           json;     /* takes --json */
    size_t         plain;    /* arguments that are no options, at most */
    const char    *notes;    /* lines to print below the options, or NULL */
};

enum { TD_ARGUMENTS = 256, TD_FLAGS = 64 };

struct td_tool {
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
    const td_usage       *usage;           /* that it was parsed by */
    const struct td_flag *given[TD_FLAGS]; /* options that were said, -c and --plugin-path apart */
    const char           *values[TD_FLAGS];
    size_t                n_given;
};

/* Parse the arguments of a command. True: go on; else an exit code is in `*code` (0 after
 * --help). */
bool           td_tool_parse(td_tool *, const td_usage *, int argc, char **argv, int *code);
/* The value of an option of the command ("" of a switch); NULL: it was not given. */
const char    *td_tool_option(const td_tool *, const char *name);
/* How often one was given that may be given again, and its values in order. */
size_t         td_tool_count(const td_tool *, const char *name);
const char    *td_tool_option_at(const td_tool *, const char *name, size_t index);
/* Say that `what` is none of the command's words, and give the exit code. */
int            td_tool_no_word(td_tool *, const char *what);
/* What all commands take, and whether this one does. */
const td_flag *td_tool_common(void);
bool           td_tool_takes(const td_usage *, const td_flag *);
/* The arguments of a command in short: "list [KIND] | show KIND NAME". */
void           td_tool_arguments(const td_usage *, td_text *out);
/* The registry with --plugin-path; NULL after a message. */
td_registry   *td_tool_registry(td_tool *);
/* Print what went wrong, and give the exit code for it. */
int            td_tool_fail(td_tool *, const td_error *);
int            td_tool_usage_error(td_tool *, const char *format, ...) TD_PRINTF(2, 3);

/* A number for JSON, which has no NaN and no infinity: null instead. */
json_t *td_tool_number(double);

/* Directory of the shipped configs/ and data/: where they are installed, or the source tree; free()
 * it. */
char *td_tool_shipped(void);
/* Its configs/; free() it. */
char *td_tool_configs(void);

#define COMMAND(name, brief)               \
    extern const td_usage td_usage_##name; \
    int                   td_command_##name(td_tool *, int argc, char **argv);
#include "commands.def"
#undef COMMAND

typedef struct td_command {
    const char     *name, *brief;
    const td_usage *usage;
    int (*run)(td_tool *, int argc, char **argv);
} td_command;

/* All of them; name NULL at the end. */
const td_command *td_commands(void);

#endif
