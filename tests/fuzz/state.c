/* state.c - fuzz target: any bytes as the state.json of a checkpoint, and the config kept in it. */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "put.h"

#include "config/config.h"
#include "model/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Read as `--weights` reads it: as text, whatever it names. */
static void read_config(const char *text)
{
    td_config_sources sources = { .texts = &text, .n_texts = 1, .n_kept = 1 };
    td_errors         errors = { 0 };
    td_text           printed = { 0 };
    td_config        *c = td_config_read(&sources, &errors);
    if (c) {
        td_config_take_text(c);
        td_config_print_kept(c, &printed);
        td_config_free(c);
    } else if (!errors.count)
        abort();
    td_text_free(&printed);
    td_errors_free(&errors);
}

/* What was accepted is the same after it was saved again. */
static void save_again(const char *directory, const char *file, const td_progress *p,
                       const char *about)
{
    td_progress again = { 0 };
    td_error    error = { 0 };
    if (td_state_save(file, p, about, &error) ||
        td_checkpoint_progress(directory, &again, &error) || memcmp(p, &again, sizeof again))
        abort();
}

static void read_all(const char *directory, const char *file)
{
    td_error    e = { 0 }, f = { 0 };
    td_progress progress = { 0 };
    char       *about = td_checkpoint_about(directory, &e);
    json_t     *j = about ? json_loads(about, 0, NULL) : NULL;
    const char *config = json_string_value(json_object_get(j, "config"));
    int         code = td_checkpoint_progress(directory, &progress, &f);
    if ((!about && !*e.text) || (code && !*f.text) || (about && !j))
        abort();
    if (config)
        read_config(config);
    if (!code)
        save_again(directory, file, &progress, about);
    json_decref(j);
    free(about);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char directory[64], file[96];
    snprintf(directory, sizeof directory, "/tmp/fuzz-state-%d", (int)getpid());
    snprintf(file, sizeof file, "%s/state.json", directory);
    mkdir(directory, 0700);
    put(file, data, size);
    read_all(directory, file);
    unlink(file);
    rmdir(directory);
    return 0;
}
