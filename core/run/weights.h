/* weights.h - loading parameters that were trained with another config: which differences are
 * harmless, and which would change their meaning. */
#ifndef TD_RUN_WEIGHTS_H
#define TD_RUN_WEIGHTS_H

#include "run/session.h"

/* Judge each line of a td_config_diff, "key: before -> now", and return those that `accept`
 * rejects, each on an indented line. All are judged, so that one message names every key. Modifies
 * `differences`; free the result with td_text_free. */
td_text td_refused_differences(td_text *differences,
                               bool (*accept)(void *arg, const char *key, const char *line),
                               void *arg);

/* Whether a key may differ: the session's options allow it, or train.allow does. */
bool td_session_allows(td_session *, const char *key);
/* Warn about allowed keys that do not differ, because a name may be misspelt. Call it after all
 * checks. */
void td_session_warn_of_idle_allows(const td_session *);

/* The file that train.weights stands for; free() it. NULL with an error that names the option. */
char *td_session_start(const td_session *, td_error *error);

/* Check that the session's model and tokenizer are those that the parameters in a file were trained
 * with, as their checkpoint records them. Differences other than the allowed ones are refused. A
 * file of another framework has no record; its names and shapes are checked when it is loaded. */
int td_session_check_weights(td_session *, const char *weights, td_error *error);
/* The same for the tokenizer alone. */
int td_session_check_tokenizer(td_session *, const char *weights, td_error *error);

#endif
