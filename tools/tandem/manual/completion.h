/* completion.h - what the scripts of `tandem completion` are made from. */
#ifndef TD_TOOLS_COMPLETION_H
#define TD_TOOLS_COMPLETION_H

#include "command.h"
#include "manual/keys.h"

typedef struct td_completion {
    const td_registry *registry;
    td_arena          *arena;
    td_keys            keys;
    const char        *configs; /* the shipped ones, "nano/redllm.cfg base/small.cfg .." */
} td_completion;

/* Each appends a script. */
void td_completion_bash(const td_completion *, td_text *out);
void td_completion_zsh(const td_completion *, td_text *out);
void td_completion_fish(const td_completion *, td_text *out);

/* Text for a script's single quotes: ' becomes '\''. */
void td_completion_quote(td_text *out, const char *text);

/* Calls `see` for each command, and each word that is a command of its own (with its word). */
void td_completion_each(void (*see)(const td_usage *, const td_command *, const td_word *, void *),
                        void *argument);
/* Calls `see` for each option that a command takes, the common ones last. */
void td_completion_flags(const td_usage *, void (*see)(const td_usage *, const td_flag *, void *),
                         void *argument);

#endif
