/* differences.h - the settings in which two configs differ, read from the lines of td_config_diff.
 *
 *     model.ffn.d_ff: 128 -> 43
 *     model.attention.qkv_norm: true -> (absent)
 */
#ifndef TD_RUN_DIFFERENCES_H
#define TD_RUN_DIFFERENCES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

/* Part of a line, not ended by a 0. */
typedef struct td_span {
    const char *text;
    size_t      n;
} td_span;

/* A line: the key, and its value in both configs. */
typedef struct td_changed_setting {
    td_span key, before, now;
} td_changed_setting;

/* Read the line at *lines and go to the next one; false at the end. */
bool td_changed_next(const char **lines, td_changed_setting *out);

bool td_span_is(td_span, const char *text);
bool td_span_begins(td_span, const char *with);
bool td_span_ends(td_span, const char *with);

/* Seeds and places, which tell runs of one group apart, not groups. */
bool td_changed_is_incidental(const td_changed_setting *);

/* From the differences of two configs to a third, those between the two: "key: one's -> other's". */
void td_changed_between(const char *one, const char *other, td_text *out);

/* Append 'model.ffn.d_ff (128 and 43); only 'a' has model.attention.qkv_norm = true', where `base`, here
 * "a", names the config before the arrows. Left out are incidental settings and, where a plugin
 * replaces another, the options that the new one brings along, and those that were off. Returns how
 * many settings differ; options that went with a replaced plugin are named, but not counted: `less`
 * says whether there are any. */
size_t td_changed_say(const char *lines, const char *base, td_text *out, bool *less);

/* What td_changed_say found, to be printed before its list; NULL if nothing needs to be said. */
const char *td_changed_summary(size_t n, bool less);

#endif
