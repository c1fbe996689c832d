/* data.c - `tandem data`: shards have the same bytes however they were made, and damaged text
 * and full disks are reported. */
#include <signal.h>

#include "data.h"

TestSuite(data, .init = setup, .fini = teardown);

/* The cache also remembers hashes of text files, by their times, which differ from run to run. */
#define SHARDS "ls -I '*.files*'"
#define SAME(a, b)                                                                                \
    "test $(" SHARDS " %1$s/" a "/cache | wc -l) = 12 && diff -r -x '*.files*' %1$s/" a "/cache " \
    "%1$s/" b "/cache"

Test(data, help_shows_all_commands)
{
    expect("%2$s --help", 0, "make-corpus");
    expect("%2$s", 2, "train-tokenizer");
    expect("%2$s -h", 0, "  prepare ");
    expect("%2$s --help", 0, "  show ");
    expect("%2$s prepare --help", 0, "usage: tandem data prepare -c FILE.cfg");
    expect("%2$s train-tokenizer --help", 0, "--vocab-size N");
    expect("%2$s prepair", 2, "'prepair' is not one of");
}

Test(data, options_name_their_range)
{
    expect("%2$s make-corpus --out %1$s/c --bytes 9999", 2,
           "--bytes must be a whole number from 10000 to ");
    expect("%2$s make-corpus --out %1$s/c --seed x", 2,
           "--seed must be a whole number from 0 to 1099511627776, not 'x'");
    expect("%2$s show %3$s --index -1", 2,
           "--index must be a whole number from 0 to 1099511627776, not '-1'");
    expect("%2$s show %3$s --count 0", 2,
           "--count must be a whole number from 1 to 1099511627776, not '0'");
    expect("%2$s train-tokenizer %3$s --out a.model --vocab-size 2147483647", 2,
           "--vocab-size must be a whole number from 2 to 16777216, not '2147483647'");
}

/* ---- the corpus ------------------------------------------------------------------------------ */

#define CORPUS "%2$s make-corpus --bytes 10000 --out "

Test(data, a_corpus_needs_a_directory)
{
    expect("cd %1$s && " CORPUS "''", 2, "--out DIR is missing");
    expect("cd %1$s && " CORPUS "data.cfg/c", 1, "Not a directory");
    expect("test \"$(ls -A %1$s)\" = data.cfg", 0, "");
}

Test(data, a_corpus_replaces_files_when_told_to)
{
    expect(CORPUS "%1$s/c && cp -r %1$s/c %1$s/d && test $(ls %1$s/c | wc -l) = 12", 0, "/c\n");
    expect("rm %1$s/c/facts.train.jsonl && echo mine >%1$s/c/code.valid.jsonl", 0, "");
    expect(CORPUS "%1$s/c", 2, "/c/");
    expect("grep mine %1$s/c/code.valid.jsonl && test ! -e %1$s/c/facts.train.jsonl", 0, "mine");
    expect(CORPUS "%1$s/c --force && diff -r %1$s/c %1$s/d", 0, "");
}

/* Process 1 exists; the shell that made the first file has ended. */
Test(data, leftovers_of_a_killed_corpus_are_removed)
{
    expect("mkdir %1$s/c && cd %1$s/c && sh -c 'touch facts.train.jsonl.$$.tmp'"
           " && touch code.train.jsonl.1.tmp own.7777777.tmp",
           0, "");
    expect(CORPUS "%1$s/c", 0, "");
    expect("cd %1$s/c && test \"$(echo *.tmp)\" = 'code.train.jsonl.1.tmp own.7777777.tmp'", 0, "");
}

Test(data, threads_do_not_change_a_byte)
{
    expect(PREPARE("one") " --threads 1", 0, "");
    expect(PREPARE("two") " --threads 2", 0, "");
    expect(PREPARE("three") " --threads 3", 0, "");
    expect(SAME("one", "two"), 0, "");
    expect(SAME("one", "three"), 0, "");
}

