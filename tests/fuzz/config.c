/* config.c - fuzz target: any bytes as a config file. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "put.h"

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char        path[64];
    const char *files[] = { path };
    td_errors   errors = { 0 };
    snprintf(path, sizeof path, "/tmp/fuzz-config-%d", (int)getpid());
    put(path, data, size);
    td_config *c = td_config_load(files, 1, NULL, 0, "/tmp", &errors);
    if (c)
        td_config_free(c);
    td_errors_free(&errors);
    unlink(path);
    return 0;
}
