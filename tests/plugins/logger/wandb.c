/* wandb.c - logger 'wandb': the file's frames and records, walked through by a reader of its own, and
 * resuming. The records were compared with those of wandb's own client, version 0.31. */
#include "module.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "tandem/kind/logger.h"

static char             directory[64];
static const char      *config[] = { "wandb", "mine", "", "g" }; /* its options, in order */
static const td_logger *logger;

static void setup(void)
{
    strcpy(directory, "/tmp/test-wandb-XXXXXX");
    cr_assert(mkdtemp(directory));
    logger = module_plugin("logger-wandb.so");
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(wandb, .init = setup, .fini = teardown);

/* ---- a reader -------------------------------------------------------------------------------- */

/* CRC-32 bit by bit, as in zip files. */
static uint32_t crc(const unsigned char *data, size_t size)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < size; i++) {
        c ^= data[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0xEDB88320u & (0u - (c & 1u)));
    }
    return ~c;
}

static char *wandb_file(void)
{
    char   pattern[200], *path;
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/wandb/offline-run-*-*/run-*.wandb", directory);
    cr_assert(!glob(pattern, 0, NULL, &found) && found.gl_pathc == 1, "one file: %s", pattern);
    path = strdup(found.gl_pathv[0]);
    globfree(&found);
    return path;
}

/* All records, joined: pieces end where blocks do, and have the checksum of type and bytes. */
static td_text read_pieces(size_t *records)
{
    td_error       e = { 0 };
    td_text        all = { 0 };
    char          *path = wandb_file();
    size_t         size, at = 7;
    unsigned char *d = (unsigned char *)td_file_read(path, &size, &e);
    cr_assert(d && size > 7 && !memcmp(d, ":W&B\xE1\xBE", 7), "%s", e.text);
    *records = 0;
    while (at < size) {
        size_t        left = 32768 - at % 32768, n;
        uint32_t      sum;
        unsigned char type;
        if (left < 7) {
            at += left;
            continue;
        }
        memcpy(&sum, d + at, 4);
        n = d[at + 4] + 256u * d[at + 5];
        type = d[at + 6];
        cr_assert(n <= left - 7 && at + 7 + n <= size && type >= 1 && type <= 4);
        cr_assert_eq(crc(d + at + 6, n + 1), sum);
        td_text_append(&all, (char *)d + at + 7, n);
        *records += type == 1 || type == 4;
        at += 7 + n;
    }
    free(d);
    free(path);
    return all;
}

