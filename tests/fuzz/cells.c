/* cells.c - fuzz target: any bytes as a study's cells.json. */
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "study/study.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char     directory[64], path[80];
    td_error e = { 0 };
    snprintf(directory, sizeof directory, "/tmp/fuzz-cells-%d", (int)getpid());
    snprintf(path, sizeof path, "%s/cells.json", directory);
    mkdir(directory, 0777);
    FILE *f = fopen(path, "wb");
    fwrite(data, 1, size, f);
    fclose(f);
    td_study_close(td_study_open(directory, &e));
    unlink(path);
    rmdir(directory);
    return 0;
}
