/* prompts.c - prompts of tasks with a tokenizer whose tokens are bytes, so that they can be read off. */
#include "evaluate/prompts.h"

#include "lab.h"
#include "../plugins/part.h"

#define TASK                                                                                      \
    "files = [ \"items.jsonl\" ]; output_type = \"generate_until\"; doc_to_text = \"Q {{q}} A\";" \
    "doc_to_target = \"{{a}}\"; metrics = ( \"exact-match\" ); split = \"test\";"
#define ITEMS                                                              \
    "{\"q\": \"1\", \"a\": \"one\", \"t\": \"x\", \"split\": \"dev\"}\n"   \
    "{\"q\": \"2\", \"a\": \"two\", \"t\": \"y\", \"split\": \"dev\"}\n"   \
    "{\"q\": \"3\", \"a\": \"three\", \"t\": \"x\", \"split\": \"dev\"}\n" \
    "{\"q\": \"7\", \"a\": \"seven\", \"t\": \"x\", \"split\": \"test\"}\n"

TestSuite(prompts, .init = task_setup, .fini = task_teardown);

/* Only the tokenizer knows the id of a byte, so prompts are decoded again. */
static td_prompts_spec spec_of(int64_t max_length, int64_t shots)
{
    static td_part  bytes;
    static void    *state;
    td_error        e = { 0 };
    td_prompts_spec s = { .max_length = max_length, .shots = shots, .seed = 5 };
    if (!bytes.plugin) {
        bytes = load_part("tokenizer-bytes", "bytes");
        s.tokenizer = (const void *)bytes.plugin;
        cr_assert_eq(s.tokenizer->open(bytes.config, NULL, &state, &e), 0, "%s", e.text);
    }
    s.tokenizer = (const void *)bytes.plugin;
    s.state = state;
    s.special = (td_special){ .bos = -1, .eos = -1, .unk = -1 };
    s.tokenizer->special(state, &s.special);
    return s;
}

/* The text of ids; free() it. */
static char *text_of(const td_prompts_spec *s, const int32_t *ids, int64_t n)
{
    td_error e = { 0 };
    char    *text = calloc(1, (size_t)n * 4 + 8);
    int64_t  size = s->tokenizer->decode(s->state, ids, n, text, n * 4, &e);
    cr_assert_geq(size, 0, "%s", e.text);
    text[size] = 0;
    return text;
}

/* Ask item k; the caller frees. */
static td_asked ask(const td_task *t, const td_prompts_spec *s, size_t k,
                    const char *const *answers, size_t n, int64_t room)
{
    td_error     e = { 0 };
    td_prompts  *p = td_prompts_open(t, s, &e);
    td_task_item item;
    td_asked     asked;
    cr_assert(p, "%s", e.text);
    cr_assert_eq(td_task_item_open(t, json_array_get(t->items.all, k), &item, &e), 0, "%s", e.text);
    cr_assert_eq(td_prompts_ask(p, (int64_t)k, &item, item.text, answers, n, room, &asked, &e), 0,
                 "%s", e.text);
    td_task_item_close(&item);
    td_prompts_close(p);
    return asked;
}

static void expect(const td_task *t, int64_t max_length, int64_t shots, const char *wanted)
{
    td_prompts_spec s = spec_of(max_length, shots);
    td_asked        a = ask(t, &s, 0, NULL, 0, 10);
    char           *text = text_of(&s, a.given, a.n_given);
    cr_expect_str_eq(a.text, wanted, "%s", a.text);
    cr_expect_str_eq(text, wanted, "tokens of another text: %s", text);
    free(text);
    td_asked_free(&a);
}

Test(prompts, exemplars_in_front)
{
    td_task *t;
    task_write("items.jsonl", ITEMS);
    t = task_open(TASK
                  "fewshot_split = \"dev\"; num_fewshot = 2; description = \"Say {{q}}.\\n\";");
    expect(t, 1000, -1, "Say 7.\nQ 1 A one\n\nQ 2 A two\n\nQ 7 A");
    expect(t, 1000, 0, "Say 7.\nQ 7 A");
    expect(t, 1000, 1, "Say 7.\nQ 1 A one\n\nQ 7 A");
    /* fewer exist than requested: all of them */
    expect(t, 1000, 9, "Say 7.\nQ 1 A one\n\nQ 2 A two\n\nQ 3 A three\n\nQ 7 A");
    td_task_close(t);
}