/* How often a text of this length occurs, with its length in front as protocol buffers have it. */
static int occurrences(const td_text *all, const char *text)
{
    size_t n = strlen(text);
    int    found = 0;
    for (size_t k = 1; k + n <= all->size; k++)
        found += (unsigned char)all->data[k - 1] == n && !memcmp(all->data + k, text, n);
    return found;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_steps(td_logger_in in, int64_t from, int64_t to, const td_metric *m, size_t n)
{
    td_error error = { 0 };
    void    *state;
    in.services = &module_services;
    in.directory = directory;
    cr_assert_eq(logger->open(config, &in, &state, &error), 0, "%s", error.text);
    for (int64_t step = from; step <= to; step++)
        cr_assert_eq(logger->write(state, step, m, n, &error), 0, "%s", error.text);
    cr_assert_eq(logger->flush(state, &error), 0, "%s", error.text);
    logger->close(state);
}

static void write_config(const char *text)
{
    char  path[100];
    FILE *f;
    snprintf(path, sizeof path, "%s/config.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

Test(wandb, a_run_with_its_config)
{
    td_metric m[] = { { "train/loss", 0.1, false },
                      { "bad", NAN, false },
                      { "x", INFINITY, true } };
    td_text   all;
    size_t    records;
    write_config(
        "model = { layers = 3; rates = ( 0.5, 1 ); name = \"a\"; }; train = { on = true; };");
    write_steps((td_logger_in){ 0 }, 1, 2, m, 3);
    all = read_pieces(&records);
    cr_expect_eq(records, 2 + 2 * 2 + 1, "header, run, summary and row of each step, exit");
    cr_expect_eq(occurrences(&all, "mine"), 1);
    cr_expect_eq(occurrences(&all, "{\"layers\":3,\"rates\":[0.5,1],\"name\":\"a\"}"), 1);
    cr_expect_eq(occurrences(&all, "{\"on\":true}"), 1);
    cr_expect_eq(occurrences(&all, "train/loss"), 4);
    cr_expect_eq(occurrences(&all, "0.10000000000000001"), 4);
    cr_expect_eq(occurrences(&all, "NaN"), 4);
    cr_expect_eq(occurrences(&all, "Infinity"), 4);
    cr_expect_eq(occurrences(&all, "_step"), 4);
    td_text_free(&all);
}

/* Metrics of one step that come one after the other are one row. */
Test(wandb, one_row_for_a_step)
{
    td_metric    a = { "a", 1, false }, b = { "b", 2, false };
    td_logger_in in = { .services = &module_services, .directory = directory };
    td_error     error = { 0 };
    td_text      all;
    size_t       records;
    void        *state;
    cr_assert_eq(logger->open(config, &in, &state, &error), 0, "%s", error.text);
    cr_assert_eq(logger->write(state, 1, &a, 1, &error), 0);
    cr_assert_eq(logger->write(state, 1, &b, 1, &error), 0);
    logger->close(state);
    all = read_pieces(&records);
    cr_expect_eq(records, 2 + 2 + 1);
    td_text_free(&all);
}

Test(wandb, a_resumed_run_writes_its_rows_once)
{
    td_metric m[] = { { "train/loss", 7, false }, { "evaluate/nll", 8, false } };
    td_metric again = { "evaluate/nll", 9, false };
    td_text   all;
    size_t    records;
    write_steps((td_logger_in){ 0 }, 1, 3, m, 1);
    write_steps((td_logger_in){ .resume = 2, .written = 3 }, 2, 2, m, 2);
    all = read_pieces(&records);
    cr_expect_eq(records, 2 + 2 + 1 + 2 + 1, "a record with the config is new");
    cr_expect_eq(occurrences(&all, "train/loss"), 4);
    td_text_free(&all);
    /* the evaluation is repeated: the rest of its row stays */
    write_steps((td_logger_in){ .resume = 3, .written = 2, .evaluate_again = true }, 2, 2, &again,
                1);
    all = read_pieces(&records);
    cr_expect_eq(records, 2 + 2 + 2 + 2 + 1);
    cr_expect_eq(occurrences(&all, "train/loss"), 4);
    cr_expect_eq(occurrences(&all, "evaluate/nll"), 2);
    cr_expect_eq(occurrences(&all, "8"), 0);
    cr_expect_eq(occurrences(&all, "9"), 2);
    td_text_free(&all);
}

/* Records that cross the border of a block, and a crash in the middle of one. */
Test(wandb, long_files_and_torn_ones)
{
    td_metric m[40];
    char      names[40][100], *path;
    td_text   all;
    size_t    records, cut;
    for (int k = 0; k < 40; k++) {
        snprintf(names[k], sizeof names[k], "train/a-name-that-takes-space/%060d", k);
        m[k] = (td_metric){ names[k], k, false };
    }
    write_steps((td_logger_in){ 0 }, 1, 30, m, 40);
    all = read_pieces(&records);
    cr_expect(all.size > 4 * 32768 && records == 2 + 60 + 1);
    td_text_free(&all);
    path = wandb_file();
    cut = (size_t)td_file_size(path) - 3000; /* within the last row */
    cr_assert_eq(truncate(path, (off_t)cut), 0);
    free(path);
    write_steps((td_logger_in){ .resume = 30, .written = 29 }, 30, 30, m, 40);
    all = read_pieces(&records);
    cr_expect_eq(records, 2 + 2 * 29 + 1 + 2 + 1);
    td_text_free(&all);
}

Test(wandb, what_is_no_file_of_wandbs)
{
    td_metric    m = { "a", 1, false };
    td_logger_in in = { .services = &module_services, .directory = directory, .resume = 2 };
    td_error     error = { 0 };
    void        *state;
    char        *path;
    FILE        *f;
    write_steps((td_logger_in){ 0 }, 1, 1, &m, 1);
    path = wandb_file();
    f = fopen(path, "w");
    cr_assert(f && fputs("something else", f) >= 0 && !fclose(f));
    free(path);
    cr_expect_eq(logger->open(config, &in, &state, &error), TD_EFORMAT);
    cr_expect(strstr(error.text, "is not a wandb file"), "%s", error.text);
}
