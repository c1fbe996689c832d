/* task.c - task files: their meaning, and the messages for invalid ones. */
#include "lab.h"

#define CHOICES                                             \
    "files = [ \"items.jsonl\" ]; doc_to_text = \"{{q}}\";" \
    "choices = \"options\"; gold = \"{{answer}}\"; metrics = ( \"accuracy\" );"
#define GENERATE                                                                              \
    "files = [ \"items.jsonl\" ]; output_type = \"generate_until\"; doc_to_text = \"{{q}}\";" \
    "doc_to_target = \"{{answer}}\"; metrics = ( \"exact-match\" );"

TestSuite(task, .init = task_setup, .fini = task_teardown);

/* ---- wrong files ------------------------------------------------------------------------------ */

static void refused(const char *lines, const char *says)
{
    td_errors errors = { 0 };
    td_task  *t = task_try(lines, &errors);
    cr_expect(!t, "accepted: %s", lines);
    cr_expect(strstr(td_text_get(&errors.text), says), "'%s' is not in: %s", says,
              td_text_get(&errors.text));
    td_task_close(t);
    td_errors_free(&errors);
}

Test(task, keys_and_values_are_checked)
{
    refused(CHOICES "doc_to_txt = \"\";", "option 'doc_to_txt' is unknown; did you mean "
                                          "'doc_to_text'?");
    refused(CHOICES "prompt = \"\";",
            "option 'prompt' is unknown; the key for that is doc_to_text");
    refused(CHOICES "zebra = \"\";", "option 'zebra' is unknown; the options are name, brief, ");
    refused(CHOICES "version = \"one\";", "mine.cfg:2: task: option 'version'");
    refused(CHOICES "output_type = \"multiple\";", "multiple_choice");
    refused("files = [ \"a\" ]; metrics = ( \"accurracy\" );", "did you mean 'accuracy'?");
    refused("files = [ \"a\" ]; metrics = ( { plugin = \"accuracy\"; per = \"word\"; } );",
            "option 'per'");
    refused(GENERATE "filters = ( { steps = (); } );", "name");
    refused(GENERATE "filters = ( { name = \"a\"; steps = ( { function = \"regexp\"; } ); } );",
            "regex");
}

Test(task, missing_parts_are_named)
{
    refused("doc_to_text = \"\";", "task.files is missing");
    refused("files = [ \"a.jsonl\" ];", "task.choices is missing");
    refused("files = [ \"a.jsonl\" ];", "task.gold is missing: name the correct choice");
    refused("files = [ \"a.jsonl\" ];", "task.metrics names no metric for choices");
    refused("files = [ \"a.jsonl\" ]; output_type = \"generate_until\";",
            "task.doc_to_text is missing");
    refused("files = [ \"a.jsonl\" ]; output_type = \"generate_until\";",
            "task.doc_to_target is missing");
    refused("files = [ \"a.jsonl\" ]; output_type = \"generate_until\";",
            "task.metrics names no metric for generated text");
    refused(CHOICES "fewshot_context = \"{{text}}\";", "task.fewshot_begin is missing");
}

Test(task, contradictions_are_named)
{
    refused(CHOICES "doc_to_choice = [ \"a\", \"b\" ];",
            "task.doc_to_choice has several templates");
    refused(CHOICES "label = \"{{l}}\"; labels = [ \"a\" ];", "remove one");
    refused("files = [ \"a.jsonl\" ]; doc_to_choice = [ \"a\", \"b\" ]; labels = [ \"x\" ];"
            "gold = \"{{g}}\"; metrics = ( \"accuracy\" );",
            "task.labels and doc_to_choice have different lengths");
    refused(CHOICES "fewshot_text = [ \"x\" ]; fewshot_split = \"dev\";", "task.fewshot_text and");
    refused(CHOICES "by_regex = \"a\";", "task.by_regex needs task.by");
    refused(GENERATE "multiple_inputs = true;", "task.multiple_inputs needs");
}

Test(task, templates_and_patterns_are_checked_when_it_is_opened)
{
    refused(CHOICES "description = \"{{q\";", "task.description: the template '{{q' has '{{'");
    refused(CHOICES "doc_to_choice = [ \"{{/a}}\" ];", "task.doc_to_choice: the template");
    refused(GENERATE "filters = ( { name = \"a\"; steps = ( { pattern = \"(\"; } ); } );",
            "task.filters: step 1: the pattern '(' is invalid at character 2: missing closing");
    refused(GENERATE "by = \"{{q}}\"; by_regex = \"[\";", "task.by_regex: step 1: the pattern '['");
}

