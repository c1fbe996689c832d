/* command.h - shared by every subcommand of `tandem`: its description, its arguments, log, registry
 * and exit codes.
 *
 * A subcommand is a table and a function. The table (td_usage) is the only description of its
 * arguments: the parser, --help, the man pages and the completion scripts all read it, so they
 * cannot disagree. The function looks like this:
 *
 *     int td_command_example(td_tool *t, int argc, char **argv)
 *     {
 *         int code;
 *         if (!td_tool_parse(t, &td_usage_example, argc, argv, &code))
 *             return code;
 *         ..
 *         return td_failed(&error, ..) ? td_tool_fail(t, &error) : TD_EXIT_OK;
 *     }
 *
 * Results go to stdout, everything else to stderr.
 */
#ifndef TD_TOOLS_COMMAND_H
#define TD_TOOLS_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "plugin/registry.h"

/* Exit codes (docs/config.md). 75 is EX_TEMPFAIL of sysexits.h, on which batch systems requeue a
 * job; 130 is 128 + SIGINT, as shells report it. */
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

/* ---- how a subcommand describes itself ------------------------------------------------------- */

/* An option of one subcommand, in addition to the common ones. */
typedef struct td_flag {
    const char *name; /* "--weights" */
    /* NULL: a switch. Otherwise a placeholder that completion understands: "FILE", "DIR", "KEY", or
     * a choice of words, "text|dot". If it ends with ".." ("KEY ..") the option may be repeated;
     * read it with td_tool_option_at. */
    const char *value;
    const char *help;
} td_flag;

/* A word after the subcommand, as in `tandem plugins show`. */
typedef struct td_word {
    const char     *name;
    /* Completion understands KIND, NAME (of a plugin of the kind before it), KEY, FILE and DIR. */
    const char     *arguments;
    const char     *brief;
    /* The word's own description, if it has its own options; NULL: it has the subcommand's. */
    const td_usage *usage;
    int (*run)(td_tool *, int argc, char **argv);
} td_word;

/* The description of a subcommand for the parser, --help, the man pages and completion. */
struct td_usage {
    const char    *name, *arguments, *brief, *example;
    const td_flag *flags;    /* ends with name NULL; NULL: none */
    const td_word *words;    /* ends with name NULL; NULL: none */
    bool           config;   /* accepts -c and key=value */
    bool           optional; /* .. and works without a config */
    bool           run;      /* .. because its first argument may name a run, which has a config */
    bool           json;     /* accepts --json */
    const char    *bare;     /* the word that works without a config; NULL: none */
    size_t         folders;  /* this many of the first arguments may be folders of other programs */
    size_t         plain;    /* at most this many arguments that are neither options nor config */
    const char    *notes;    /* paragraphs for the end of --help, separated by "\n\n"; or NULL */
};

/* The options of every subcommand; ends with name NULL. */
const td_flag *td_tool_common(void);
/* Whether a subcommand accepts an option, one of its own or of the common ones. */
bool           td_tool_takes(const td_usage *, const td_flag *);
/* Append a summary of a subcommand's arguments: "list [KIND] | show KIND NAME". */
void           td_tool_arguments(const td_usage *, td_text *out);
/* Print --help to stdout. */
void           td_tool_help(const td_usage *);

/* ---- arguments ------------------------------------------------------------------------------- */

enum { TD_ARGUMENTS = 256, TD_FLAGS = 64 };

/* One run of the command. Zero-initialize, then set `command` and `log`. Strings are argv's. */
struct td_tool {
    const char  *command; /* name for messages: "plugins" */
    td_journal  *log;
    td_registry *registry;            /* NULL until td_tool_registry */
    const char  *files[TD_ARGUMENTS]; /* -c, in order */
    size_t       n_files;
    const char  *overrides[TD_ARGUMENTS]; /* key=value, in order */
    size_t       n_overrides;
    const char  *plain[TD_ARGUMENTS]; /* other arguments that are not options */
    size_t       n_plain;
    const char  *plugin_paths[TD_ARGUMENTS]; /* ends with NULL */
    size_t       n_plugin_paths;
    size_t       n_kept;      /* the number of `files`, from the first on, that were kept by runs */
    bool         trust;       /* --trust */
    bool         operands;    /* "--" was given: options have ended */
    bool         looks;       /* nothing is to be run: plugin_path is followed only with --trust */
    char         threads[64]; /* "backend.threads=4", one of `overrides` */
    bool         json;
    json_t      *results;  /* a list that gets results instead of stdout; NULL: they are printed */
    const td_usage *usage; /* the description that the arguments were parsed by */
    /* Options in the order given, except -c and --plugin-path; values[k] is "" for a switch. */
    const td_flag  *given[TD_FLAGS];
    const char     *values[TD_FLAGS];
    size_t          n_given;
    char           *owned[TD_ARGUMENTS]; /* arguments that are not argv's */
    size_t          n_owned;
};

/* Parse the arguments of a subcommand (without its name). False: return `*code` at once; a message,
 * or the requested help, has been printed. */
bool        td_tool_parse(td_tool *, const td_usage *, int argc, char **argv, int *code);
/* The value of one of the subcommand's own options, "" for a switch, or NULL if it was not
 * given. */
const char *td_tool_option(const td_tool *, const char *name);
/* How often a repeatable option was given, and its values in order (NULL past the end). */
size_t      td_tool_count(const td_tool *, const char *name);
const char *td_tool_option_at(const td_tool *, const char *name, size_t index);
/* An option's number, or `otherwise` if it was not given. False after a usage error. */
bool td_tool_integer(td_tool *, const char *name, int64_t otherwise, int64_t low, int64_t high,
                     int64_t *out);
bool td_tool_real(td_tool *, const char *name, double otherwise, double *out);
bool td_tool_positive(td_tool *, const char *name, double otherwise, double *out);

/* ---- errors, and what a subcommand works with ------------------------------------------------ */

/* Print to stderr, with control characters replaced: names come from strangers. */
void td_tool_say(const char *format, ...) TD_PRINTF(1, 2);
/* Print "tandem COMMAND: .." with a hint at --help; returns TD_EXIT_USAGE. */
int  td_tool_usage_error(td_tool *, const char *format, ...) TD_PRINTF(2, 3);
/* Report a first word that the subcommand does not have as a usage error. */
int  td_tool_no_word(td_tool *, const char *what);
/* Log the error; returns the exit code for its kind. */
int  td_tool_fail(td_tool *, const td_error *);
/* Its exit code alone. */
int  td_tool_exit_code(const td_error *);

/* The registry, searching --plugin-path first; opened by the first call and owned by the td_tool.
 * NULL after a message. */
td_registry *td_tool_registry(td_tool *);

/* A number as JSON. NaN and infinity, which JSON does not have, become null. */
json_t *td_tool_number(double);

/* The shipped configs/. free() it. */
char *td_tool_configs(void);

/* The config that a name without its ending, or its folder, was meant for, "nano/redllm.cfg" for
 * redllm; free() it. NULL: none. */
char *td_tool_config_near(const char *name);

/* The kind of that name, "attention" or "attention/1"; NULL with an error that suggests the
 * nearest. */
const td_kind *td_tool_kind(const char *name, td_error *error);

/* The length of a kind's name without its revision: 9 for "attention/1". For printf's "%.*s". */
int td_tool_kind_length(const char *kind);

/* ---- the subcommands ------------------------------------------------------------------------- */

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

/* All commands, in the order of commands.def; ends with name NULL. */
const td_command *td_commands(void);

#endif
