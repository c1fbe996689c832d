/* tensorboard.c - logger 'tensorboard': scalar summaries as TensorBoard event files (TFRecord
 * frames of Event messages).
 *
 * An event file cannot be truncated, so every opening begins a new one. Its first event (SessionLog
 * START) names the step that the run resumes from, 0 for a new run, and TensorBoard then drops
 * whatever earlier files have from that step on. Numbers are little-endian, like the machines that
 * this runs on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "place.h"
#include "tandem/kind/logger.h"

struct tensorboard {
    const char *folder;
};

static const td_option options[] = { TD_OPTION_STRING(struct tensorboard, folder, "tensorboard",
                                                      "folder within the run's directory"),
                                     TD_OPTION_END };

static int check(const void *config, td_error *error)
{
    return check_place("folder", ((const struct tensorboard *)config)->folder, error);
}

enum { MESSAGE = 4096, NAME_LIMIT = 1024 }; /* a name and its frames always fit in a message */

typedef struct events {
    FILE *file;
    char  path[4096];
} events;

typedef struct message {
    unsigned char data[MESSAGE];
    size_t        size;
} message;

/* ---- protocol buffers ------------------------------------------------------------------------
 *
 * A field is a varint, tag << 3 | wire type, then its value: 0 a varint, 1 eight bytes, 2 a length
 * and as many bytes, 5 four bytes.
 */

/* Seven bits a byte, the low ones first; bit 7: more follow. */
static void put_varint(message *m, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        m->data[m->size++] = (unsigned char)(v | 128);
    m->data[m->size++] = (unsigned char)v;
}

/* A string or a message inside a message. */
static void put_bytes(message *m, unsigned tag, const void *data, size_t size)
{
    put_varint(m, tag << 3 | 2);
    put_varint(m, size);
    memcpy(m->data + m->size, data, size);
    m->size += size;
}

/* A double (8 bytes) or a float (4). */
static void put_fixed(message *m, unsigned tag, const void *data, size_t size)
{
    put_varint(m, tag << 3 | (size == 8 ? 1u : 5u));
    memcpy(m->data + m->size, data, size);
    m->size += size;
}

/* Event { wall_time = 1, step = 2, .. }: the fields that every event begins with */
static void begin_event(message *m, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double wall = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    m->size = 0;
    put_fixed(m, 1, &wall, 8);
    put_varint(m, 2 << 3);
    put_varint(m, (uint64_t)step);
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* CRC-32C, bit by bit: frames are short. TFRecord rotates it and adds a constant, so that a
 * checksum stored inside checksummed data does not weaken it. */
static uint32_t checksum(const void *data, size_t size)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < size; i++) {
        c ^= ((const unsigned char *)data)[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0x82F63B78u & (0u - (c & 1u)));
    }
    c = ~c;
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static int fail(const events *e, int why, td_error *error)
{
    return td_fail(error, TD_EIO, "cannot write TensorBoard events to '%s': %s", e->path,
                   place_reason(why));
}

/* TFRecord: length, its checksum, data, its checksum. */
static int write_frame(const events *e, const message *m, td_error *error)
{
    FILE    *f = e->file;
    uint64_t length = m->size;
    uint32_t head = checksum(&length, 8), body = checksum(m->data, m->size);
    fwrite(&length, 8, 1, f);
    fwrite(&head, 4, 1, f);
    fwrite(m->data, 1, m->size, f);
    fwrite(&body, 4, 1, f);
    return ferror(f) ? fail(e, errno, error) : 0;
}

/* ---- logger ---------------------------------------------------------------------------------- */

/* The two events that begin a file: its version, and where the run resumes. */
static int write_start(const events *e, int64_t resume, td_error *error)
{
    static const unsigned char start[] = { 1 << 3, 1 }; /* SessionLog { status = START } */
    message                    m;
    begin_event(&m, 0);
    put_bytes(&m, 3, "brain.Event:2", 13);
    int code = write_frame(e, &m, error);
    if (code)
        return code;
    begin_event(&m, resume);
    put_bytes(&m, 7, start, sizeof start);
    return write_frame(e, &m, error);
}

