/* here.h - one test of `tandem plugins check` in this process. */
#ifndef TD_TOOLS_PLUGINS_HERE_H
#define TD_TOOLS_PLUGINS_HERE_H

#include "command.h"

/* The test that loads a module; the others are td_check_cases'. */
#define TD_CHECK_LOAD "load"

/* Run one test of one plugin ("attention/mine") of the module at `path`, and print its result to
 * stdout as {"findings": [..], "skipped": ".."}. The test TD_CHECK_LOAD, for which `plugin` may
 * be "", adds "plugins", the plugins in the module, and "config", the config's errors ("" if
 * there are none). Returns the exit code, or does not return: the plugin may crash or hang. */
int td_plugins_check_here(td_tool *, const char *path, const char *plugin, const char *test);

#endif
