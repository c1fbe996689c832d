/* hostile.c - inputs that have no end, do not fit, or are of another kind than was meant: each is refused
 * soon, by name, with the exit code of an error. */
#include "tools/small_run.h"

TestSuite(hostile, .init = small_setup, .fini = small_teardown);

static void refused(const char *format, int code, const char *text)
{
    char  command[3000];
    child c;
    snprintf(command, sizeof command, format, TANDEM_BINARY, small_directory);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_expect_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, command, c.out,
                 c.err);
    cr_expect(strstr(c.err, text) || strstr(c.out, text), "'%s' is not in:\n%s%s", text, c.out,
              c.err);
    cr_expect(c.seconds < 60, "%s: %g s", command, c.seconds);
    child_free(&c);
}

Test(hostile, what_has_no_end_is_no_module)
{
    refused("%1$s plugins check /dev/zero", 1, "'/dev/zero' is not a plugin");
    refused("mkfifo %2$s/a.so && %1$s plugins check %2$s/a.so", 1, "is not a regular file");
    refused(
        "mkdir %2$s/m && mkfifo %2$s/m/norm-x.so && %1$s plugins list norm --plugin-path %2$s/m", 0,
        "norm-x.so' is not a plugin");
    refused("ln -s /dev/zero %2$s/norm-y.so && %1$s train -c %2$s/model.cfg --plugin-path %2$s "
            "model.norm.plugin=y",
            2, "norm-y.so' is not a plugin");
}

Test(hostile, a_rate_that_trains_nothing)
{
    small_expect("i", "%2$s schedule.peak=0", 0, "the learning rate is 0, and nothing");
}

Test(hostile, a_stack_that_is_too_small)
{
    refused("ulimit -s 64 && %1$s doctor", 1, "a stack is 64 KiB, and at least 512 are needed");
#if !defined __SANITIZE_ADDRESS__
    small_expect("s", "%2$s -q", 0, "");
    refused("ulimit -s 512 && %1$s evaluate %2$s/s", 0, "nll");
#endif
}

Test(hostile, prompts)
{
    small_expect("r", "%2$s -q", 0, "");
    refused("%1$s generate %2$s/r a --max-new-tokens 4 --top-p 0", 2, "--top-p must be");
    refused("%1$s generate %2$s/r a --max-new-tokens 4 --temperature 1 --top-p 2", 2, "top-p 2");
    refused("%1$s generate %2$s/r a --max-new-tokens 4 --repetition-penalty 0", 2,
            "--repetition-penalty must be");
    refused("%1$s generate %2$s/r a --max-tokens 4", 2, "did you mean '--max-new-tokens'?");
    refused("%1$s generate %2$s/r --ids '5 99999'", 2, "token 2 is 99999");
    refused("%1$s generate %2$s/r --ids 99999999999999999999", 2, "is not a token id");
    refused("%1$s generate %2$s/r a --max-new-tokens 2 --stop ''", 2, "a stop string is empty");
    refused("%1$s generate %2$s/r a --max-new-tokens 4 >/dev/full", 1, "No space left on device");
    refused("%1$s generate %2$s/r a --max-new-tokens 4 >&-", 1, "Bad file descriptor");
    refused("%1$s \"$(printf 'tr\\033[31m')\"", 2, "unknown command 'tr?[31m'");
    refused("%1$s help \"$(printf 'a\\033[31m')\"", 2, "unknown command 'a?[31m'");
    refused("echo '{\"x\": 1}' >%2$s/p.jsonl; %1$s generate %2$s/r --file %2$s/p.jsonl", 1,
            "p.jsonl:1: the object has no text");
    refused(": >%2$s/p.jsonl; %1$s generate %2$s/r --file %2$s/p.jsonl", 2,
            "p.jsonl' has no prompts");
    refused("%1$s generate %2$s/r --file %2$s", 1, "Is a directory");
#if !defined __SANITIZE_ADDRESS__
    refused("%1$s generate %2$s/r --file /dev/zero", 1, "/dev/zero:1: this prompt is longer than");
#endif
}

