/* module.c - what a module's file must be, before any of its code runs and while it is loaded. */
#include "check/cases.h"
#include "check/internal.h"
#include "plugin/module.h"

static void check_exports(td_check *c, const char *path)
{
    td_text names = { 0 };
    size_t  n = td_module_exports(path, &names);
    if (n)
        td_check_finding(c,
                         "it exports %zu more than '" TD_MODULE_SYMBOL
                         "': %s: make functions static, or "
                         "compile with -fvisibility=hidden",
                         n, td_text_get(&names));
    td_text_free(&names);
}

const td_module *td_check_module(td_check *c, const char *path)
{
    td_error         e = { 0 };
    /* asked first: a constructor runs only once */
    bool             changes = td_module_changes_mode(path, NULL);
    const td_module *m = td_registry_add_module(c->registry, path, &e);
    if (!m)
        td_check_finding(c, "%s", td_check_error(&e));
    if (!m)
        return NULL;
    check_exports(c, path);
    if (changes)
        td_check_finding(
            c, "loading it switches denormal numbers off (linked with -ffast-math or -Ofast?): "
               "compile and link without");
    return m;
}
