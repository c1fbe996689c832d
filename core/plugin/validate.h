/* validate.h - whether the plugins of a loaded module fulfil the contract of their kinds.
 *
 * A module's plugins are tables that somebody else compiled, perhaps with older headers, perhaps
 * without the macros. All of it is checked once, when the module is loaded, and trusted from
 * then on.
 */
#ifndef TD_PLUGIN_VALIDATE_H
#define TD_PLUGIN_VALIDATE_H

#include "tandem/plugin.h"

/* Check a NULL-terminated list: names, kinds, struct sizes, option tables, required hooks. `path`
 * is for messages. 0, or TD_EPLUGIN with the first error. */
int td_plugins_validate(const char *path, const td_plugin *const *list, td_error *error);

#endif
