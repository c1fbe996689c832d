/* match.h - patterns for names of parameters and config keys: * matches any text, even none, and ?
 * any one byte. The whole name must match; there are no brackets and no escapes. Every option that
 * takes patterns (optimizer.groups, muon's adamw) uses these. [any]
 *
 * Example:
 *
 *     static bool is_weight(const char *name)
 *     {
 *         return td_match("layers.?.*", name)    // layers.7.norm, but not layers.17.norm
 *                && td_match("*.weight", name);
 *     }
 */
#ifndef TANDEM_MATCH_H
#define TANDEM_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline bool td_match(const char *pattern, const char *text)
{
    /* After a mismatch only the last * has to try a longer text: whatever an earlier one could reach by
     * growing, the last one reaches too. So the time is at most the product of the lengths. */
    const char *star = NULL, *back = NULL;
    while (*text)
        if (*pattern == '*') {
            star = pattern++;
            back = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++back;
        } else
            return false;
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

#ifdef __cplusplus
}
#endif
#endif
