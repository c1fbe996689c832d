/* options.h - option tables: their rows, the default of one option, a description of one.
 *
 * A plugin's options are a constant table (see tandem/plugin.h). This reads tables; it stores
 * nothing but single defaults. plugin/defaults.h makes a whole config struct with defaults, and
 * config/bind.c fills one from a config.
 */
#ifndef TD_PLUGIN_OPTIONS_H
#define TD_PLUGIN_OPTIONS_H

#include "base/text.h"
#include "tandem/plugin.h"

enum { TD_MOST_OPTIONS = 200 }; /* of one table */

/* Copy row `i` of a table to `out`; false at its end. Modules built against older headers have
 * shorter rows, of `option_size` bytes: the fields they lack are 0. Never index a table
 * directly. */
bool td_option_row(const td_option *table, size_t option_size, size_t i, td_option *out);

/* Store the default of a BOOL, INT, FLOAT, STRING or CHOICE in its field; other types are left as
 * they are. */
void td_option_default(const td_option *, char *field);

/* Options that count steps (TD_OPTION_IN_STEPS): whether a number is a share of the run, and how
 * many of `steps` it is. Defaults outside of a run are shares of the paper's run. */
enum { TD_STEPS_OUTSIDE_RUN = 400000 };
bool    td_option_is_share(const td_option *, double number);
int64_t td_option_share(double share, int64_t steps);

/* Append "int 1 .. 4096, default 8": for help, reference pages and messages. */
void td_option_describe(const td_option *, td_text *out);

#endif
