/* review.h - what would stop a run before its first step, found without beginning it. */
#ifndef TD_RUN_REVIEW_H
#define TD_RUN_REVIEW_H

#include "run/session.h"

/* As far as the config has their groups, the tokenizer and its ids, the files of the data, the
 * graph and its plan, the parameters of train.weights are checked. Every error is added; nothing is written, and no
 * text is read. `notes` gets a line for each thing that depends on this machine: a run that is there
 * already, too little memory. 0, or TD_ECONFIG if errors were added. */
int td_session_review(td_session *, td_errors *errors, td_text *notes);

#endif
