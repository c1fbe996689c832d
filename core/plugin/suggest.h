/* suggest.h - what may have been meant by the name of a plugin that does not exist. */
#ifndef TD_PLUGIN_SUGGEST_H
#define TD_PLUGIN_SUGGEST_H

#include "base/text.h"
#include "plugin/registry.h"

/* Append "there is no norm 'rmsnorm'; did you mean 'rms'?", or how to list the plugins of the kind.
 * Returns the name most likely meant; NULL: none is like it. After a scan of the registry. */
const char *td_suggest_plugin(const td_registry *, const char *kind, const char *name,
                              td_text *out);

/* If a module's file is missing and its source lies where it should be, append "; its source '..' is
 * not built: ..". */
void td_suggest_build(const char *module, td_text *out);

/* Warn of a module that is older than the source beside it: a build that failed leaves the module of the
 * last one that did not. */
void td_warn_of_source(td_journal *log, const char *module);

#endif
