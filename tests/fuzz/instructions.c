/* instructions.c - fuzz target: any bytes as lines of pairs and chats. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "put.h"

#include "../plugins/data/instructions/instructions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(const td_services *s, int level, const char *format, ...) {}

/* Inputs and targets take turns; the predicted part is never empty, and all of it is readable. */
static int see(void *arg, const piece *pieces, size_t count)
{
    unsigned *sum = arg;
    if (count < 2 || count % 2)
        abort();
    for (size_t k = 0; k < count; k++) {
        if (k % 2 && !pieces[k].size)
            abort();
        for (size_t i = 0; i < pieces[k].size; i++)
            *sum += (unsigned char)pieces[k].text[i];
    }
    return 0;
}

/* Every way of cutting a chat, chosen by the first bytes. */
static void read_all(const char *path, uint8_t choice)
{
    const char         *file = path;
    const td_services   services = { .size = sizeof services, .threads = 1, .log = no_log };
    instructions_source source = { .from = { .from = { "a", { &file, 1 }, { 0 }, 0 } } };
    instructions_config config = { .sources = { &source, 1 },
                                   .inputs = "",
                                   .targets = "",
                                   .messages = "",
                                   .role = "role",
                                   .content = "content",
                                   .turns = choice % 3,
                                   .eos = choice / 3 % 3 };
    int64_t             left = 3;
    unsigned            sum = 0;
    td_error            error = { 0 };
    int code = instructions_each(&config, &source.from.from, PART_TRAIN, &services, &left, see,
                                 &sum, &error);
    if ((code && !*error.text) || left < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/fuzz-instructions-%d.jsonl", (int)getpid());
    put(path, data, size);
    for (uint8_t choice = 0; choice < 9; choice += 4)
        read_all(path, choice);
    unlink(path);
    return 0;
}
