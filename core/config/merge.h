/* merge.h - laying one config over another.
 *
 * Groups are merged key by key and the later value wins; lists and scalars are replaced whole. The
 * difficulty is a group that changes its plugin: the options of the old plugin mean nothing to the
 * new one, so they must go.
 *
 * If both sides name a plugin, and not the same one, the earlier group is dropped right away. But a
 * base config often relies on a default:
 *
 *     base.cfg    position = { base = 50.0; };         # of rope, the default plugin
 *     late.cfg    position = { plugin = "alibi"; };    # base must go
 *     same.cfg    position = { plugin = "rope"; };     # base must stay
 *
 * Which plugin is the default is known only when the group is bound. So merging marks what was
 * there before the group got its plugin, and binding drops it if the plugin is not the default.
 * Such groups can be nested, so each has its own bit, `mark`, by its depth, and a value's
 * `stale_marks` are the bits of the groups around it that got their plugins after it.
 */
#ifndef TD_CONFIG_MERGE_H
#define TD_CONFIG_MERGE_H

#include "config/setting.h"

/* Lay group `from` over group `into`. Uses up `from`: its nodes move. */
void td_setting_merge(td_setting *into, td_setting *from);

/* The group's plugin is not the default: drop what was stated before it was named. */
void td_setting_forget_default(td_setting *group);

#endif
