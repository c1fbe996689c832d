/* module.c - requirements on a module's file, before any of its code runs and while it is
 * loaded. */
#include "check/cases.h"
#include "check/internal.h"
#include "plugin/inspect.h"

/* Other symbols may collide with those of other modules, and are never needed. */
static void check_exports(td_check *c, const char *path)
{
    td_text names = { 0 };
    size_t  n = td_module_exports(path, &names);
    if (n)
        td_check_finding(c,
                         "it exports %zu symbols besides '" TD_MODULE_SYMBOL
                         "': %s: make functions static, or compile with -fvisibility=hidden",
                         n, td_text_get(&names));
    td_text_free(&names);
}

const td_module *td_check_module(td_check *c, const char *path)
{
    td_error         e = { 0 };
    const td_module *m;
    td_check_listen(c); /* to what its constructors change */
    m = td_registry_add_module(c->registry, path, &e);
    if (!m)
        td_check_finding(c, "%s", td_check_error(&e));
    if (!m)
        return NULL;
    check_exports(c, path);
    return m;
}
