/* completion.h - the sources of the scripts of `tandem completion`.
 *
 * A script is static text around tables: commands, words, options, kinds, plugins, config keys and
 * the values of each key. The tables are those by which the command itself parses (td_usage,
 * options of plugins), so a script cannot offer what the command refuses. A script holds them as
 * they were when it was written; it does not call `tandem` while you type.
 *
 * Each shell has a separate file (completion_bash.c, ..) that writes its script; completion.c is
 * the command.
 */
#ifndef TD_TOOLS_MANUAL_COMPLETION_H
#define TD_TOOLS_MANUAL_COMPLETION_H

#include "command.h"
#include "manual/keys.h"

typedef struct td_completion {
    const td_registry *registry; /* scanned */
    td_arena          *arena;
    td_keys            keys;
    const char        *configs; /* the shipped ones, "nano/redllm.cfg base/small.cfg .." */
} td_completion;

/* Each appends a script. */
void td_completion_bash(const td_completion *, td_text *out);
void td_completion_zsh(const td_completion *, td_text *out);
void td_completion_fish(const td_completion *, td_text *out);

/* Called for a command (`word` NULL), or for a word of it that has its own options. */
typedef void td_completion_see(const td_usage *, const td_command *, const td_word *word,
                               void *argument);
/* All commands, each followed by its words. */
void         td_completion_each(td_completion_see *, void *argument);

/* All options that a command accepts, the common ones last. key=value is not among them. */
void td_completion_flags(const td_usage *, void (*see)(const td_usage *, const td_flag *, void *),
                         void *argument);

/* Append "a|b|c" with another separator. */
void td_completion_list(td_text *out, const char *list, char separator);
/* The names of all kinds, with spaces between. */
void td_completion_kinds(td_text *out);

#endif
