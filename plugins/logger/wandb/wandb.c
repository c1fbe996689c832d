/* wandb.c - logger 'wandb': a run as wandb's own client writes it offline, for `wandb sync`.
 *
 *     RUN/wandb/offline-run-20260131_120000-1a2b3c4d/run-1a2b3c4d.wandb
 *
 * The file is a list of records (records.h), each a protocol buffer: a header, the run with its
 * config, then for each step a summary and a row of the history, and at the end an exit. Nothing is
 * sent: `wandb sync RUN/wandb/offline-run-..` uploads it, from any machine.
 *
 * All metrics of a step are one row, so they are collected until the next step or a flush. A resumed
 * run keeps its id, and cuts its file off at the first row that it will write again.
 */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "place.h"
#include "records.h"
#include "settings.h"
#include "tandem/kind/logger.h"

struct wandb {
    const char *folder, *project, *entity, *group;
};

static const td_option options[] = {
    TD_OPTION_STRING(struct wandb, folder, "wandb", "folder within the run's directory"),
    TD_OPTION_STRING(struct wandb, project, "tandem", "project to upload to"),
    TD_OPTION_STRING(struct wandb, entity, "", "user or team to upload to; empty: the default one"),
    TD_OPTION_STRING(struct wandb, group, "", "group of runs, such as the seeds of one config"),
    TD_OPTION_END
};

static int check(const void *config, td_error *error)
{
    return check_place("folder", ((const struct wandb *)config)->folder, error);
}

/* Fields of Record, and of the messages in it. */
enum {
    NUM = 1,
    HISTORY = 2,
    SUMMARY = 3,
    CONFIG = 5,
    RUN = 17,
    EXIT = 18,
    HEADER = 21,
    INFO = 200
};
enum { ITEM = 1, STEP = 2 };              /* of a history; a summary has the same items */
enum { NESTED_KEY = 2, VALUE_JSON = 16 }; /* of an item */

enum { ID = 8 }; /* characters of a run's id */

typedef struct run {
    FILE              *file;
    char               id[ID + 1], path[4096];
    const td_services *services;
    double             start;
    uint64_t           records; /* so far */
    long               sealed;  /* where the exit record at the file's end begins; -1: none */
    message            row;     /* the items of `step` that are not written yet */
    int64_t            step;
} run;