Test(task, a_file_that_is_no_task)
{
    td_task_spec spec = task_spec();
    td_errors    errors = { 0 };
    char        *path = td_path_join(task_directory, "other.cfg");
    task_write("other.cfg", "run = { name = \"x\"; };\n");
    cr_expect(!td_task_open(&spec, path, &errors));
    cr_expect(strstr(td_text_get(&errors.text), "it has no group 'task'"), "%s",
              td_text_get(&errors.text));
    td_errors_free(&errors);
    cr_expect(!td_task_open(&spec, "small/bolq", &errors));
    cr_expect(strstr(td_text_get(&errors.text),
                     "unknown task 'small/bolq'; did you mean 'small/boolq'?"),
              "%s", td_text_get(&errors.text));
    td_errors_free(&errors);
    cr_expect(!td_task_open(&spec, "/nowhere/mine.cfg", &errors));
    cr_expect(strstr(td_text_get(&errors.text), "/nowhere/mine.cfg"), "%s",
              td_text_get(&errors.text));
    td_errors_free(&errors);
    free(path);
}

/* ---- items ------------------------------------------------------------------------------------ */

static td_task_item item_of(const td_task *t, size_t k)
{
    td_task_item i;
    td_error     e = { 0 };
    cr_assert_eq(td_task_item_open(t, json_array_get(t->items.all, k), &i, &e), 0, "%s", e.text);
    return i;
}

Test(task, choices_by_index)
{
    td_task     *t;
    td_task_item i;
    task_write("items.jsonl", "{\"q\": \"Red?\", \"options\": [\"no\", \"yes\"], \"answer\": 1}\n");
    t = task_open(CHOICES "version = 3; groups = [ \"g\" ];");
    i = item_of(t, 0);
    cr_expect_str_eq(t->options.name, "mine");
    cr_expect_eq(t->options.version, 3);
    cr_expect_str_eq(i.text, "Red?");
    cr_expect_eq(i.n_choices, 2);
    cr_expect_str_eq(i.choices[0], "no");
    cr_expect_eq(i.gold, 1);
    cr_expect_str_eq(i.target, "yes");
    cr_expect_eq(i.n_references, 1);
    td_task_item_close(&i);
    td_task_close(t);
}

Test(task, choices_by_label)
{
    td_task     *t;
    td_task_item i;
    task_write("items.jsonl", "{\"q\": \"?\", \"options\": [{\"text\": \"sun\", \"label\": \"1\"}, "
                              "{\"text\": \"rain\", \"label\": \"2\"}], \"answer\": \"2\"}\n");
    t = task_open(CHOICES "doc_to_choice = [ \"({{@letter}}) {{text}}\" ]; label = \"{{label}}\";");
    i = item_of(t, 0);
    cr_expect_eq(i.gold, 1);
    cr_expect_str_eq(i.target, "(B) rain");
    td_task_item_close(&i);
    td_task_close(t);
}

Test(task, fixed_choices_with_labels)
{
    td_task     *t;
    td_task_item i;
    task_write("items.jsonl",
               "{\"q\": \"Red?\", \"answer\": true}\n{\"q\": \"?\", \"answer\": 7}\n");
    t = task_open("files = [ \"items.jsonl\" ]; doc_to_text = \"{{q}}\"; gold = \"{{answer}}\";"
                  "doc_to_choice = [ \"no\", \"yes\" ]; labels = [ \"false\", \"true\" ];"
                  "metrics = ( \"accuracy\" );");
    i = item_of(t, 0);
    cr_expect_str_eq(i.choices[i.gold], "yes");
    td_task_item_close(&i);
    td_error e = { 0 };
    cr_expect_eq(td_task_item_open(t, json_array_get(t->items.all, 1), &i, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "task.gold is '7', which is not the label of any of the 2 choices"),
              "%s", e.text);
    td_task_item_close(&i);
    td_task_close(t);
}

Test(task, references_and_parts)
{
    td_task     *t;
    td_task_item i;
    task_write("items.jsonl", "{\"q\": \"?\", \"answer\": \"so #### 1,018\", \"kind\": \"a_test\", "
                              "\"names\": [\"18 it is\", \"19\"]}\n");
    t = task_open(GENERATE "by = \"{{kind}}\"; by_regex = \"(.*)_test\";"
                           "reference_steps = ( { function = \"last_number\"; } );");
    i = item_of(t, 0);
    cr_expect_str_eq(i.by, "a");
    cr_expect_str_eq(i.target, "so #### 1,018");
    cr_expect_str_eq(i.references[0], "1018");
    td_task_item_close(&i);
    td_task_close(t);
    t = task_open(GENERATE "references = \"names\";");
    i = item_of(t, 0);
    cr_expect_eq(i.n_references, 2);
    cr_expect_str_eq(i.references[1], "19");
    td_task_item_close(&i);
    td_task_close(t);
}

