/* scratch.h - a scratch directory, and runs of the command in it. */
#ifndef TESTS_CONVERT_SCRATCH_H
#define TESTS_CONVERT_SCRATCH_H

#include <criterion/criterion.h>

#include "tools/child.h"

#define CASES TANDEM_SOURCE "/tests/convert"

/* A small model without norms of queries, keys and values, as Llama is: the scratch directory's `a`. */
#define TRAIN                                                                              \
    "$T train -c quickstart/decllm.cfg -c ablations/no-qkv-norm.cfg run.dir=. run.name=a " \
    "model.d_model=24 model.layers=1 model.attention.heads=2 model.attention.head_dim=8 "  \
    "model.ffn.d_ff=32 train.steps=2 train.length=32 train.batch=2 train.micro_batch=2 "   \
    "evaluate.sequences=1 "

/* With the SentencePiece model of a case of the tests of tokenizers: its name follows. */
#define PIECES                                             \
    "tokenizer.plugin=sentencepiece model.vocab_size=500 " \
    "tokenizer.model=$C/../plugins/tokenizer/cases/"

static char scratch[64];

static void scratch_open(void)
{
    strcpy(scratch, "/tmp/tandem-convert-XXXXXX");
    cr_assert(mkdtemp(scratch));
}

static void scratch_close(void) { td_remove_tree(scratch, NULL); }

/* A shell command in the scratch directory; $T is the command under test, $C the cases. */
static inline child scratch_shell(const char *command)
{
    char text[6000];
    int n = snprintf(text, sizeof text, "cd '%s' && T='%s' && C='%s' && %s", scratch, TANDEM_BINARY,
                     CASES, command);
    cr_assert(n > 0 && n < (int)sizeof text);
    return child_run((const char *[]){ "sh", "-c", text, NULL });
}

/* Expect that it ends with `code`, and says `text` on stderr or stdout. */
static inline void scratch_expect(int code, const char *text, const char *command)
{
    child c = scratch_shell(command);
    cr_expect_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, command, c.out,
                 c.err);
    cr_expect(strstr(c.err, text) || strstr(c.out, text), "'%s' is not in what %s says:\n%s%s",
              text, command, c.out, c.err);
    child_free(&c);
}

#define MUST(command) scratch_expect(0, "", command)

#endif