Test(hostile, sizes_that_do_not_fit)
{
    refused("%1$s train -c %2$s/model.cfg run.name=a train.batch=1000000000 train.micro_batch=0", 1,
            "make train.micro_batch or train.length smaller");
    refused("%1$s train -c %2$s/model.cfg run.name=a train.length=100000000", 2, "out of range");
    refused("ulimit -n 8; %1$s train -c %2$s/model.cfg run.name=a --threads 1", 1,
            "Too many open files");
    refused("%1$s config check -c %2$s/model.cfg train.steps.x=5", 2, "option 'steps' is a group");
    refused("%1$s config check -c %2$s/model.cfg data.sources.7.name=x", 2, "data.sources.7");
}

/* Runs that were taken apart. */
Test(hostile, checkpoints)
{
    small_expect("r", "%2$s -q train.steps=8", 0, "");
    small_expect("r",
                 "mkdir %1$s/r/checkpoints/step-99999999; %2$s -q; test $? = 1 && rmdir "
                 "%1$s/r/checkpoints/step-99999999",
                 0, "");
    small_expect("r", "mkdir %1$s/r/checkpoints/step-99999999; %2$s -q", 1,
                 "to resume from the checkpoint before it");
    small_expect("r",
                 "rmdir %1$s/r/checkpoints/step-99999999; mkdir %1$s/r/checkpoints/step-1e3 "
                 "%1$s/r/checkpoints/step--0000001; %2$s -q",
                 0, "step 12");
    refused("mv %2$s/r/checkpoints/step-00000012 %2$s/r/checkpoints/step-00000013; "
            "%1$s train -c %2$s/model.cfg run.name=r --resume train.steps=16",
            1, "contains step 12: it was renamed");
    refused(
        "cd %2$s/r/checkpoints && mv step-00000013 step-00000012 && : >step-00000012/hashes.txt; "
        "%1$s evaluate %2$s/r",
        1, "is damaged, or hashes.txt beside it is");
    refused("cd %2$s/r/checkpoints && rm step-00000012/hashes.txt; %1$s evaluate %2$s/r", 1,
            "hashes.txt' is missing");
    refused("rm %2$s/r/config.cfg; %1$s evaluate %2$s/r", 2, "is neither a run nor a checkpoint");
    refused(": >%2$s/r/config.cfg; %1$s evaluate %2$s/r", 2, "group 'model' must name a plugin");
}

/* Text that is not what its name says, and text that should not be refused. */
Test(hostile, text)
{
    static const char train[] =
        "cd %%2$s && rm -rf u && %s; %%1$s train -q -c model.cfg run.name=u "
        "--threads 1 train.evaluate_every=-1 data.sources.0.files='%s'";
    static const struct {
        const char *make, *file, *says;
        int         code;
    } cases[] = {
        { "printf '\\377\\376{}\\n' >a.jsonl", "a.jsonl", "a.jsonl:1: cannot read 'text'", 1 },
        { "printf '{\"text\": [1]}\\n' >a.jsonl", "a.jsonl", "is not a string", 1 },
        { "echo x | gzip >a.jsonl", "a.jsonl", "not valid JSON", 1 },
        { "echo x >a.jsonl.gz", "a.jsonl.gz", "cannot be read as gzip", 1 },
        { "rm a.jsonl; mkdir a.jsonl", "a.jsonl", "a directory: name the files in it", 1 },
        { "echo plain >a.md", "a.md", "let the file's name end in .txt if it is plain", 1 },
        { ": >b.jsonl", "b.jsonl", "has no text", 2 },
        { "printf '{\"text\": \"%%0900d\"}\\r\\n\\r\\n' 1 >c.jsonl", "c.jsonl", "step 12", 0 },
        { "for i in 1 2; do printf '{\"text\": \"%%0900d\"}\\n' 1 | gzip; done >d.jsonl.gz",
          "d.jsonl.gz", "step 12", 0 },
        { "printf '{\"text\": \"%%0900d\"}\\n' 1 >'{e,f}[1]~.jsonl'", "{e,f}[1]~.jsonl", "step 12",
          0 },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char command[1000];
        snprintf(command, sizeof command, train, cases[k].make, cases[k].file);
        refused(command, cases[k].code, cases[k].says);
    }
}
