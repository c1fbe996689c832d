/* published.c - the tasks of the paper on files in the layouts that their data sets are
 * published in. The items are made up; the layout of the fields is real. */
#include "evaluate/prompts.h"

#include "../plugins/part.h"
#include "lab.h"
#include "published.h"

/* The prompt of the first item with one exemplar, and its correct answer. */
static const struct {
    const char *task, *prompt, *target, *reference;
} tasks[] = {
    { "boolq",
      "Fire burns.\nQuestion: is fire cold?\nAnswer: no\n\nSnow is ice.\nQuestion: is snow "
      "cold?\nAnswer:",
      "yes", "yes" },
    { "hellaswag", "Cooking: A pan is hot\n\nSailing: A boat leaves. it", "sails", "sails" },
    { "rte",
      "It rained.\nQuestion: It was dry. True or False?\nAnswer: False\n\nIt "
      "\"rained\".\nQuestion: It was "
      "wet. True or False?\nAnswer:",
      "True", "True" },
    { "arc", "Question: What is up?\nAnswer: sky\n\nQuestion: What shines?\nAnswer:", "sun",
      "sun" },
    { "anli",
      "R1.\nQuestion: A. True, False, or Neither?\nAnswer: Neither\n\nHe ran.\nQuestion: He moved. "
      "True, "
      "False, or Neither?\nAnswer:",
      "True", "True" },
    { "commonsense_qa",
      "Question: Where is a bird?\nA. nest\nAnswer: A\n\nQuestion: Where is a cup?\nA. sea\nB. "
      "shelf\nAnswer:",
      "B", "B" },
    { "strategyqa",
      "Q: Do hamsters provide food for any animals?\nA: yes\n\nQ: Can one walk to the Moon?\nA:",
      "no", "no" },
    { "triviaqa",
      "Question: Which colour is coal?\nAnswer: Black\n\nQuestion: Which river flows through "
      "Cologne?\nAnswer:",
      "Rhine", "The Rhine" },
    { "unifiedqa", "what is wet? \\n (a) rain (b) dust\nrain\n\nwhat shines? \\n (a) sun (b) mud\n",
      "sun", "sun" },
    { "mmlu",
      "About religions.\n\nQ: One?\n(A) x (B) y (C) z (D) w\nA: Let's think step by step. It is "
      "so. The "
      "answer is (B).\n\nQ: Who, then?\n(A) a (B) b (C) c (D) d\nA: Let's think step by step.",
      "(B)", "(B)" },
    { "mmlu_choices",
      "The following are multiple choice questions (with answers).\n\nAnd who?\nA. e\nB. f\nC. "
      "g\nD. "
      "h\nAnswer: C\n\nWho, then?\nA. a\nB. b\nC. c\nD. d\nAnswer:",
      "B", "B" },
    { "gsm8k", "Question: 1 and 1?\nAnswer: 1 + 1 = 2\n#### 2\n\nQuestion: 2 and 3?\nAnswer:",
      "2 + 3 = 5\n#### 1,005", "1005" },
    { "bbh",
      "Where does one end?\n\nQ: Here?\nA: Let's think step by step.\nYes. So the answer is "
      "Yes.\n\nQ: "
      "Back?\nA: Let's think step by step.",
      "No", "No" },
    { "wmt22", "English: A cat.\nGerman: Eine Katze.\n\nEnglish: A house.\nGerman:", "Ein Haus.",
      "Ein Haus." },
    { "wmt22_de_en", "German: Eine Katze.\nEnglish: A cat.\n\nGerman: Ein Haus.\nEnglish:",
      "A house.", "A house." },
};

static td_part bytes;
static void   *state;

static void setup(void)
{
    td_error e = { 0 };
    task_setup();
    published_write(task_directory);
    bytes = load_part("tokenizer-bytes", "bytes");
    cr_assert(!((const td_tokenizer *)(const void *)bytes.plugin)
                   ->open(bytes.config, NULL, &state, &e),
              "%s", e.text);
}

static void teardown(void)
{
    ((const td_tokenizer *)(const void *)bytes.plugin)->close(state);
    free_part(&bytes);
    task_teardown();
}

TestSuite(published, .init = setup, .fini = teardown);

static td_task *open_task(const char *name)
{
    td_task_spec spec = task_spec();
    td_errors    errors = { 0 };
    td_error     e = { 0 };
    td_task     *t = td_task_open(&spec, name, &errors);
    cr_assert(t, "%s", td_text_get(&errors.text));
    cr_assert_eq(td_task_read(t, task_directory, &e), 0, "%s", e.text);
    return t;
}

static void check(size_t k)
{
    td_prompts_spec s = { .tokenizer = (const void *)bytes.plugin,
                          .state = state,
                          .special = { .bos = -1, .eos = 1, .unk = -1 },
                          .max_length = 1000,
                          .shots = 1 };
    td_error        e = { 0 };
    td_task        *t = open_task(tasks[k].task);
    td_prompts     *p = td_prompts_open(t, &s, &e);
    td_task_item    item;
    td_asked        asked;
    cr_assert(p, "%s", e.text);
    cr_assert(!td_task_item_open(t, json_array_get(t->items.all, 0), &item, &e), "%s: %s",
              tasks[k].task, e.text);
    cr_assert(!td_prompts_ask(p, 0, &item, item.text, NULL, 0, 10, &asked, &e), "%s: %s",
              tasks[k].task, e.text);
    cr_expect_str_eq(asked.text, tasks[k].prompt, "%s: %s", tasks[k].task, asked.text);
    cr_expect_str_eq(item.target, tasks[k].target, "%s: %s", tasks[k].task, item.target);
    cr_expect_str_eq(item.references[item.n_references - 1], tasks[k].reference, "%s: %s",
                     tasks[k].task, item.references[item.n_references - 1]);
    td_asked_free(&asked);
    td_task_item_close(&item);
    td_prompts_close(p);
    td_task_close(t);
}

Test(published, tasks_follow_their_files)
{
    for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++)
        check(k);
}

/* All thirteen tasks of the paper, each checked above. */
Test(published, the_paper_has_thirteen)
{
    td_task_spec spec = task_spec();
    td_error     e = { 0 };
    char       **names = NULL;
    int64_t      n = td_task_names(&spec, &names, &e), found = 0;
    for (int64_t i = 0; i < n; i++) {
        td_errors errors = { 0 };
        td_task  *t = td_task_open(&spec, names[i], &errors);
        bool      here = false;
        cr_assert(t, "%s", td_text_get(&errors.text));
        if (t->options.groups.count && !strcmp(t->options.groups.at[0], "paper")) {
            for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++)
                here = here || !strcmp(tasks[k].task, names[i]);
            cr_expect(here, "'%s' is not checked", names[i]);
            found++;
        }
        td_task_close(t);
    }
    cr_expect_eq(found, 13);
    td_free_names(names, n);
}
