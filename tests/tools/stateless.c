/* stateless.c - plugins whose `open` leaves the state NULL are closed like all others. */
#include "child.h"

static char directory[64];

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-stateless-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(stateless, .init = setup, .fini = teardown);

Test(stateless, close_is_called)
{
    static const char *const wanted[] = { "tokenizer closed without a state",
                                          "data closed without a state",
                                          "logger closed without a state" };
    char                     command[2000];
    child                    c;
    snprintf(command, sizeof command,
             "mkdir %s/plugins && cp '%s/modules/stateless.so' %s/plugins && exec '%s' train -c "
             "'%s/configs/nano/decllm.cfg' --plugin-path %s/plugins run.dir=%s -q --threads 1 "
             "tokenizer.plugin=stateless data.plugin=stateless 'run.loggers=[\"stateless\"]' "
             "model.d_model=16 model.attention.heads=1 model.attention.head_dim=16 "
             "model.ffn.d_ff=7 model.vocab_size=11 train.length=7 train.batch=2 "
             "train.micro_batch=2 train.steps=2",
             directory, TANDEM_FIXTURES, directory, TANDEM_BINARY, TANDEM_SOURCE, directory,
             directory);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, 0, "%s", c.err);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        cr_expect(strstr(c.err, wanted[k]), "'%s' is not in: %s", wanted[k], c.err);
    child_free(&c);
}