/* The prompt with all exemplars has 40 bytes, and 10 are kept for the answer. */
Test(prompts, the_first_exemplars_are_dropped_first_and_the_question_stays)
{
    td_prompts_spec s;
    td_asked        a;
    td_task        *t;
    task_write("items.jsonl", ITEMS);
    t = task_open(TASK "fewshot_split = \"dev\"; num_fewshot = 3;");
    expect(t, 50, -1, "Q 1 A one\n\nQ 2 A two\n\nQ 3 A three\n\nQ 7 A");
    expect(t, 49, -1, "Q 2 A two\n\nQ 3 A three\n\nQ 7 A");
    expect(t, 30, -1, "Q 3 A three\n\nQ 7 A");
    expect(t, 12, -1, "Q 7 A");
    s = spec_of(12, -1);
    a = ask(t, &s, 0, NULL, 0, 10);
    cr_expect(a.over && a.dropped == 3 && a.shots == 0);
    td_asked_free(&a);
    s = spec_of(15, -1);
    a = ask(t, &s, 0, NULL, 0, 10);
    cr_expect(!a.over && a.dropped == 3);
    td_asked_free(&a);
    td_task_close(t);
}

Test(prompts, exemplars_of_the_same_part_drawn_by_the_seed)
{
    td_prompts_spec s = spec_of(1000, -1);
    td_task        *t;
    td_asked        a, b;
    task_write("items.jsonl", ITEMS);
    t = task_open(TASK "fewshot_split = \"dev\"; num_fewshot = 5; by = \"{{t}}\";"
                       "fewshot_delimiter = \"|\";");
    expect(t, 1000, -1, "Q 1 A one|Q 3 A three|Q 7 A");
    td_task_close(t);
    t = task_open(TASK "fewshot_split = \"dev\"; num_fewshot = 1; fewshot_sampler = \"random\";");
    a = ask(t, &s, 0, NULL, 0, 10);
    b = ask(t, &s, 0, NULL, 0, 10);
    cr_expect_str_eq(a.text, b.text);
    /* at least two of these seeds draw different exemplars */
    for (s.seed = 6; s.seed < 30 && !strcmp(a.text, b.text); s.seed++) {
        td_asked_free(&b);
        b = ask(t, &s, 0, NULL, 0, 10);
    }
    cr_expect_str_neq(a.text, b.text);
    td_asked_free(&a);
    td_asked_free(&b);
    td_task_close(t);
}

Test(prompts, a_chain_of_thought_and_fixed_texts)
{
    td_task *t;
    task_write("items.jsonl", ITEMS);
    t = task_open(TASK "fewshot_split = \"dev\"; num_fewshot = 1;"
                       "fewshot_doc_to_target = \"after {{t}}, {{a}}.\";");
    expect(t, 1000, -1, "Q 1 A after x, one.\n\nQ 7 A");
    td_task_close(t);
    t = task_open(TASK "fewshot_text = [ \"first\", \"second\" ]; num_fewshot = 2;");
    expect(t, 1000, -1, "first\n\nsecond\n\nQ 7 A");
    expect(t, 1000, 1, "first\n\nQ 7 A");
    td_task_close(t);
}

Test(prompts, ready_made_exemplars)
{
    td_task *t;
    task_write("items.jsonl", ITEMS);
    task_write("cot.json", "{\"x\": \"Count.\\n\\nQ: a\\nA: Q: is a.\\n\\nQ: b\\n\\nA: b\\n\", "
                           "\"y\": \"Q: c\"}");
    t = task_open(TASK "fewshot_files = [ \"cot.json\" ]; fewshot_context = \"{{value}}\";"
                       "fewshot_begin = \"Q: \"; num_fewshot = 2; by = \"{{t}}{{key}}\";");
    td_task_close(t);
    t = task_open(
        "files = [ \"items.jsonl\" ]; output_type = \"generate_until\"; split = \"test\";"
        "doc_to_text = \"Q: {{q}}\"; doc_to_target = \"{{a}}\"; metrics = ( \"exact-match\" );"
        "fewshot_files = [ \"cot.json\" ]; fewshot_context = \"{{value}}\";"
        "fewshot_begin = \"Q: \"; num_fewshot = 2;"
        "by = \"{{#t}}{{t}}{{/t}}{{^t}}{{key}}{{/t}}\";");
    expect(t, 1000, -1, "Count.\n\nQ: a\nA: Q: is a.\n\nQ: b\n\nA: b\n\nQ: 7");
    expect(t, 1000, 0, "Count.\n\nQ: 7");
    td_task_close(t);
}

