/* module.c - fuzz target: any bytes as a module's file, which the inspector judges without loading it.
 *
 * An accepted file is not loaded: its code may have been changed, too. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "put.h"

#include "plugin/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char     path[64];
    td_text  names = { 0 };
    td_error error = { 0 };
    int      code;
    snprintf(path, sizeof path, "/tmp/fuzz-module-%d.so", (int)getpid());
    put(path, data, size);
    code = td_module_inspect(path, &error);
    if (code && (code != error.code || !*error.text))
        abort();
    if (!td_module_exports(path, &names) && names.size)
        abort();
    if (td_module_mentions(path, "norm/1", "rms") && !td_module_mentions(path, "norm/1", NULL))
        abort();
    td_text_free(&names);
    unlink(path);
    return 0;
}
