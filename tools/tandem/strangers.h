/* strangers.h - a first look at modules that the user did not name.
 *
 * Listings load every module, and so run the constructors of modules that are not involved. Modules
 * that do not come with tandem are loaded in a child process first: one that crashes, exits or
 * hangs there is refused, and the listing continues.
 */
#ifndef TD_TOOLS_STRANGERS_H
#define TD_TOOLS_STRANGERS_H

#include <stddef.h>

/* The first argument that makes this program such a child; the others are files. */
#define TD_STRANGERS "--load-modules"

/* The child: load the files in order, and report each. Returns the exit code. */
int  td_strangers_load(int argc, char **argv);
/* A td_registry_screen. `argument`: unused. */
void td_strangers_screen(void *argument, const char *const *paths, size_t count, char **why);

#endif
