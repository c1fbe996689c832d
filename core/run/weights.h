/* weights.h - taking parameters that were trained with another config: what may differ, and what
 * would change their meaning. */
#ifndef TD_RUN_WEIGHTS_H
#define TD_RUN_WEIGHTS_H

#include "run/session.h"

/* The key of a line of td_config_diff, "key: before -> now". */
void td_difference_key(const char *line, char key[300]);

/* Whether a key may differ: the session's options allow it, or train.allow does. */
bool td_session_allows(td_session *, const char *key);
/* Warn of allowed keys in which nothing differs: a name may be misspelt. After all checks. */
void td_session_warn_of_idle_allows(const td_session *);

/* Check that the session's model and tokenizer are those that the parameters in a file were trained
 * with, as their checkpoint records them. A difference that is not allowed is refused. A file of
 * another framework has no record: names and shapes are checked when it is loaded. */
int td_session_check_weights(td_session *, const char *weights, td_error *error);

#endif