Test(data, prepared_shards_are_kept)
{
    expect(PREPARE("a"), 0, "prepared 'code'");
    expect("ls -li --full-time -I '*.files' %1$s/a/cache >%1$s/before; " PREPARE(
               "a") " 2>&1 | grep preparing; "
                    "ls -li --full-time -I '*.files' %1$s/a/cache | diff %1$s/before -",
           0, "");
}

/* Two runs that start together make each shard once. */
Test(data, two_at_once)
{
    expect(PREPARE("alone"), 0, "");
    for (int k = 0; k < 5; k++)
        expect("rm -rf %1$s/both %1$s/said; " PREPARE(
                   "both") " --threads 2 2>>%1$s/said & "
                           "first=$!; " PREPARE(
                               "both") " --threads 1 2>>%1$s/said "
                                       "&& "
                                       "wait $first && " SAME("alone", "both") " && test "
                                                                               "$(grep -c "
                                                                               "prepared "
                                                                               "%1$s/said) = 4",
               0, "");
}

/* Text that is too short to train on can still be prepared; the output says where the shards
 * are. */
Test(data, preparing_needs_no_whole_record)
{
    expect(PREPARE("a") " train.length=16777216 --json -q | grep '^{\"cache\": \"%1$s/a/cache\"}$'",
           0, "cache");
    expect(PREPARE("b") " train.length=16777216 -q", 0, "/b/cache\n");
    expect(SAME("a", "b"), 0, "");
}

/* Prepare, but kill the process after `microseconds` unless it has finished. */
static int killed_after(useconds_t microseconds)
{
    char                       run[96];
    const char                *argv[] = { TANDEM_BINARY, "data",      "prepare", "-c", config,
                                          run,           "--threads", "2",       "-q", NULL };
    int                        status;
    pid_t                      pid;
    posix_spawn_file_actions_t actions;
    snprintf(run, sizeof run, "run.dir=%s/killed", directory);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    cr_assert(!posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ));
    posix_spawn_file_actions_destroy(&actions);
    usleep(microseconds);
    kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -1 : WEXITSTATUS(status);
}

/* A run killed at any moment leaves an index only for a complete shard; the next runs continue
 * from it. */
Test(data, killed_and_run_again)
{
    int killed = 0;
    expect(PREPARE("whole"), 0, "");
    for (useconds_t wait = 1000; wait < 400000; wait += wait / 7 + 500) {
        int code = killed_after(wait);
        cr_assert(code == 0 || code == -1, "exit code %d", code);
        killed += code < 0;
        expect("for f in %1$s/killed/cache/*.idx; do test ! -e $f || cmp $f "
               "%1$s/whole/cache/${f##*/} || exit 1;"
               " b=${f%%.idx}; test ! -e $f || cmp $b.bin %1$s/whole/cache/${b##*/}.bin || exit 1; "
               "done",
               0, "");
        if (code == 0)
            break;
    }
    cr_assert_geq(killed, 1);
    expect(PREPARE("killed") " --threads 1", 0, "");
    expect(SAME("whole", "killed"), 0, "");
}

/* A killed run's temporary file, even if it is longer than the shard, must not end up in the
 * shard. */
Test(data, leftovers_are_overwritten)
{
    expect(PREPARE("whole"), 0, "");
    expect("mkdir -p %1$s/left/cache && for f in %1$s/whole/cache/*; do"
           " { cat $f; echo more; } >%1$s/left/cache/${f##*/}.tmp; done",
           0, "");
    expect(PREPARE("left"), 0, "");
    expect(SAME("whole", "left"), 0, "");
}

/* ---- full disks ------------------------------------------------------------------------------ */

