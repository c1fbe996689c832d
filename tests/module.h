/* module.h - a plugin of a built module by file name, for tests that call its hooks directly. */
#ifndef TEST_MODULE_H
#define TEST_MODULE_H

#include <criterion/criterion.h>
#include <dlfcn.h>

#include "tandem/host.h"

static inline const void *module_plugin(const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", TANDEM_PLUGINS, file);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert(handle, "%s", dlerror());
    const td_module *module = dlsym(handle, TD_MODULE_SYMBOL);
    cr_assert(module && module->magic == TD_MAGIC);
    return module->plugins[0];
}

static inline void module_parallel(const td_services *s, int64_t           n,
                                   void (*fn)(void *, int64_t, int), void *arg)
{
    for (int64_t i = n; i-- > 0;) /* backwards, because nothing may depend on the order */
        fn(arg, i, 0);
}

static inline void module_log(const td_services *s, int level, const char *format, ...) {}

static const td_services module_services = {
    .size = sizeof(td_services), .threads = 1, .parallel = module_parallel, .log = module_log
};

#endif