/* Make the folder and choose a unique name, from time, host and nanoseconds. TensorBoard reads
 * files in the order of their names and knows them by "tfevents". */
static int name_file(events *e, const td_logger_in *in, const char *name, td_error *error)
{
    char            folder[3500], host[128] = "host";
    struct timespec now;
    int             n = snprintf(folder, sizeof folder, "%s/%s", in->directory, name);

    clock_gettime(CLOCK_REALTIME, &now);
    /* if it fails, "host" stays; the last byte stays 0 either way */
    gethostname(host, sizeof host - 1);
    if (n < 0 || n >= (int)sizeof folder)
        return td_fail(error, TD_EIO,
                       "the path of the TensorBoard events in '%.200s..' is too long",
                       in->directory);
    if (mkdir(folder, 0777) && errno != EEXIST)
        return td_fail(error, TD_EIO, "cannot create the folder '%s': %s", folder, strerror(errno));
    snprintf(e->path, sizeof e->path, "%s/events.out.tfevents.%010lld.%09ld.%s", folder,
             (long long)now.tv_sec, now.tv_nsec, host);
    return 0;
}

static int open_file(events *e, int64_t resume, td_error *error)
{
    int fd = open_place(e->path, O_WRONLY | O_EXCL); /* a name that nothing else has */
    e->file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!e->file) {
        fail(e, errno, error);
        if (fd >= 0)
            close(fd);
        return TD_EIO;
    }
    if (!write_start(e, resume, error))
        return 0;
    fclose(e->file);
    return TD_EIO;
}

static int open_tensorboard(const void *config, const td_logger_in *in, void **state,
                            td_error *error)
{
    events *e = calloc(1, sizeof *e);
    if (!e)
        return td_fail(error, TD_ENOMEM, "out of memory while opening the TensorBoard events");
    /* both have set `error` */
    if (name_file(e, in, ((const struct tensorboard *)config)->folder, error) ||
        open_file(e, in->resume, error)) {
        free(e);
        return TD_EIO;
    }
    *state = e;
    return 0;
}

static void close_tensorboard(void *state)
{
    fclose(((events *)state)->file);
    free(state);
}

/* Event { summary = 5 { value = 1 { tag = 1, simple_value = 2 } } } */
static int write_metric(const events *e, int64_t step, const td_metric *metric, td_error *error)
{
    message value = { .size = 0 }, summary = { .size = 0 }, event;
    float   number = (float)metric->value;
    size_t  length = strlen(metric->name);

    put_bytes(&value, 1, metric->name, length < NAME_LIMIT ? length : NAME_LIMIT);
    put_fixed(&value, 2, &number, 4);
    put_bytes(&summary, 1, value.data, value.size);
    begin_event(&event, step);
    put_bytes(&event, 5, summary.data, summary.size);
    return write_frame(e, &event, error);
}

static int flush(void *state, td_error *error)
{
    return fflush(((events *)state)->file) ? fail(state, errno, error) : 0;
}

/* Flushed every step: TensorBoard shows a run in progress. */
static int write_metrics(void *state, int64_t step, const td_metric *metrics, size_t count,
                         td_error *error)
{
    int code = 0;
    for (size_t i = 0; i < count && !code; i++)
        code = write_metric(state, step, &metrics[i], error);
    return code ? code : flush(state, error);
}

static const td_logger tensorboard = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "tensorboard", options, struct tensorboard,
                        .check = check, .brief = "event files that TensorBoard reads"),
    .open = open_tensorboard,
    .close = close_tensorboard,
    .write = write_metrics,
    .flush = flush,
};

TD_MODULE("tensorboard", "1.0", "tandem", "MIT", &tensorboard.plugin)
