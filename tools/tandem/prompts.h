/* prompts.h - the prompts of `tandem generate`: from arguments, as token ids, from files. */
#ifndef TD_TOOLS_PROMPTS_H
#define TD_TOOLS_PROMPTS_H

#include "command.h"
#include "tandem/embed.h"

typedef struct td_prompts {
    td_given *at; /* [count] texts and ids are owned */
    int64_t   count, room;
} td_prompts;

void td_prompts_free(td_prompts *);

int td_prompts_add_text(td_prompts *, const char *text, size_t size, td_error *error);
/* "51 3": the tokens themselves. */
int td_prompts_add_ids(td_prompts *, const char *list, td_error *error);
/* One prompt per line. A file that ends in .jsonl holds objects with "prompt" or "inputs"; so does
 * standard input ("-") if its first line begins with a brace. */
int td_prompts_add_file(td_prompts *, const char *path, td_error *error);

#endif
