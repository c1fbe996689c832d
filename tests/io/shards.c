/* shards.c - models in several files: what is read, and which indexes are refused. */
#include "io/shards.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64];

static void setup(void)
{
    strcpy(folder, "/tmp/tandem-shards-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void teardown(void) { td_remove_tree(folder, NULL); }

TestSuite(shards, .init = setup, .fini = teardown);

static char *in_folder(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A file of one tensor [3]. */
static void write_shard(const char *file, const char *tensor, float first)
{
    float     values[] = { first, 2, 3 };
    td_stored t = {
        .name = tensor, .type = TD_STORED_F32, .rank = 1, .dim = { 3 }, .data = values
    };
    cr_assert(!td_safetensors_write(in_folder(file), &t, 1, NULL, NULL));
}

static void write_index(const char *map)
{
    char text[1000];
    int  n = snprintf(text, sizeof text, "{\"metadata\": {}, \"weight_map\": %s}", map);
    cr_assert(!td_file_write(in_folder("model.safetensors.index.json"), text, (size_t)n, NULL));
}

static void write_two(void)
{
    write_shard("a.safetensors", "x", 5);
    write_shard("b.safetensors", "y", 7);
}

static void expect_refused(const char *map, const char *text)
{
    td_error   e = { 0 };
    td_shards *s;
    write_index(map);
    s = td_shards_open(folder, &e);
    cr_expect(!s, "%s was read", map);
    cr_expect(strstr(e.text, text), "'%s' is not in: %s", text, e.text);
    td_shards_close(s);
}

Test(shards, all_files_are_one_set)
{
    td_error   e = { 0 };
    td_shards *s;
    float      y[3];
    write_two();
    write_index("{\"y\": \"b.safetensors\", \"x\": \"a.safetensors\"}");
    s = td_shards_open(folder, &e);
    cr_assert(s, "%s", e.text);
    cr_expect_eq(td_shards_count(s), 2);
    cr_expect_str_eq(td_shards_at(s, 0)->name, "y");
    cr_assert(!td_stored_floats(td_shards_find(s, "y"), y, 3, NULL));
    cr_expect_eq(y[0], 7);
    cr_expect(!td_shards_find(s, "z"));
    td_shards_close(s);
}

Test(shards, a_single_file_counts_before_an_index)
{
    td_error   e = { 0 };
    td_shards *s;
    write_index("nonsense");
    write_shard("model.safetensors", "z", 1);
    s = td_shards_open(folder, &e);
    cr_assert(s, "%s", e.text);
    cr_expect(td_shards_find(s, "z"));
    td_shards_close(s);
    s = td_shards_open(in_folder("model.safetensors"), &e);
    cr_expect(s && td_shards_count(s) == 1, "%s", e.text);
    td_shards_close(s);
}

Test(shards, indexes_that_do_not_fit_the_files_are_refused)
{
    write_two();
    expect_refused("{\"x\": \"b.safetensors\"}",
                   "has no tensor 'x', which the index says is in it");
    expect_refused("{\"x\": \"a.safetensors\", \"z\": \"a.safetensors\"}", "has no tensor 'z'");
    write_shard("c.safetensors", "x", 5);
    expect_refused("{\"x\": \"a.safetensors\", \"y\": \"b.safetensors\", \"z\": \"c.safetensors\"}",
                   "tensor 'x' is in another file, too");
    expect_refused("{\"x\": \"d.safetensors\"}", "d.safetensors");
    expect_refused("{\"x\": 5}", "names no file for 'x'");
    expect_refused("[]", "has no object \"weight_map\"");
    expect_refused("{", "is not valid JSON");
    expect_refused("{\"x\": \"a.safetensors\", \"x\": \"a.safetensors\"}", "is not valid JSON");
}

/* A surplus tensor is one that the index does not list. */
Test(shards, files_with_more_tensors_than_the_index_are_refused)
{
    float     values[] = { 1, 2 };
    td_stored two[] = {
        { .name = "x", .type = TD_STORED_F32, .rank = 1, .dim = { 2 }, .data = values },
        { .name = "w", .type = TD_STORED_F32, .rank = 1, .dim = { 2 }, .data = values },
    };
    cr_assert(!td_safetensors_write(in_folder("a.safetensors"), two, 2, NULL, NULL));
    expect_refused("{\"x\": \"a.safetensors\"}", "have 2 tensors, but their index lists 1");
}

Test(shards, an_index_cannot_name_files_elsewhere)
{
    write_two();
    expect_refused("{\"x\": \"../a.safetensors\"}", "it may name up to 4096 files in its folder");
    expect_refused("{\"x\": \"/etc/passwd\"}", "it may name up to 4096 files in its folder");
    expect_refused("{\"x\": \"\"}", "it may name up to 4096 files in its folder");
}