/* Files may have 64 kB; ignored, SIGXFSZ leaves the failed write. */
Test(data, full_during_prepare)
{
    expect("trap '' XFSZ; ulimit -f 128; exec " PREPARE("full"), 1, "cannot write token shard");
    expect("test -z \"$(ls -A -I '*.files' %1$s/full/cache)\"", 0, "");
    expect(PREPARE("full"), 0, "");
    expect(PREPARE("whole"), 0, "");
    expect(SAME("whole", "full"), 0, "");
}

/* A separate disk, in a mount namespace that ends with the shell; where that is not allowed,
 * nothing is tested. */
Test(data, full_file_system)
{
    child c = shell(
        "mkdir %1$s/small && unshare -m sh -c 'mount -t tmpfs -o size=64k none %1$s/small'");
    int code = c.code;
    child_free(&c);
    if (code)
        cr_skip_test("no file system can be mounted here");
    expect("exec unshare -m sh -c 'mount -t tmpfs -o size=256k none %1$s/small || exit 9; " PREPARE(
               "small") "; test $? = 1 || exit 8; test -z \"$(ls -A -I \"*.files\" "
                        "%1$s/small/cache)\" || exit 7'",
           0, "No space left");
}

/* The tokenizer 'bytes' has 259 ids. */
Test(data, a_vocabulary_that_is_too_small)
{
    expect("%2$s show -c quickstart/redllm.cfg run.dir=%1$s/a model.vocab_size=258", 2,
           "tokenizer 'bytes' has 259 ids, more than model.vocab_size = 258");
    expect("%2$s show -c quickstart/redllm.cfg run.dir=%1$s/a model.vocab_size=259", 0, "record 0");
}

/* Marks have no text, but are shown; the tokenizer must have one for each span. */
Test(data, marks_are_shown)
{
    expect("%2$s show -c nano/redllm.cfg -c ablations/span-corruption.cfg -c data/embedded.cfg "
           "run.dir=%1$s/a"
           " | grep -c '  given (208): .*<0>.*<10>\\|  predicted (46): <0>.*<10>'",
           0, "2\n");
    expect("%2$s show -c nano/redllm.cfg -c ablations/ul2.cfg -c data/embedded.cfg run.dir=%1$s/b "
           "--count 20"
           " | grep -o ' \\[[RSX]\\]' | sort | uniq -c | wc -l",
           0, "3\n");
    expect("%2$s show -c nano/redllm.cfg -c ablations/span-corruption.cfg -c data/embedded.cfg "
           "run.dir=%1$s/a"
           " tokenizer.sentinels=10",
           2, "need 11 sentinels; the tokenizer has 10: set tokenizer.sentinels = 11");
}

/* Texts of one letter, packed: each is followed by the end of a text. */
Test(data, ends_of_texts_are_shown)
{
    write_scratch("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"a\"}\n{\"text\": \"a\"}\n");
    write_scratch("data.cfg",
                  "tokenizer = { plugin = \"bytes\"; };\ntrain = { length = 5; };\n"
                  "model = { plugin = \"decoder-only\"; vocab_size = 259; layers = 1; "
                  "d_model = 8; ffn = { d_ff = 8; }; };\nloss = { plugin = \"causal-lm\"; };\n"
                  "data = { plugin = \"text\"; sources = ( { name = \"own\"; files = \"a.jsonl\"; "
                  "} ); };\n");
    expect("cd %1$s && %2$s show -c data.cfg run.dir=a", 0, "a</s>a</s>");
}

/* ---- bad text -------------------------------------------------------------------------------- */

static void use_text(const char *file, int bad)
{
    char text[600];
    snprintf(text, sizeof text,
             "tokenizer = { plugin = \"bytes\"; };\ntrain = { length = 2; };\n"
             "data = { plugin = \"text\"; max_bad_lines = %d; sources = ( { name = \"own\"; files "
             "= ( \"%s/%s\" ); } ); };\n",
             bad, directory, file);
    write_scratch("data.cfg", text);
}

