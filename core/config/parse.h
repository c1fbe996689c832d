/* parse.h - the text of a config, or of one override, to settings. */
#ifndef TD_CONFIG_PARSE_H
#define TD_CONFIG_PARSE_H

#include "config/errors.h"
#include "config/setting.h"

/* One file, its `extends` not followed. NULL after adding errors. `file` is the name that messages
 * give; it is not copied. */
td_setting *td_setting_parse(td_arena *, const char *text, const char *file, td_errors *errors);

/* "path.to.key=value" as nested groups around one value; NULL after adding an error. A value that
 * is wrong is added to `errors` and marked, so that the rest of the config can still be checked. */
td_setting *td_setting_parse_override(td_arena *, const char *override, td_errors *errors);

#endif
