/* weights.h - taking parameters that were trained with another config: what may differ, and what
 * would change their meaning. */
#ifndef TD_TOOLS_WEIGHTS_H
#define TD_TOOLS_WEIGHTS_H

#include "work.h"

/* Whether `--allow` or the config's train.allow names the key: "model.position.*". */
bool td_work_allows(const td_work *, const char *key);
/* Differences that were allowed and are none are told: a name may be misspelt. After all checks. */
void td_work_tell_idle_allows(const td_work *);

/* Against the config in a file, by what it says: a line "key: before -> now" for each difference.
 * NULL with errors: that one cannot be read; else the experiment, to be closed. */
td_experiment *td_work_differences(const td_work *, const char *path, td_text *out,
                                   td_errors *errors);

/* Whether this config's model and tokenizer are those that the parameters were trained as, so far as
 * their checkpoint says (a file of another framework says nothing: its shapes are checked). What
 * differs and is not allowed is refused. The data is open. */
int td_work_check_weights(const td_work *, const char *weights, td_error *error);

#endif