Test(data, bad_lines_are_named_and_counted)
{
    write_scratch("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\n\n{\"txet\": \"three\"}\n[1, "
                             "2]\n{\"text\": \"\xFF\"}\n{\"text\": \"six\"}\n");
    use_text("a.jsonl", 0);
    expect(PREPARE("a"), 1, "a.jsonl:2: cannot read 'text' from this line: not valid JSON");
    use_text("a.jsonl", 1);
    expect(PREPARE("a"), 1, "a.jsonl:4: cannot read 'text' from this line: no key 'text' (keys: ");
    use_text("a.jsonl", 3);
    expect(PREPARE("a"), 1, "a.jsonl:6: ");
    expect("test -z \"$(ls -A -I '*.files' %1$s/a/cache)\"", 0, "");
    use_text("a.jsonl", 4);
    expect(PREPARE("a"), 0, "a.jsonl:5: skipped: ");
    write_scratch("b.txt", "one \xFF two\n");
    use_text("?.*", 5);
    expect(PREPARE("b"), 0, "b.txt:1: skipped the whole file: ");
    /* "one", "six" and their ends, two bytes per token */
    expect("test $(cat %1$s/a/cache/own.train.*.bin | wc -c) = 16", 0, "");
}

/* A shard made by a config that allowed bad lines is refused by one that allows fewer. */
Test(data, bad_lines_of_prepared_shards_count)
{
    write_scratch("a.jsonl", "{\"text\": \"one\"}\nno JSON\n[2]\n{\"text\": \"four\"}\n");
    use_text("a.jsonl", 7);
    expect(PREPARE("a"), 0, "a.jsonl:3: skipped: ");
    expect("ls -li --full-time -I '*.files' %1$s/a/cache >%1$s/before", 0, "");
    use_text("a.jsonl", 1);
    expect(PREPARE("a"), 1,
           "data source 'own': 2 bad lines were skipped when its token shard was prepared, but "
           "data.max_bad_lines = 1: ");
    use_text("a.jsonl", 0);
    expect("%2$s show %3$s run.dir=%1$s/a loss.plugin=causal-lm model.plugin=decoder-only"
           " model.vocab_size=259 model.layers=1 model.d_model=8 model.ffn.d_ff=8",
           1, "data.max_bad_lines = 0: ");
    use_text("a.jsonl", 2);
    expect(PREPARE("a") " && ls -li --full-time -I '*.files' %1$s/a/cache | diff %1$s/before -", 0,
           "");
    use_text("a.jsonl", 1);
    expect("rm %1$s/a/cache/*.idx && " PREPARE("a"), 1, "a.jsonl:3: cannot read 'text'");
}

Test(data, truncated_compression_is_reported)
{
    static const char *const ends[] = { "gz", "zst" }, *const commands[] = { "gzip -c",
                                                                             "zstd -qc" };
    for (int k = 0; k < 2; k++) {
        char name[32], command[400];
        snprintf(name, sizeof name, "cut.jsonl.%s", ends[k]);
        use_text(name, 1000);
        for (int part = 1; part <= 9; part += 4) {
            snprintf(command, sizeof command,
                     "%s " TANDEM_SOURCE "/data/corpus/code.train.jsonl >%%1$s/x && head -c"
                     " $(($(wc -c <%%1$s/x) * %d / 10)) %%1$s/x >%%1$s/%s",
                     commands[k], part, name);
            expect(command, 0, "");
            expect(PREPARE("a"), 1, name);
            expect("test -z \"$(ls -A -I '*.files' %1$s/a/cache)\"", 0, "");
        }
        snprintf(command, sizeof command, "cp %%1$s/x %%1$s/%s", name);
        expect(command, 0, "");
        expect(PREPARE("a"), 0, "prepared 'own'");
        expect("rm -r %1$s/a", 0, "");
    }
}