static void expect_target(const td_prompts_spec *s, const td_asked *a, size_t k, const char *wanted)
{
    char *text = text_of(s, a->target[k], a->n_target[k]);
    cr_expect_str_eq(text, wanted, "'%s', not '%s'", text, wanted);
    free(text);
}

/* White space at the end of the prompt moves to the answer. */
Test(prompts, tokens_of_answers)
{
    const char *const answers[] = { "yes", "not at all" };
    td_prompts_spec   s = spec_of(1000, -1);
    td_task          *t;
    td_asked          a;
    char             *given;
    task_write("items.jsonl", ITEMS);
    t = task_open(TASK);
    a = ask(t, &s, 0, answers, 2, 0);
    expect_target(&s, &a, 0, " yes");
    expect_target(&s, &a, 1, " not at all");
    td_asked_free(&a);
    td_task_close(t);
    t = task_open(
        "files = [ \"items.jsonl\" ]; output_type = \"loglikelihood\"; split = \"test\";"
        "doc_to_text = \"Q {{q}} \\n\"; doc_to_target = \"{{a}}\"; target_delimiter = \"\";");
    a = ask(t, &s, 0, answers, 1, 0);
    given = text_of(&s, a.given, a.n_given);
    cr_expect_str_eq(given, "Q 7");
    expect_target(&s, &a, 0, " \nyes");
    free(given);
    td_asked_free(&a);
    td_task_close(t);
}

Test(prompts, an_empty_prompt_begins_with_a_special_token_and_one_may_end_with_eos)
{
    const char *const answers[] = { "yes" };
    td_prompts_spec   s = spec_of(1000, -1);
    td_task          *t;
    td_asked          a;
    task_write("items.jsonl", ITEMS);
    t = task_open("files = [ \"items.jsonl\" ]; output_type = \"loglikelihood\"; split = \"test\";"
                  "doc_to_target = \"{{a}}\";");
    a = ask(t, &s, 0, answers, 1, 0);
    cr_expect_eq(a.n_given, 1);
    cr_expect_eq(a.given[0], s.special.bos >= 0 ? s.special.bos : s.special.eos);
    td_asked_free(&a);
    td_task_close(t);
    t = task_open(TASK);
    s.append_eos = true;
    a = ask(t, &s, 0, answers, 1, 0);
    cr_expect_eq(a.given[a.n_given - 1], s.special.eos);
    cr_expect_eq(a.n_given, 6);
    expect_target(&s, &a, 0, " yes");
    td_asked_free(&a);
    td_task_close(t);
}

Test(prompts, a_part_without_exemplars_is_an_error)
{
    td_prompts_spec s = spec_of(1000, -1);
    td_error        e = { 0 };
    td_task_item    item;
    td_asked        a;
    td_prompts     *p;
    td_task        *t;
    task_write("items.jsonl",
               "{\"q\": \"1\", \"a\": \"one\", \"t\": \"x\", \"split\": \"dev\"}\n"
               "{\"q\": \"7\", \"a\": \"seven\", \"t\": \"z\", \"split\": \"test\"}\n");
    t = task_open(TASK "fewshot_split = \"dev\"; num_fewshot = 1; by = \"{{t}}\";");
    p = td_prompts_open(t, &s, &e);
    cr_assert(p && !td_task_item_open(t, json_array_get(t->items.all, 0), &item, &e), "%s", e.text);
    cr_expect_eq(td_prompts_ask(p, 0, &item, item.text, NULL, 0, 1, &a, &e), TD_EFORMAT);
    cr_expect_str_eq(e.text, "no exemplars for 'z'");
    td_asked_free(&a);
    td_task_item_close(&item);
    td_prompts_close(p);
    td_task_close(t);
}
