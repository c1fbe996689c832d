/* data.c - `tandem data`: make the project's own corpus. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "corpus.h"

static bool number(const char *text, int64_t low, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *text && !*end && !errno && *out >= low && *out <= (int64_t)1 << 40;
}

int td_command_data(td_tool *tool, int argc, char **argv)
{
    const char *out = NULL, *seed_text = "1", *bytes_text = "4000000";
    const td_flag flags[] = {
        { "--out", "DIR", "where the corpus goes", &out, NULL },
        { "--seed", "N", "another seed, another corpus (1)", &seed_text, NULL },
        { "--bytes", "N", "training text in all, at least 10000 (4000000)", &bytes_text, NULL },
        { NULL, NULL, NULL, NULL, NULL },
    };
    const td_usage usage = { .name = "data", .arguments = "make-corpus --out DIR", .flags = flags,
                             .brief = "make a small corpus of six domains with held-out files, from a seed",
                             .example = "tandem data make-corpus --out corpus --seed 1 --bytes 4000000" };
    int      code;
    int64_t  seed, bytes;
    td_error error = { 0 };

    if (!td_tool_parse(tool, &usage, argc, argv, &code))
        return code;
    if (tool->n_plain != 1 || strcmp(tool->plain[0], "make-corpus") || !out)
        return td_tool_usage_error(tool, "data: expected make-corpus --out DIR");
    if (!number(seed_text, 0, &seed) || !number(bytes_text, 10000, &bytes))
        return td_tool_usage_error(tool, "data: --seed takes a number from 0, --bytes one from 10000");
    if (td_corpus_write(out, (uint64_t)seed, bytes, &error))
        return td_tool_fail(tool, &error);
    printf("%s\n", out);
    return TD_EXIT_OK;
}