static int fail(const run *r, td_error *error)
{
    return td_fail(error, TD_EIO, "cannot write the run for wandb to '%s': %s", r->path,
                   place_reason(errno));
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- records --------------------------------------------------------------------------------- */

/* Write a record with `inner`, which is freed, as its field `tag`. */
static int write_record(run *r, unsigned tag, message *inner, td_error *error)
{
    message record = { 0 }, info = { 0 };
    bool    ok;
    message_number(&record, NUM, ++r->records);
    message_message(&record, tag, inner);
    message_text(&info, 1, r->id);
    message_message(&record, INFO, &info);
    ok = !record.failed && records_append(r->file, record.data, record.size);
    if (!ok && record.failed)
        td_fail(error, TD_ENOMEM, "out of memory for a wandb record");
    free(record.data);
    return ok ? 0 : fail(r, error);
}

/* A number as Python's json writes it, which is what wandb reads. */
static void put_item(message *to, const char *name, double value)
{
    message item = { 0 };
    char    text[32];
    if (isfinite(value))
        snprintf(text, sizeof text, "%.17g", value);
    else
        strcpy(text, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    message_text(&item, NESTED_KEY, name);
    message_text(&item, VALUE_JSON, text);
    message_message(to, ITEM, &item);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* RunExitRecord { exit_code = 1 }. A flush ends the file with a failure, so that a run that is killed
 * counts as failed; only an orderly end makes it 0. Both have the same size. */
static int seal(run *r, uint64_t exit_code, td_error *error)
{
    message m = { 0 };
    r->sealed = ftell(r->file);
    message_number(&m, 1, exit_code);
    return write_record(r, EXIT, &m, error);
}

/* Remove the exit record: more follows. */
static int unseal(run *r, td_error *error)
{
    if (r->sealed < 0)
        return 0;
    if (fflush(r->file) || ftruncate(fileno(r->file), r->sealed) ||
        fseek(r->file, r->sealed, SEEK_SET))
        return fail(r, error);
    r->sealed = -1;
    r->records--;
    return 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Write the row that was collected; its summary has the latest value of every metric. */
static int write_row(run *r, td_error *error)
{
    message summary = { 0 }, history, step = { 0 };
    double  now = seconds();
    int     code;
    if (!r->row.size && !r->row.failed)
        return 0;
    if (unseal(r, error))
        return TD_EIO;
    put_item(&r->row, "_step", (double)r->step);
    put_item(&r->row, "_timestamp", now);
    put_item(&r->row, "_runtime", now - r->start);
    message_append(&summary, r->row.data, r->row.size);
    history = r->row;
    r->row = (message){ 0 };
    message_number(&step, 1, (uint64_t)r->step);
    message_message(&history, STEP, &step);
    code = write_record(r, SUMMARY, &summary, error);
    if (code)
        free(history.data);
    return code ? code : write_record(r, HISTORY, &history, error);
}

static void put_time(message *to, unsigned tag, double when)
{
    message m = { 0 };
    double  whole = floor(when);
    message_number(&m, 1, (uint64_t)whole);
    message_number(&m, 2, (uint64_t)((when - whole) * 1e9));
    message_message(to, tag, &m);
}

/* ---- a new run ------------------------------------------------------------------------------- */

static void put_name(message *to, unsigned tag, const char *name)
{
    if (*name)
        message_text(to, tag, name);
}

/* RunRecord: 1 run_id, 2 entity, 3 project, 4 config, 6 run_group, 8 display_name, 13 host, 17
 * start_time. */
static int write_run(run *r, const struct wandb *c, const td_logger_in *in, message *settings,
                     td_error *error)
{
    const char *slash = strrchr(in->directory, '/');
    char        host[128] = "";
    message     m = { 0 };
    gethostname(host, sizeof host - 1);
    message_text(&m, 1, r->id);
    put_name(&m, 2, c->entity);
    put_name(&m, 3, c->project);
    message_message(&m, 4, settings);
    put_name(&m, 6, c->group);
    put_name(&m, 8, slash ? slash + 1 : in->directory);
    put_name(&m, 13, host);
    put_time(&m, 17, r->start);
    return write_record(r, RUN, &m, error);
}

/* HeaderRecord { version_info = 1 { producer = 1, min_consumer = 2 } } */
static int write_header(run *r, td_error *error)
{
    message m = { 0 }, version = { 0 };
    message_text(&version, 1, "tandem");
    message_text(&version, 2, "0.70.0");
    message_message(&m, 1, &version);
    return records_begin(r->file) ? write_record(r, HEADER, &m, error) : fail(r, error);
}

/* An id of letters and digits that no other run has: from time, process and directory (FNV-1a). */
static void make_id(run *r, const char *directory)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    struct timespec   now;
    uint64_t          hash = 0xCBF29CE484222325u;
    clock_gettime(CLOCK_REALTIME, &now);
    hash = (hash ^ (uint64_t)now.tv_nsec) * 0x100000001B3u;
    hash = (hash ^ (uint64_t)now.tv_sec) * 0x100000001B3u;
    hash = (hash ^ (uint64_t)getpid()) * 0x100000001B3u;
    for (const char *c = directory; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001B3u;
    for (int k = 0; k < ID; k++, hash /= 36)
        r->id[k] = letters[hash % 36];
}

static int make_folder(const char *path, td_error *error)
{
    return mkdir(path, 0777) && errno != EEXIST
               ? td_fail(error, TD_EIO, "cannot create the folder '%s': %s", path, strerror(errno))
               : 0;
}

/* The folder of a run and, in it, `files`, which wandb looks for. */
static int make_folders(run *r, const char *top, td_error *error)
{
    char      day[32], path[3900], files[4000];
    time_t    now = (time_t)r->start;
    struct tm when;
    localtime_r(&now, &when);
    strftime(day, sizeof day, "%Y%m%d_%H%M%S", &when);
    snprintf(path, sizeof path, "%s/offline-run-%s-%s", top, day, r->id);
    snprintf(files, sizeof files, "%s/files", path);
    snprintf(r->path, sizeof r->path, "%s/run-%s.wandb", path, r->id);
    return make_folder(top, error) || make_folder(path, error) || make_folder(files, error) ? TD_EIO
                                                                                            : 0;
}

static int open_file(run *r, int flags, td_error *error)
{
    int fd = open_place(r->path, O_RDWR | flags);
    r->file = fd < 0 ? NULL : fdopen(fd, "r+");
    if (r->file)
        return 0;
    fail(r, error);
    if (fd >= 0)
        close(fd);
    return TD_EIO;
}

static int begin(run *r, const struct wandb *c, const td_logger_in *in, const char *top,
                 message *settings, td_error *error)
{
    int code;
    make_id(r, in->directory);
    code = make_folders(r, top, error);
    if (!code)
        code = open_file(r, O_EXCL, error);
    if (!code)
        code = write_header(r, error);
    return code ? code : write_run(r, c, in, settings, error);
}

/* ---- a resumed run --------------------------------------------------------------------------- */

/* The file of the run's latest folder. False: it has none. */
static bool find_file(run *r, const char *top)
{
    DIR  *d = opendir(top);
    char  best[256] = "";
    char *id;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (!strncmp(e->d_name, "offline-run-", 12) && strcmp(e->d_name, best) > 0)
            snprintf(best, sizeof best, "%s", e->d_name);
    if (d)
        closedir(d);
    id = strrchr(best, '-');
    if (!id || strlen(id + 1) != ID)
        return false;
    strcpy(r->id, id + 1);
    return snprintf(r->path, sizeof r->path, "%s/%s/run-%s.wandb", top, best, r->id) <
           (int)sizeof r->path;
}

/* The value of a field of bytes, or of a number; the last one, as protocol buffers have it. */
static field find(const unsigned char *data, size_t size, unsigned tag)
{
    const unsigned char *at = data;
    field                f, found = { 0 };
    while (size && message_next(&at, data + size, &f))
        if (f.tag == tag)
            found = f;
    return found;
}

static bool begins_with(field name, const char *group)
{
    size_t n = strlen(group);
    return name.size >= n && !memcmp(name.data, group, n);
}

/* Collect the items of a row again, except those that the resumed run will compute or measure. */
static void take_row(run *r, field history, const td_logger_in *in)
{
    const unsigned char *at = history.data;
    field                f;
    while (message_next(&at, history.data + history.size, &f)) {
        field name = f.tag == ITEM ? find(f.data, f.size, NESTED_KEY) : (field){ 0 };
        if (name.data && !begins_with(name, "_") &&
            !(in->evaluate_again && begins_with(name, "evaluate/")) &&
            !(in->score_again && begins_with(name, "tasks/")))
            message_bytes(&r->row, ITEM, f.data, f.size);
    }
}

/* Whether the file ends at this record, whose step is the last one read if it is a row. */
static bool ends_at(run *r, const message *record, const td_logger_in *in, int64_t *last)
{
    field   history = find(record->data, record->size, HISTORY);
    field   step = find(history.data, history.size, STEP);
    int64_t number = (int64_t)find(step.data, step.size, 1).number;
    if (find(record->data, record->size, EXIT).data)
        return true;
    if (!history.data)
        return false;
    if (number >= in->resume)
        return true;
    *last = number;
    if (number != in->resume - 1 || !(in->evaluate_again || in->score_again))
        return false;
    r->step = number;
    take_row(r, history, in);
    return true;
}

/* The run began when its first part did. */
static void take_start(run *r, field run_record)
{
    field    time = find(run_record.data, run_record.size, 17);
    uint64_t whole = find(time.data, time.size, 1).number,
             nano = find(time.data, time.size, 2).number;
    if (whole)
        r->start = (double)whole + 1e-9 * (double)nano;
}

/* Where to continue: after the last record to keep. A row's summary stands before the row. */
static long find_end(run *r, const td_logger_in *in, int64_t *last)
{
    message record = { 0 };
    long    keep = ftell(r->file);
    while (records_next(r->file, &record)) {
        if (ends_at(r, &record, in, last))
            break;
        if (find(record.data, record.size, SUMMARY).data)
            continue; /* kept only with the row after it */
        keep = ftell(r->file);
        take_start(r, find(record.data, record.size, RUN));
        r->records = find(record.data, record.size, NUM).number;
    }
    free(record.data);
    return keep;
}

static int go_on(run *r, const td_logger_in *in, message *settings, td_error *error)
{
    int64_t last = 0;
    long    end;
    if (!records_open(r->file))
        return td_fail(error, TD_EFORMAT,
                       "'%s' is not a wandb file: remove its folder, and the run continues "
                       "with a new one",
                       r->path);
    end = find_end(r, in, &last);
    if (ftruncate(fileno(r->file), end) || fseek(r->file, end, SEEK_SET))
        return fail(r, error);
    if (last < in->written && last < in->resume - 1)
        in->services->log(in->services, TD_LOG_WARN,
                          "'%s' lacks the metrics of steps %lld to %lld, which were written: the "
                          "run continues without them",
                          r->path, (long long)last + 1, (long long)in->written);
    return write_record(r, CONFIG, settings, error);
}

/* ---- the hooks ------------------------------------------------------------------------------- */

static int open_run(run *r, const struct wandb *c, const td_logger_in *in, message *settings,
                    td_error *error)
{
    char top[3600], config[3700];
    int  code;
    if (snprintf(top, sizeof top, "%s/%s", in->directory, c->folder) >= (int)sizeof top)
        return td_fail(error, TD_EIO, "the path of wandb's folder in '%.200s..' is too long",
                       in->directory);
    snprintf(config, sizeof config, "%s/config.cfg", in->directory);
    /* a program other than tandem may log without a config */
    code = access(config, F_OK) ? 0 : settings_read(config, settings, error);
    if (code || in->resume <= 0 || !find_file(r, top))
        return code ? code : begin(r, c, in, top, settings, error);
    code = open_file(r, 0, error);
    return code ? code : go_on(r, in, settings, error);
}

static void free_run(run *r)
{
    if (r->file)
        fclose(r->file);
    free(r->row.data);
    free(r);
}

static int open_wandb(const void *config, const td_logger_in *in, void **state, td_error *error)
{
    run    *r = calloc(1, sizeof *r);
    message settings = { 0 };
    int     code;
    if (!r)
        return td_fail(error, TD_ENOMEM, "out of memory while opening the run for wandb");
    r->services = in->services;
    r->start = seconds();
    r->sealed = -1;
    code = open_run(r, config, in, &settings, error);
    free(settings.data); /* unless it became part of a record */
    if (code)
        free_run(r);
    else
        *state = r;
    return code;
}

/* The process ended in an orderly way, whether the run is done or can be resumed. */
static void close_wandb(void *state)
{
    run *r = state;
    /* flushed here, because closing the file would fail without a word */
    if (write_row(r, NULL) || unseal(r, NULL) || seal(r, 0, NULL) || fflush(r->file))
        r->services->log(r->services, TD_LOG_WARN, "'%s' could not be completed", r->path);
    free_run(r);
}

static int write_wandb(void *state, int64_t step, const td_metric *metrics, size_t count,
                       td_error *error)
{
    run *r = state;
    int  code = r->step == step ? 0 : write_row(r, error);
    r->step = step;
    for (size_t k = 0; k < count && !code; k++)
        put_item(&r->row, metrics[k].name, metrics[k].value);
    return code;
}

static int flush(void *state, td_error *error)
{
    run *r = state;
    int  code = write_row(r, error);
    if (!code && r->sealed < 0)
        code = seal(r, 1, error);
    if (code)
        return code;
    if (fflush(r->file))
        return fail(r, error);
    return fsync(fileno(r->file)) && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP
               ? fail(r, error)
               : 0;
}

static const td_logger wandb = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "wandb", options, struct wandb, .check = check,
                        .brief = "an offline run for `wandb sync`"),
    .open = open_wandb,
    .close = close_wandb,
    .write = write_wandb,
    .flush = flush,
};

TD_MODULE("wandb", "1.0", "tandem", "MIT", &wandb.plugin)
