/* replies.h - answers, as the process that generated them sends them to the others. */
#ifndef TD_RUN_REPLIES_H
#define TD_RUN_REPLIES_H

#include "base/text.h"
#include "generate/generate.h"

/* Append an answer as bytes, for a process of the same build. */
void td_replies_put(const td_reply *, td_text *out);
/* Pass on the answers in `all`, in their order. TD_EFORMAT if the last one is incomplete. */
int  td_replies_visit(const td_text *all, void (*done)(void *arg, const td_reply *), void *arg,
                      td_error *error);

#endif
