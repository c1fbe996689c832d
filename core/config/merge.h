/* merge.h - laying one config over another.
 *
 * Groups are merged key by key and the later value wins; lists and scalars are replaced whole. The
 * difficulty is a group that changes its plugin: an option of the old plugin stays only if the new
 * one declares it in the same way, which is known when the group is bound.
 *
 *     base.cfg    position = { base = 50.0; };         # of rope, the default plugin
 *     late.cfg    position = { plugin = "alibi"; };    # base must go: alibi has none
 *     same.cfg    position = { plugin = "xpos"; };     # base may stay: it means the same
 *
 * So merging marks what was there before the group got its plugin, with the plugin that it was
 * written for, `written_for`, and binding drops what does not fit. Such groups can be nested, so
 * each has its own bit, `mark`, by its depth, and a value's `stale_marks` are the bits of the groups
 * around it that got their plugins after it.
 */
#ifndef TD_CONFIG_MERGE_H
#define TD_CONFIG_MERGE_H

#include "config/setting.h"

/* Overrides reach into lists: data.sources.0.rate is a group of one child that is named "0", merged
 * over a list. Whether a setting is such a group, and the item that an index names (NULL: none). */
bool        td_setting_is_item(const td_setting *);
td_setting *td_setting_item(const td_setting *list, const char *index);

/* Lay group `from` over group `into`. Uses up `from`: its nodes move. `told`: a change of plugin
 * was made by the user, not by a file that is extended, and is reported when it is bound. */
void td_setting_merge(td_setting *into, td_setting *from, bool told);

/* For a marked group whose plugin is now known: ask `stays` about each option that was written for
 * an earlier plugin, and drop those that it rejects. Of an option that has been set again since,
 * only the earlier setting is dropped. */
typedef bool td_stays(void *arg, const td_setting *option);
void         td_setting_settle(td_setting *group, td_stays *stays, void *arg);

#endif
