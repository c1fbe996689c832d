/* inspect.h - a look at a module's file from outside, before any of its code runs.
 *
 * dlopen runs constructors before it returns, so a module for another tandem or another machine, or
 * one cut off by a full disk, has to be refused earlier. These functions read the ELF file as data:
 * they never crash on damaged ones, and never wait for a pipe.
 */
#ifndef TD_PLUGIN_INSPECT_H
#define TD_PLUGIN_INSPECT_H

#include "base/text.h"
#include "tandem/plugin.h"

/* Check that the file is a whole shared object of this machine whose `tandem_module` this host
 * accepts (magic, ABI version, size). 0, or TD_EPLUGIN with a message. */
int td_module_inspect(const char *path, td_error *error);

/* Count the symbols that it exports besides `tandem_module`, except weak ones, and append the
 * names of the first few: they would clash with those of other modules. */
size_t td_module_exports(const char *path, td_text *names);

/* Whether the file contains both strings, each with its 0: if not, it cannot offer that plugin, and
 * need not be loaded to find out. `name` NULL: any plugin of the kind. */
bool td_module_mentions(const char *path, const char *kind, const char *name);

#endif