Test(data, empty_text_is_reported)
{
    static char blank[(1 << 16) + 7];
    write_scratch("a.txt", "");
    use_text("a.txt", 0);
    expect(PREPARE("a"), 2, "data source 'own' has no text: there is none in '");
    expect(PREPARE("a"), 2, "/a.txt'; leave the source out, or correct its 'files'");
    expect("test ! -e %1$s/a/cache/own.train.bin", 0, "");
    /* a short file is read for it .. */
    write_scratch("a.jsonl", "\n{\"text\": \"\"}\n \n");
    use_text("a.jsonl", 0);
    expect(PREPARE("a"), 2, "data source 'own' has no text: there is none in '");
    /* .. and a long one only when it is prepared */
    memset(blank, '\n', sizeof blank - 1);
    write_scratch("a.jsonl", blank);
    expect(PREPARE("b"), 2, "prepared 'own': 0 tokens: its files contain no text");
    expect(PREPARE("b"), 2, "'own' has 0 tokens: its files contain no text");
    expect(PREPARE("b"), 2, "data source 'own' has no text: there is none in '");
    /* as a clone without `git lfs pull` has it */
    write_scratch("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n");
    use_text("a.txt", 0);
    expect(PREPARE("a"), 2, "a.txt': it is a Git LFS pointer, not the file itself: fetch it");
    use_text("a.jsonl", 0);
    /* the text comes later: nothing of the failure stays */
    write_scratch("a.jsonl", "{\"text\": \"now\"}\n");
    expect(PREPARE("b"), 0, "prepared 'own': ");
}

/* Names in libconfig's escapes. */
Test(data, names_are_of_files_and_lines)
{
    static const char *const names[] = { "a\\n", "a\\x7F", "a\\xFF", "a/b" }, *const why[] = {
        "byte 0x0A after 'a'", "byte 0x7F after 'a'", "not valid UTF-8", "byte 0x2F after 'a'"
    };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char text[300];
        snprintf(text, sizeof text,
                 "tokenizer = { plugin = \"bytes\"; };\ndata = { plugin = \"text\"; sources = "
                 "( { name = \"%s\"; files = ( \"a\" ); } ); };\n",
                 names[k]);
        write_scratch("data.cfg", text);
        expect(PREPARE("a"), 2, why[k]);
    }
}

Test(data, a_pipe_is_no_text)
{
    expect("mkfifo %1$s/a.jsonl", 0, "");
    use_text("a.jsonl", 0);
    expect(PREPARE("a"), 1, "a.jsonl': not a regular file");
}

Test(data, missing_files_are_named)
{
    use_text("none*.jsonl", 0);
    expect(PREPARE("a"), 2, "/none*.jsonl'");
}

Test(data, held_out_text_is_not_trained_on)
{
    expect("cd " TANDEM_SOURCE " && %2$s prepare %3$s run.dir=%1$s/a "
           "'data.sources=({name=\"a\";files=(\"data/corpus/facts.*.jsonl\");"
           "held_out=(\"data/corpus/facts.valid.jsonl\");})'",
           2, "'data/corpus/facts.valid.jsonl' is held out by ");
}

/* Shipped configs and their corpus are found from any directory; files in the current one come
 * first. */
Test(data, the_embedded_corpus_is_found_from_anywhere)
{
    expect("cd %1$s && %2$s show -c quickstart/redllm.cfg --count 1 run.dir=%1$s/r", 0,
           "prepared 'facts'");
    expect("cd %1$s && mkdir -p data/corpus && printf 'no JSON\\n' >data/corpus/facts.train.jsonl"
           " && %2$s show -c quickstart/redllm.cfg --count 1 run.dir=%1$s/r",
           1, "data/corpus/facts.train.jsonl");
    expect("cd %1$s && %2$s show -c quickstart/redllm.cfg --count 1 run.dir=%1$s/r"
           " 'data.sources=({name=\"a\";files=(\"none*.jsonl\");})'",
           2, "no file matches 'none*.jsonl' (searched from '/tmp/tandem-data-");
}
