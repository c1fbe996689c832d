/* answer.c - the three sentences: a known effect, none, one seed, one group, other tokenizers, tasks. */
#include "report/made.h"

TestSuite(answer, .init = made_begin, .fini = made_end);

static const char *const six[] = { "a-1", "a-2", "a-3", "b-1", "b-2", "b-3" };

/* Three seeds of two variants; the second is better by `gain`. */
static void make_six(double gain, double spread)
{
    static const double shifts[] = { -1, 0.2, 0.8 };
    for (int k = 0; k < 6; k++)
        made((made_run){ .name = six[k],
                         .schedule = k < 3 ? "cosine" : "wsd",
                         .seed = k % 3 + 1,
                         .nll = k < 3 ? 3 : 3 - gain,
                         .shift = spread * shifts[k % 3],
                         .noise = k < 3 ? 0 : 0.05 });
}

static void expect(const made_report *r, size_t k, const char *words)
{
    cr_expect(strstr(made_answer(r, k), words), "'%s' is not in: %s", words, made_answer(r, k));
    cr_expect(strstr(r->html, "class=\"answer\""));
}

Test(answer, a_known_effect_is_found)
{
    make_six(0.3, 0.01);
    made_report r = made_write(six, 6, NULL);
    double      noise = 0;
    char        words[200];
    for (int k = 0; k < MADE_SEQUENCES; k++)
        noise += 0.05 * cos(7.0 * k) / MADE_SEQUENCES;
    snprintf(words, sizeof words,
             "'b' is better than 'a' on held-out text: its loss is lower by %.3f nats",
             0.3 - noise);
    expect(&r, 0, words);
    expect(&r, 0, "3 seeds each");
    expect(&r, 0, "'b' minus 'a': 95 % interval -0.3");
    expect(&r, 0, "after Holm's correction for");
    expect(&r, 2, "training took 6 GFLOP against 3 GFLOP (2.00 times)");
    made_free(&r);
}

Test(answer, no_effect_is_not_found)
{
    make_six(0.002, 0.2);
    made_report r = made_write(six, 6, NULL);
    expect(&r, 0, "The data do not support a difference between 'b' and 'a'");
    expect(&r, 0, "More seeds would not show a difference of this size");
    made_free(&r);
}

Test(answer, the_seeds_that_it_would_take)
{
    make_six(0.1, 0.3);
    made_report r = made_write(six, 6, NULL);
    expect(&r, 0, "The data do not support a difference between 'b' and 'a'");
    expect(&r, 0, "Showing a difference of this size would take about");
    made_free(&r);
}

/* Of two tests, p is corrected and the interval is not. */
Test(answer, an_interval_that_says_more_than_p)
{
    made((made_run){ .name = "a", .schedule = "cosine", .seed = 1, .nll = 3 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 2.744, .noise = 1 });
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect(&r, 0, "The data do not support a difference between 'b' and 'a'");
    expect(&r, 0, "; the interval excludes 0 because it is not corrected for the other tests;");
    expect(&r, 0, "'b' minus 'a': 95 % interval -0.");
    made_free(&r);
}

/* The scored text alone would call it certain: the sentence says what the test leaves out. */
Test(answer, one_seed_is_called_that)
{
    made((made_run){ .name = "a", .schedule = "cosine", .seed = 1, .nll = 3 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 2.7, .noise = 0.05 });
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect(&r, 0, "'b' is better than 'a'");
    expect(&r, 0, "one seed each, so the test does not cover variation between seeds");
    made_free(&r);
}

Test(answer, one_group_has_nothing_to_compare_with)
{
    make_six(0, 0.1);
    made_report r = made_write(six, 3, NULL);
    expect(&r, 0, "'a' has 3.0");
    expect(&r, 0, "over 3 seeds; there is nothing else to compare it with");
    made_free(&r);
}

Test(answer, losses_of_other_tokenizers_are_not_compared)
{
    made((made_run){ .name = "a", .schedule = "cosine", .seed = 1, .nll = 3 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 2, .tokenizer = "pieces" });
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect(&r, 0, "bits per byte");
    expect(&r, 0, "the difference cannot be tested");
    cr_expect(strstr(r.html, "different tokenizers"));
    cr_expect(!strstr(r.html, "Held-out loss by source"));
    made_free(&r);
}

Test(answer, without_evaluation)
{
    made_bare("a", "cosine", 1);
    made_bare("b", "wsd", 1);
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect(&r, 0, "No run was scored on held-out text");
    expect(&r, 2, "training took");
    cr_expect(strstr(r.html, "Training loss"));
    made_free(&r);
}

/* 15 questions only the first answers, one only the second. */
Test(answer, tasks_are_counted)
{
    made((made_run){ .name = "a", .schedule = "cosine", .seed = 1, .nll = 2 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 3 });
    made_task("a", "boolq", 0x1ffffff);
    made_task("b", "boolq", 0x20003ff);
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect(&r, 1, "Of one task 'a' is better than 'b' on 1 and worse on 0: boolq acc by +0.467");
    made_free(&r);
}

Test(answer, a_difference_by_chance_is_not_one_of_tasks)
{
    made((made_run){ .name = "a", .schedule = "cosine", .seed = 1, .nll = 2 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 3 });
    made_task("a", "boolq", 0x7fff);
    made_task("b", "boolq", 0x3fff);
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect(&r, 1,
           "On one task the data do not support a difference between 'a' and 'b': boolq acc by");
    made_free(&r);
}

/* Where a variant differs in more than its name says, a "better" may be due to the rest. */
Test(answer, more_than_one_difference_is_said)
{
    make_six(0.3, 0.01);
    made_report r = made_write(six, 6, NULL);
    cr_expect(!strstr(made_answer(&r, 0), "more than one setting"), "%s", made_answer(&r, 0));
    made_free(&r);
    for (int k = 0; k < 6; k++)
        made_put(six[k], "config.cfg", "model = { d_ff = %d; };\n", k < 3 ? 128 : 43);
    r = made_write(six, 6, NULL);
    expect(&r, 0, "'a' and 'b' differ in more than one setting");
    expect(&r, 0, "schedule.plugin (\"cosine\" and \"wsd\"), model.d_ff (128 and 43)");
    made_free(&r);
}

/* With the state of a longer training. */
static void retrain(const char *run)
{
    char *path = made_path(run),
         *state = td_path_join(path, "checkpoints/step-00000300/state.json");
    cr_assert(!remove(state));
    made_put(run, "checkpoints/step-00000300/state.json",
             "{\"step\": 300, \"tokens\": 17000, \"flops\": 6e9}\n");
    free(state);
    free(path);
}

Test(answer, unequal_training_is_said)
{
    make_six(0.3, 0.01);
    made_report r = made_write(six, 6, NULL);
    cr_expect(!strstr(made_answer(&r, 0), "not trained equally"), "%s", made_answer(&r, 0));
    made_free(&r);
    for (int k = 3; k < 6; k++)
        retrain(six[k]);
    r = made_write(six, 6, NULL);
    expect(&r, 0,
           "The two were not trained equally: 'b' for 300 steps (17000 tokens), 'a' for 300 "
           "(12000)");
    made_free(&r);
}
