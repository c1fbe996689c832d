/* instructions.c - data 'instructions': each layout yields the expected tokens, only answers
 * have weight, long examples are cut as the options say, and a bad line is reported with the
 * reason. */
#include "module.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../plugins/data/instructions/instructions.h"
#include "base/file.h"

enum { EOS = 1, FIRST = 3 };

static char directory[64], cache[96];

static void setup(void)
{
    strcpy(directory, "/tmp/test-instructions-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(cache, sizeof cache, "%s/cache", directory);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(instructions, .init = setup, .fini = teardown);

/* ---- opening --------------------------------------------------------------------------------- */

static const char *put(const char *name, const char *content)
{
    char *path = malloc(200);
    FILE *f;
    snprintf(path, 200, "%s/%s", directory, name);
    f = fopen(path, "w");
    cr_assert(f && fputs(content, f) >= 0 && !fclose(f));
    return path;
}

static void *take(void *arena, size_t bytes) { return malloc(bytes); }

static const td_split_in split = { .allocate = take };

static const td_data *plugin(void) { return module_plugin("data-instructions.so"); }

static td_data_in input(uint64_t seed)
{
    return (td_data_in){ .services = &module_services,
                         .tokenizer = module_plugin("tokenizer-bytes.so"),
                         .special = { .eos = EOS, .unk = 2, .vocab_size = 259 },
                         .tokenizer_id = "bytes",
                         .length = 1,
                         .held_out_length = 1,
                         .seed = seed,
                         .cache = cache };
}

static instructions_config config_of(instructions_source *sources, size_t count)
{
    return (instructions_config){ .sources = { sources, count },
                                  .inputs = "",
                                  .targets = "",
                                  .messages = "",
                                  .role = "role",
                                  .content = "content",
                                  .max_inputs = 2048,
                                  .max_targets = 512,
                                  .shuffle = false };
}

static void *opened(const instructions_config *c, uint64_t seed)
{
    td_data_in in = input(seed);
    td_error   error = { 0 };
    void      *state;
    cr_assert_eq(plugin()->open(c, &in, &state, &error), 0, "%s", error.text);
    return state;
}

static td_record fetched(void *state, uint64_t index)
{
    td_record r = { 0 };
    td_error  error = { 0 };
    cr_assert_eq(plugin()->fetch(state, index, &split, &r, &error), 0, "%s", error.text);
    return r;
}

/* ---- what a record says ---------------------------------------------------------------------- */

/* Ids as text; eos is '$'. */
static const char *text_of(const int32_t *ids, int64_t n)
{
    char *text = malloc((size_t)n + 1);
    for (int64_t k = 0; k < n; k++)
        text[k] = ids[k] == EOS ? '$' : (char)(ids[k] - FIRST);
    text[n] = 0;
    return text;
}

/* The tokens with weight; those without are '.'. */
static const char *weighted(const td_record *r)
{
    char *text = (char *)text_of(r->targets, r->n_targets);
    for (int64_t k = 0; r->weights && k < r->n_targets; k++) {
        cr_expect(r->weights[k] == 0 || r->weights[k] == 1);
        text[k] = r->weights[k] == 0 ? '.' : text[k];
    }
    return text;
}

static void expect(const td_record *r, const char *inputs, const char *targets)
{
    cr_expect_str_eq(text_of(r->inputs, r->n_inputs), inputs);
    cr_expect_str_eq(text_of(r->targets, r->n_targets), targets);
}

/* A config that reads one file as one source. */
static instructions_config one_file(instructions_source *source, const char **file)
{
    *source = (instructions_source){ .from = { .from = { "a", { file, 1 }, { 0 }, 0 } } };
    return config_of(source, 1);
}

/* ---- layouts --------------------------------------------------------------------------------- */

Test(instructions, every_layout_is_read)
{
    const char              *file = put("a.jsonl",
                                        "{\"inputs\": \"1+1\", \"targets\": \"2\", \"task\": 7}\n"
                                                     "\n"
                                                     "{\"prompt\": \"say\", \"completion\": \"so\"}\r\n"
                                                     "{\"instruction\": \"Name\", \"input\": \"x\", \"output\": \"y\"}\n"
                                                     "{\"instruction\": \"Name\", \"input\": \"\", \"output\": \"z\"}\n"
                                                     "{\"instruction\": \"Name\", \"input\": null, \"output\": \"z\"}\n"
                                                     "{\"instruction\": \"Only\", \"output\": \"z\"}\n"
                                                     "{\"inputs\": \"\", \"targets\": \"from nothing\"}\n"
                                                     "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, "
                                                     "{\"role\": \"assistant\", \"content\": \"ho\"}]}");
    instructions_source      source;
    instructions_config      config = one_file(&source, &file);
    void                    *state = opened(&config, 1);
    static const char *const want[][2] = {
        { "1+1$", "2$" },         { "say$", "so$" },
        { "Name\n\nx$", "y$" },   { "Name$", "z$" },
        { "Name$", "z$" },        { "Only$", "z$" },
        { "$", "from nothing$" }, { "User: hi\nAssistant: $", "ho$" },
    };
    cr_assert_eq(plugin()->records(state), 8);
    for (uint64_t k = 0; k < 8; k++) {
        td_record r = fetched(state, k);
        expect(&r, want[k][0], want[k][1]);
        cr_expect_null(r.weights, "all of a pair's targets have weight");
    }
    plugin()->close(state);
}

Test(instructions, keys_can_be_named)
{
    const char *file = put("a.jsonl", "{\"q\": \"who\", \"a\": \"me\", \"inputs\": 1}\n"), *chat;
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    td_record           r;
    config.inputs = "q";
    config.targets = "a";
    void *state = opened(&config, 1);
    r = fetched(state, 0);
    expect(&r, "who$", "me$");
    plugin()->close(state);

    chat = put("b.jsonl",
               "{\"talk\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", "
               "\"value\": \"b\"}], \"inputs\": \"x\", \"targets\": \"y\"}\n");
    td_chat_role roles[] = { { "human", "<", ">", false }, { "gpt", "[", "]", true } };
    config = one_file(&source, &chat);
    config.messages = "talk";
    config.role = "from";
    config.content = "value";
    config.roles = (td_list){ roles, 2 };
    state = opened(&config, 1);
    r = fetched(state, 0);
    expect(&r, "<a>[$", "b$");
    plugin()->close(state);
}

static const char chat[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"Be.\"}, "
                           "{\"role\": \"user\", \"content\": "
                           "\"a\"}, {\"role\": \"assistant\", \"content\": \"bc\"}, {\"role\": "
                           "\"user\", \"content\": \"d\"}, "
                           "{\"role\": \"assistant\", \"content\": \"e\"}, {\"role\": \"user\", "
                           "\"content\": \"last\"}]}\n";

/* Messages between two answers are in the targets, without weight. */
Test(instructions, only_answers_of_a_chat_have_weight)
{
    const char         *file = put("a.jsonl", chat);
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    void               *state = opened(&config, 1);
    td_record           r = fetched(state, 0);
    cr_assert_eq(plugin()->records(state), 1);
    expect(&r, "Be.\n\nUser: a\nAssistant: $", "bc$\nUser: d\nAssistant: $e$");
    cr_expect_str_eq(weighted(&r), "bc$.....................e$");
    plugin()->close(state);
}

Test(instructions, answers_of_a_chat_can_be_separate_examples)
{
    const char         *file = put("a.jsonl", chat);
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    config.turns = TURNS_EACH;
    void     *state = opened(&config, 1);
    td_record first = fetched(state, 0), second = fetched(state, 1), only;
    cr_assert_eq(plugin()->records(state), 2);
    expect(&first, "Be.\n\nUser: a\nAssistant: $", "bc$");
    expect(&second, "Be.\n\nUser: a\nAssistant: bc\nUser: d\nAssistant: $", "e$");
    cr_expect(!first.weights && !second.weights);
    plugin()->close(state);

    config.turns = TURNS_LAST;
    state = opened(&config, 1);
    cr_assert_eq(plugin()->records(state), 1);
    only = fetched(state, 0);
    expect(&only, "Be.\n\nUser: a\nAssistant: bc\nUser: d\nAssistant: $", "e$");
    plugin()->close(state);
}

Test(instructions, eos_is_where_the_option_says)
{
    static const char *const want[][2] = { { "in$", "out$" }, { "in", "out$" }, { "in", "out" } };
    const char              *file = put("a.jsonl", "{\"inputs\": \"in\", \"targets\": \"out\"}\n");
    for (int64_t eos = EOS_BOTH; eos <= EOS_NONE; eos++) {
        instructions_source source;
        instructions_config config = one_file(&source, &file);
        config.eos = eos;
        void     *state = opened(&config, 1);
        td_record r = fetched(state, 0);
        expect(&r, want[eos][0], want[eos][1]);
        cr_expect_eq(plugin()->pair(&config).inputs_end, eos == EOS_BOTH);
        plugin()->close(state);
    }
}

/* ---- limits ---------------------------------------------------------------------------------- */

Test(instructions, long_examples_are_cut)
{
    const char *file = put("a.jsonl", "{\"inputs\": \"abcdefgh\", \"targets\": \"ijklmnop\"}\n");
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    config.max_inputs = 5;
    config.max_targets = 4;
    void     *state = opened(&config, 1);
    td_record r = fetched(state, 0);
    expect(&r, "abcd$", "ijkl");
    cr_expect_eq(plugin()->tokens(state), 9);
    plugin()->close(state);

    /* the shard stays the same: only the part read from it changes */
    config.truncation_side = CUT_LEFT;
    state = opened(&config, 1);
    r = fetched(state, 0);
    expect(&r, "efgh$", "ijkl");
    plugin()->close(state);
    config.max_inputs = 9;
    config.max_targets = 9;
    state = opened(&config, 1);
    r = fetched(state, 0);
    expect(&r, "abcdefgh$", "ijklmnop$");
    plugin()->close(state);

    config.eos = EOS_TARGETS;
    config.truncation_side = CUT_RIGHT;
    config.max_inputs = 5;
    state = opened(&config, 1);
    r = fetched(state, 0);
    expect(&r, "abcde", "ijklmnop$");
    plugin()->close(state);
}

/* If a chat is cut, its weights are cut at the same token. */
Test(instructions, a_long_chat_is_cut_with_its_weights)
{
    const char         *file = put("a.jsonl", chat);
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    config.max_targets = 6;
    void     *state = opened(&config, 1);
    td_record r = fetched(state, 0);
    cr_expect_str_eq(weighted(&r), "bc$...");
    plugin()->close(state);
}

/* Bits per byte divide by the bytes of the scored text: the parts of answers that are read. */
Test(instructions, bytes_are_those_of_the_answers)
{
    const char *file = put("a.jsonl", "{\"inputs\": \"12345\", \"targets\": \"67\"}\n");
    const char *held = put("h.jsonl", "{\"inputs\": \"12345\", \"targets\": \"12345678\"}\n");
    const char *held_chat = put("c.jsonl", chat);
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    source.from.from.held_out = (td_strings){ &held, 1 };
    void *state = opened(&config, 1);
    cr_expect_eq(plugin()->held_out_bytes(state, 0, 0, 6), 8);
    cr_expect_eq(plugin()->held_out_bytes(state, 0, 0, 0), 13);
    cr_expect_eq(plugin()->held_out_bytes(state, 0, 1, 0), -1);
    plugin()->close(state);

    config.max_targets = 3; /* 3 of 9 tokens of 8 bytes */
    state = opened(&config, 1);
    cr_expect_eq(plugin()->held_out_bytes(state, 0, 0, 6), 3);
    plugin()->close(state);

    config.max_targets = 512;
    source.from.from.held_out = (td_strings){ &held_chat, 1 };
    state = opened(&config, 1);
    cr_expect_eq(plugin()->held_out_bytes(state, 0, 0, strlen("Be.\n\nUser: a\nAssistant: $")), 3);
    plugin()->close(state);
}

/* ---- mixtures -------------------------------------------------------------------------------- */

/* A file of n examples whose targets are "NAMEk". */
static const char *make_file(const char *name, int n)
{
    char *text = calloc((size_t)n + 1, 64), *at = text, file[64];
    for (int k = 0; k < n; k++)
        at += sprintf(at, "{\"inputs\": \"?\", \"targets\": \"%s%d\"}\n", name, k);
    snprintf(file, sizeof file, "%s.jsonl", name);
    return put(file, text);
}

static void count_sources(void *state, int64_t counts[3])
{
    counts[0] = counts[1] = counts[2] = 0;
    for (uint64_t k = 0; k < 4096; k++)
        counts[fetched(state, k).source]++;
}

Test(instructions, sources_are_mixed_by_rate_or_limited_size)
{
    const char         *files[] = { make_file("a", 10), make_file("b", 30), make_file("c", 1000) };
    const char         *names[] = { "a", "b", "c" };
    instructions_source s[3];
    int64_t             counts[3];
    for (int k = 0; k < 3; k++)
        s[k] = (instructions_source){ .from = {
                                          .from = { names[k], { &files[k], 1 }, { 0 }, 0 } } };
    instructions_config config = config_of(s, 3);

    config.rate_limit = 40; /* 10 : 30 : 40 */
    void *state = opened(&config, 1);
    count_sources(state, counts);
    cr_expect(counts[0] == 512 && counts[1] == 1536 && counts[2] == 2048, "%lld %lld %lld",
              (long long)counts[0], (long long)counts[1], (long long)counts[2]);
    plugin()->close(state);

    config.rate_limit = 0;
    s[0].from.rate = 0.25;
    s[1].from.rate = 0.5;
    s[2].from.rate = 0.25;
    s[2].max_examples = 7;
    state = opened(&config, 1);
    count_sources(state, counts);
    cr_expect(counts[0] == 1024 && counts[1] == 2048 && counts[2] == 1024);
    cr_expect_eq(plugin()->records(state), 47);
    for (uint64_t k = 0; k < 4096; k++) { /* the first seven of "c" */
        td_record   r = fetched(state, k);
        const char *t = text_of(r.targets, r.n_targets);
        cr_expect(r.source != 2 || (strlen(t) == 3 && t[1] < '7'), "%s", t);
    }
    plugin()->close(state);
}

/* Each epoch has every example once, in an order that depends on the seed and the epoch. */
Test(instructions, an_epoch_has_every_example_once)
{
    const char         *file = make_file("n", 53);
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    char                order[3][53 * 4 + 1] = { "" };
    config.shuffle = true;
    for (int run = 0; run < 3; run++) { /* epochs 0 and 1, then epoch 0 with another seed */
        void *state = opened(&config, run < 2 ? 1 : 2);
        bool  seen[53] = { false };
        for (uint64_t k = 0; k < 53; k++) {
            td_record   r = fetched(state, k + (run == 1 ? 53 : 0));
            const char *t = text_of(r.targets, r.n_targets);
            int         n = atoi(t + 1);
            cr_assert(n >= 0 && n < 53 && !seen[n], "%d comes twice", n);
            seen[n] = true;
            snprintf(order[run] + strlen(order[run]), 5, "%d,", n);
        }
        plugin()->close(state);
    }
    cr_expect_str_neq(order[0], order[1]);
    cr_expect_str_neq(order[0], order[2]);
}

/* Lines are held out, not examples: an answer's history must not be trained on. */
Test(instructions, held_out_lines_are_apart)
{
    const char         *file = make_file("n", 20);
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    source.from.from.held_out_every = 4;
    void    *state = opened(&config, 1);
    td_error error = { 0 };
    cr_assert(plugin()->records(state) == 15 && plugin()->held_out(state, 0) == 5);
    for (int64_t k = 0; k < 5; k++) {
        td_record r;
        char      want[16];
        snprintf(want, sizeof want, "n%lld$", 4 * (long long)k + 3);
        cr_assert_eq(plugin()->fetch_held_out(state, 0, k, &split, &r, &error), 0);
        expect(&r, "?$", want);
    }
    cr_expect_eq(plugin()->fetch_held_out(state, 0, 5, &split, &(td_record){ 0 }, &error), TD_EEND);
    plugin()->close(state);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static void forwards(const td_services *s, int64_t n, void (*fn)(void *, int64_t, int), void *arg)
{
    for (int64_t i = 0; i < n; i++)
        fn(arg, i, (int)(i % 3));
}

static uint64_t fingerprint_of(const instructions_config *c, const td_services *services,
                               const char *where)
{
    td_data_in in = input(1);
    td_error   error = { 0 };
    void      *state;
    uint64_t   print;
    in.services = services;
    in.cache = where;
    cr_assert_eq(plugin()->open(c, &in, &state, &error), 0, "%s", error.text);
    print = plugin()->fingerprint(state);
    plugin()->close(state);
    return print;
}

Test(instructions, threads_and_compression_change_nothing)
{
    const char         *file = make_file("n", 700), *packed[] = { malloc(200), malloc(200) };
    char                command[500], other[96];
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    td_services         services = module_services;
    uint64_t            want = fingerprint_of(&config, &module_services, cache);

    services.parallel = forwards;
    services.threads = 3;
    snprintf(other, sizeof other, "%s/other", directory);
    cr_expect_eq(fingerprint_of(&config, &services, other), want);
    snprintf(command, sizeof command, "cd %s && gzip -k n.jsonl && zstd -q n.jsonl", directory);
    cr_assert_eq(system(command), 0);
    for (int k = 0; k < 2; k++) {
        snprintf((char *)packed[k], 200, "%s/n.jsonl.%s", directory, k ? "zst" : "gz");
        config = one_file(&source, &packed[k]);
        cr_expect_eq(fingerprint_of(&config, &module_services, cache), want);
    }
    /* another limit gives another record */
    config.max_targets = 2;
    cr_expect_neq(fingerprint_of(&config, &module_services, cache), want);
}

/* ---- bad lines ------------------------------------------------------------------------------- */

#define TURN(role, text) "{\"role\": \"" role "\", \"content\": \"" text "\"}"

static const struct {
    const char *line, *why;
} bad[] = {
    { "{\"question\": \"a\", \"answer\": \"b\"}",
      "it has neither 'inputs' and 'targets', nor 'prompt' and 'completion', nor 'instruction' and "
      "'output', nor 'messages' (keys: 'question', 'answer')" },
    { "{\"inputs\": \"a\"}", "(keys: 'inputs')" },
    { "{\"inputs\": \"a\", \"targets\": \"\"}",
      "'targets' is empty: there is nothing to train on" },
    { "{\"inputs\": \"a\", \"targets\": 7}", "the value of 'targets' is not a string" },
    { "{\"prompt\": [], \"completion\": \"a\"}", "the value of 'prompt' is not a string" },
    { "{\"instruction\": \"a\", \"input\": 3, \"output\": \"b\"}",
      "the value of 'input' is not a string" },
    { "{\"inputs\": \"a\xff\", \"targets\": \"b\"}", "not valid JSON: " },
    { "{\"inputs\": \"a\", \"targets\": \"\\ud800\"}", "not valid JSON: " },
    { "{\"inputs\": \"a\", \"targets\": \"b\"", "not valid JSON: " },
    { "{\"inputs\": \"a\", \"inputs\": \"a\", \"targets\": \"b\"}", "not valid JSON: duplicate" },
    { "[\"a\", \"b\"]", "not an object { }" },
    { "{\"messages\": 1}", "the value of 'messages' is not a list of messages" },
    { "{\"messages\": []}", "none of the 0 messages is an answer to train on" },
    { "{\"messages\": [" TURN("user", "a") "]}",
      "none of the 1 messages is an answer to train on" },
    { "{\"messages\": [" TURN("user", "a") ", " TURN("tool", "b") "]}",
      "message 2: role 'tool' is not in the template, which has 'system', 'user', 'assistant': set "
      "data.roles" },
    { "{\"messages\": [" TURN("a\\u001b[2Jb", "a") "]}", "message 1: role 'a?[2Jb' is not in" },
    { "{\"messages\": [" TURN("user", "a") ", " TURN("assistant", "") "]}",
      "message 2: the answer is empty: there is nothing to train on" },
    { "{\"messages\": [3]}", "message 1: not an object { 'role', 'content' }" },
    { "{\"messages\": [{\"content\": \"a\"}]}", "message 1: no key 'role'" },
    { "{\"messages\": [{\"role\": \"user\"}]}", "message 1: no key 'content'" },
    { "{\"messages\": [{\"role\": \"user\", \"content\": null}]}",
      "message 1: the value of 'content' is not a string" },
};

Test(instructions, a_bad_line_is_named)
{
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char        content[600], where[120];
        const char *file;
        td_data_in  in = input(1);
        td_error    error = { 0 };
        void       *state;
        snprintf(content, sizeof content, "{\"inputs\": \"a\", \"targets\": \"b\"}\n\n%s\n",
                 bad[k].line);
        file = put("bad.jsonl", content);
        instructions_source source;
        instructions_config config = one_file(&source, &file);
        cr_expect_eq(plugin()->open(&config, &in, &state, &error), TD_EFORMAT, "%s", bad[k].line);
        snprintf(where, sizeof where, "%s:3: cannot read an example from this line: ", file);
        cr_expect(!strncmp(error.text, where, strlen(where)), "%s", error.text);
        cr_expect(strstr(error.text, bad[k].why), "'%s' is not in: %s", bad[k].why, error.text);
        cr_expect(strstr(error.text, "data.max_bad_lines"), "%s", error.text);

        config.max_bad_lines = 1; /* the same line is now skipped */
        state = opened(&config, 1);
        cr_expect_eq(plugin()->records(state), 1);
        plugin()->close(state);
    }
}

static void refuses_to_open(const instructions_config *c, const char *why)
{
    td_data_in in = input(1);
    td_error   error = { 0 };
    void      *state;
    cr_expect(plugin()->open(c, &in, &state, &error) < 0);
    cr_expect(strstr(error.text, why), "'%s' is not in: %s", why, error.text);
}

Test(instructions, lines_without_an_example)
{
    const char *text = put("a.txt", "words"), *blank = put("b.jsonl", "\n \n"),
               *empty = put("c.jsonl", "{\"inputs\": \"\", \"targets\": \"b\"}\n");
    instructions_source source;
    instructions_config config = one_file(&source, &text);
    refuses_to_open(&config, "is running text: data 'instructions' reads .jsonl");
    config = one_file(&source, &blank);
    refuses_to_open(&config, "data source 'a' has no text: there is none in");
    config = one_file(&source, &empty);
    config.eos = EOS_TARGETS;
    refuses_to_open(&config, "c.jsonl:1: cannot read an example from this line: 'inputs' is empty, "
                             "and data.eos appends nothing to it");
}

Test(instructions, options_that_contradict_each_other)
{
    const char         *file = "a.jsonl";
    td_chat_role        twice[] = { { "a", "", "", true }, { "a", "", "", false } };
    td_chat_role        silent[] = { { "a", "", "", false } };
    instructions_source source;
    instructions_config config = one_file(&source, &file);
    td_error            error = { 0 };
    const td_plugin    *p = &plugin()->plugin;

    cr_expect_eq(p->check(&config, &error), 0, "%s", error.text);
    config.inputs = "q";
    cr_expect_eq(p->check(&config, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "inputs = \"q\" without targets"), "%s", error.text);
    config.targets = "a";
    config.messages = "m";
    error = (td_error){ 0 };
    cr_expect_eq(p->check(&config, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "a line is a pair or a chat"), "%s", error.text);

    config = one_file(&source, &file);
    config.roles = (td_list){ twice, 2 };
    error = (td_error){ 0 };
    cr_expect_eq(p->check(&config, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "'a' is listed twice"), "%s", error.text);
    config.roles = (td_list){ silent, 1 };
    error = (td_error){ 0 };
    cr_expect_eq(p->check(&config, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "no role has answers = true"), "%s", error.text);

    config = one_file(&source, &file);
    source.from.rate = 1;
    config.rate_limit = 5;
    error = (td_error){ 0 };
    cr_expect_eq(p->check(&config, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, "rate_limit = 5 has no effect with rates"), "%s", error.text);
}
