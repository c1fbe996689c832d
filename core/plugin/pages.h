/* pages.h - makes the pages of a loaded module the process's own.
 *
 * dlopen maps a module's file: its pages are those of the file until they are written to. If the
 * file is overwritten in place (by `cp new.so plugins/mine.so`; `mv` or a linker makes a new file
 * instead), the code of every process that has loaded it changes, or the process dies of SIGBUS, if
 * the file has become shorter. After this call neither can happen: a run computes with the module
 * that it began with. Addresses, the module's path and its symbols do not change.
 */
#ifndef TD_PLUGIN_PAGES_H
#define TD_PLUGIN_PAGES_H

#include <stdbool.h>
#include <stdint.h>

/* Copy the pages of the module's file, `path`, that are mapped in [low, high). Where the system does not allow it, they
 * stay as they are. Other threads may run code of the module meanwhile, but where they might write to
 * its data, `writable` must be false: those pages are then left out. */
void td_pages_own(const char *path, uintptr_t low, uintptr_t high, bool writable);

#endif
