/* design.c - fuzz target: any bytes as the config of a study. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "study/design.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char      path[64];
    td_errors errors = { 0 };
    snprintf(path, sizeof path, "/tmp/fuzz-design-%d", (int)getpid());
    FILE *f = fopen(path, "wb");
    fwrite(data, 1, size, f);
    fclose(f);
    td_design_close(td_design_read(path, NULL, 0, "/tmp", &errors));
    td_errors_free(&errors);
    unlink(path);
    return 0;
}
