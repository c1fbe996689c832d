/* wandb.c - fuzz target: any bytes as the file of an offline run that a resumed run continues, as
 * the file itself, and as the message of a record, whose checksum no mutation would find. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "logger/wandb/records.h"
#include "tandem/kind/logger.h"

extern const td_module tandem_module; /* of plugins/logger/wandb/wandb.c */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64], folders[2][128], path[200];

static void no_log(const td_services *s, int level, const char *format, ...) {}

static void make_folders(void)
{
    snprintf(directory, sizeof directory, "/tmp/fuzz-wandb-%d", (int)getpid());
    snprintf(folders[0], sizeof folders[0], "%s/wandb", directory);
    snprintf(folders[1], sizeof folders[1], "%s/wandb/offline-run-20260101_000000-aaaaaaaa",
             directory);
    snprintf(path, sizeof path, "%s/run-aaaaaaaa.wandb", folders[1]);
    mkdir(directory, 0700);
    mkdir(folders[0], 0700);
    mkdir(folders[1], 0700);
}

static void put_file(const uint8_t *data, size_t size, bool raw)
{
    FILE *f = fopen(path, "w+b");
    bool  ok = f && (raw ? fwrite(data, 1, size, f) == size
                         : records_begin(f) && records_append(f, data, size / 2) &&
                              records_append(f, data + size / 2, size - size / 2));
    if (!ok || fclose(f))
        abort();
}

/* Every record from the first to the end of the file can be read, and the last four are new. */
static void expect_whole(void)
{
    FILE   *f = fopen(path, "rb");
    message record = { 0 };
    int     n = 0;
    if (!f || !records_open(f))
        abort();
    while (records_next(f, &record))
        n++;
    if (n < 4 || fgetc(f) != EOF)
        abort();
    free(record.data);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const td_services services = { .size = sizeof services, .threads = 1, .log = no_log };
    const td_logger  *logger = (const void *)tandem_module.plugins[0];
    const char       *config[] = { "wandb", "", "", "" };
    const td_metric   metric = { "loss", 1.5, false };
    td_logger_in      in = { .services = &services, .directory = directory, .resume = 3 };
    td_error          error = { 0 };
    void             *state;
    make_folders();
    put_file(data, size, size % 2);
    in.evaluate_again = size % 3 == 0;
    in.score_again = size % 5 == 0;
    if (!logger->open(config, &in, &state, &error)) {
        if (logger->write(state, 3, &metric, 1, &error))
            abort();
        logger->close(state);
        expect_whole();
    } else if (error.code != TD_EFORMAT || !(size % 2))
        abort();
    unlink(path);
    rmdir(folders[1]);
    rmdir(folders[0]);
    rmdir(directory);
    return 0;
}
