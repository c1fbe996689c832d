/* options.h - option tables at work: rows, default values, descriptions. Binding a config to parts
 * is config/bind.c. */
#ifndef TD_PLUGIN_OPTIONS_H
#define TD_PLUGIN_OPTIONS_H

#include "base/text.h"
#include "tandem/plugin.h"

enum { TD_MOST_OPTIONS = 200 }; /* of one table */

/* Row `i` of a table compiled with rows of `option_size` bytes (older ones are shorter): copied to
 * `out`, missing fields 0. False at the end of the table. */
bool td_option_row(const td_option *table, size_t option_size, size_t i, td_option *out);

/* Store the default of a single value in its field; of parts and lists nothing. */
void td_option_default(const td_option *, char *field);

/* "int 1 .. 4096, default 8": for help, reference pages and messages. */
void td_option_describe(const td_option *, td_text *out);

#endif