static void no_item(const char *lines, const char *doc, const char *says)
{
    td_error     e = { 0 };
    td_task_item i;
    td_task     *t;
    task_write("items.jsonl", doc);
    t = task_open(lines);
    cr_expect_eq(td_task_item_open(t, json_array_get(t->items.all, 0), &i, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, says), "'%s' is not in: %s", says, e.text);
    td_task_item_close(&i);
    td_task_close(t);
}

Test(task, an_item_that_does_not_fit_is_refused)
{
    no_item(CHOICES, "{\"options\": [\"a\"], \"answer\": 0}", "has no field 'q'; it has: options");
    no_item(CHOICES, "{\"q\": \"\", \"answer\": 0}", "has no field 'options', which task.choices");
    no_item(CHOICES, "{\"q\": \"\", \"options\": \"a\", \"answer\": 0}",
            "is not a list of choices");
    no_item(CHOICES, "{\"q\": \"\", \"options\": [], \"answer\": 0}", "is not a list of choices");
    no_item(CHOICES, "{\"q\": \"\", \"options\": [\"a\"], \"answer\": 1}",
            "task.gold is '1': it must be the index of one of the 1 choices");
    no_item(CHOICES, "{\"q\": \"\", \"options\": [\"a\"], \"answer\": \"A\"}",
            "or set task.labels");
    no_item(GENERATE "references = \"names\";", "{\"q\": \"\", \"answer\": \"\", \"names\": [1]}",
            "'names.0' is not a text");
    no_item(GENERATE "reference_steps = ( { function = \"last_number\"; } );",
            "{\"q\": \"\", \"answer\": \"none\"}", "find nothing in the correct answer 'none'");
    no_item(GENERATE "by = \"{{q}}\"; by_regex = \"x\";", "{\"q\": \"y\", \"answer\": \"\"}",
            "task.by is 'y', in which task.by_regex 'x' matches nothing");
}

Test(task, files_without_items_are_refused)
{
    td_errors errors = { 0 };
    td_error  e = { 0 };
    td_task  *t;
    task_write("items.jsonl", "{\"split\": \"dev\"}\n");
    t = task_try(CHOICES "split = \"test\";", &errors);
    cr_assert(t, "%s", td_text_get(&errors.text));
    cr_expect_eq(td_task_read(t, task_directory, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "task 'mine': 'items.jsonl' has no items of split 'test'"), "%s",
              e.text);
    td_task_close(t);
}

/* ---- those that are shipped -------------------------------------------------------------------- */

/* Each task opens. If TANDEM_TASK_DATA names the data, a prompt can be made from each of its
 * items as well. */
Test(task, all_shipped_tasks_open)
{
    const char  *data = getenv("TANDEM_TASK_DATA");
    td_task_spec spec = task_spec();
    td_error     e = { 0 };
    char       **names = NULL;
    int64_t      n = td_task_names(&spec, &names, &e);
    cr_assert_gt(n, 20, "%s", e.text);
    for (int64_t k = 0; k < n; k++) {
        td_errors errors = { 0 };
        td_task  *t = td_task_open(&spec, names[k], &errors);
        cr_expect(t, "%s", td_text_get(&errors.text));
        cr_expect(!t || (*t->options.brief && t->options.groups.count), "%s", names[k]);
        if (t && data && !strncmp(names[k], "small/", 6)) {
            cr_expect_eq(td_task_read(t, data, &e), 0, "%s", e.text);
            for (size_t i = 0; i < json_array_size(t->items.all); i++) {
                td_task_item item = item_of(t, i);
                td_task_item_close(&item);
            }
        }
        td_task_close(t);
        td_errors_free(&errors);
    }
    td_free_names(names, n);
}

/* docs/tasks.md shows sums.cfg, except for its first line, which says where the data is. */
Test(task, the_page_shows_a_task_that_is_shipped)
{
    td_error e = { 0 };
    char    *page = td_file_read(TANDEM_SOURCE "/docs/tasks.md", NULL, &e);
    char    *file = td_file_read(TANDEM_SOURCE "/configs/tasks/sums.cfg", NULL, &e);
    td_text  shown = { 0 };
    cr_assert(page && file, "%s", e.text);
    for (char *line = strchr(file, '\n') + 1; *line;) {
        size_t n = strcspn(line, "\n") + 1;
        td_text_print(&shown, "    %.*s", (int)n, line);
        line += n;
    }
    cr_expect(strstr(page, td_text_get(&shown)), "docs/tasks.md shows a different task from\n%s",
              td_text_get(&shown));
    td_text_free(&shown);
    free(page);
    free(file);
}
