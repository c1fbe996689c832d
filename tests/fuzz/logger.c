/* logger.c - fuzz target: any bytes as the metrics.jsonl that a resumed run continues. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "put.h"

#include "base/file.h"
#include "tandem/kind/logger.h"

extern const td_module tandem_module; /* of plugins/logger/jsonl.c */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(const td_services *s, int level, const char *format, ...) {}

static void resume(const td_logger_in *in)
{
    const td_logger *logger = (const void *)tandem_module.plugins[0];
    const char      *config = "metrics.jsonl"; /* the config struct is this one field */
    const td_metric  metric = { "loss", 1.5, false };
    td_error         error = { 0 };
    void            *state;
    if (logger->open(&config, in, &state, &error) ||
        logger->write(state, in->resume, &metric, 1, &error))
        abort();
    logger->close(state);
}

/* Whole lines from the beginning are kept, as they were, and the new line follows them. */
static void expect_prefix(const char *file, const uint8_t *data, size_t size, int64_t step)
{
    char   line[64];
    size_t now, added = (size_t)snprintf(line, sizeof line, "{\"step\": %lld, \"loss\": 1.5}\n",
                                         (long long)step);
    char  *text = td_file_read(file, &now, NULL);
    size_t kept = text && now >= added ? now - added : SIZE_MAX;
    if (kept > size || memcmp(text, data, kept) || (kept && text[kept - 1] != '\n') ||
        memcmp(text + kept, line, added))
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const td_services services = { .size = sizeof services, .threads = 1, .log = no_log };
    td_logger_in      in = { .services = &services };
    char              directory[64], file[96];
    snprintf(directory, sizeof directory, "/tmp/fuzz-logger-%d", (int)getpid());
    snprintf(file, sizeof file, "%s/metrics.jsonl", directory);
    mkdir(directory, 0700);
    put(file, data, size);
    in.directory = directory;
    in.resume = size ? 1 + data[size - 1] % 7 : 1;
    in.written = in.resume - 1;
    in.evaluate_again = size % 2;
    in.score_again = size % 3 == 0;
    resume(&in);
    expect_prefix(file, data, size, in.resume);
    resume(&in); /* and once more, as after a second crash */
    expect_prefix(file, data, size, in.resume);
    unlink(file);
    rmdir(directory);
    return 0;
}
