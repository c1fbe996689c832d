/* pages.h - makes the pages of a loaded module the process's own.
 *
 * dlopen maps a module's file: its pages are those of the file until they are written to. Whoever
 * overwrites the file in place (`cp new.so plugins/mine.so`, where `mv` or a linker would make another
 * file) changes the code of every process that has loaded it, or ends it with SIGBUS where the file
 * has become shorter. Afterwards neither can happen: a run computes with the module that it began
 * with. Addresses, the module's path and its symbols stay.
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
