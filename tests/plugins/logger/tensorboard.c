/* tensorboard.c - logger 'tensorboard': event files read back byte by byte: frames, checksums,
 * messages, resuming. */
#include "module.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tandem/kind/logger.h"

typedef struct event {
    double  wall;
    int64_t step;
    char    version[32], tag[1200];
    float   value;
    int     session; /* SessionLog.status, 0: none */
    bool    scalar;
} event;

typedef struct cursor {
    const unsigned char *at, *end;
} cursor;

/* ---- reading --------------------------------------------------------------------------------- */

/* CRC-32C by its definition: long division with bits reversed. A known answer is tested below. */
static uint32_t crc32c(const unsigned char *data, size_t size)
{
    uint32_t r = 0xFFFFFFFFu;
    for (size_t i = 0; i < 8 * size; i++) {
        uint32_t bit = (data[i / 8] >> (i % 8) & 1u) ^ (r & 1u);
        r = r >> 1 ^ (bit ? 0x82F63B78u : 0);
    }
    return ~r;
}

static uint32_t masked(const unsigned char *data, size_t size)
{
    uint32_t c = crc32c(data, size);
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    while (bytes-- > 0)
        v = v << 8 | p[bytes];
    return v;
}

static uint64_t varint(cursor *c)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        cr_assert(c->at < c->end, "a varint runs over the end");
        v |= (uint64_t)(*c->at & 127) << shift;
        if (!(*c->at++ & 128))
            return v;
    }
    cr_assert_fail("a varint of more than 64 bits");
    return 0;
}

static cursor bytes(cursor *c)
{
    uint64_t size = varint(c);
    cursor   part = { c->at, c->at + size };
    cr_assert_leq(size, (uint64_t)(c->end - c->at));
    c->at += size;
    return part;
}

static const unsigned char *fixed(cursor *c, int size)
{
    cr_assert_geq(c->end - c->at, size);
    c->at += size;
    return c->at - size;
}

static void copy_text(char *out, size_t room, cursor part)
{
    cr_assert_lt((size_t)(part.end - part.at), room);
    memcpy(out, part.at, (size_t)(part.end - part.at));
    out[part.end - part.at] = 0;
}

static void read_value(cursor c, event *e)
{
    while (c.at < c.end) {
        uint64_t key = varint(&c);
        uint32_t bits;
        if (key == (1 << 3 | 2))
            copy_text(e->tag, sizeof e->tag, bytes(&c));
        else {
            cr_assert_eq(key, 2 << 3 | 5, "an unknown field %llu of a value",
                         (unsigned long long)key);
            bits = (uint32_t)little(fixed(&c, 4), 4);
            memcpy(&e->value, &bits, 4);
            e->scalar = true;
        }
    }
}

static event read_event(cursor c)
{
    event e = { .step = 0 };
    while (c.at < c.end) {
        uint64_t key = varint(&c), bits;
        cursor   part;
        switch (key) {
        case 1 << 3 | 1:
            bits = little(fixed(&c, 8), 8);
            memcpy(&e.wall, &bits, 8);
            break;
        case 2 << 3:
            e.step = (int64_t)varint(&c);
            break;
        case 3 << 3 | 2:
            copy_text(e.version, sizeof e.version, bytes(&c));
            break;
        case 5 << 3 | 2:
            part = bytes(&c);
            cr_assert_eq(varint(&part), 1 << 3 | 2);
            read_value(bytes(&part), &e);
            cr_assert(part.at == part.end, "one value per summary");
            break;
        case 7 << 3 | 2:
            part = bytes(&c);
            cr_assert_eq(varint(&part), 1 << 3);
            e.session = (int)varint(&part);
            break;
        default:
            cr_assert_fail("an unknown field %llu of an event", (unsigned long long)key);
        }
    }
    return e;
}

/* All events of a file, whose frames must be whole to the last byte. */
static int read_file(const char *path, event *out, int room)
{
    size_t               size;
    char                *data = td_file_read(path, &size, NULL);
    const unsigned char *p = (const unsigned char *)data;
    int                  n = 0;
    cr_assert(data);
    for (size_t at = 0; at < size; n++) {
        uint64_t length;
        cr_assert_leq(at + 16, size);
        length = little(p + at, 8);
        cr_assert_leq(length, size - at - 16);
        cr_assert_eq(little(p + at + 8, 4), masked(p + at, 8));
        cr_assert_eq(little(p + at + 12 + length, 4), masked(p + at + 12, length));
        cr_assert_lt(n, room);
        out[n] = read_event((cursor){ p + at + 12, p + at + 12 + length });
        at += 16 + length;
    }
    free(data);
    return n;
}

/* ---- the logger ------------------------------------------------------------------------------ */

static char             directory[64];
static const td_logger *logger;

static void setup(void)
{
    strcpy(directory, "/tmp/test-tensorboard-XXXXXX");
    cr_assert(mkdtemp(directory));
    logger = module_plugin("logger-tensorboard.so");
}

static void teardown(void) { td_remove_tree(directory, NULL); }

static void *open_logger(int64_t resume)
{
    const char  *config = "events"; /* the config struct is this one field */
    td_logger_in in = { .services = &module_services, .directory = directory, .resume = resume };
    td_error     error = { 0 };
    void        *state;
    cr_assert_eq(logger->open(&config, &in, &state, &error), 0, "%s", error.text);
    return state;
}

/* The k-th file, in order of time. */
static int events_of(int k, event *out, int room)
{
    char    path[600], **names;
    int64_t count;
    int     n;
    snprintf(path, sizeof path, "%s/events", directory);
    count = td_list_directory(path, &names, NULL);
    cr_assert_lt(k, count);
    cr_assert(!strncmp(names[k], "events.out.tfevents.", 20), "TensorBoard would not find '%s'",
              names[k]);
    snprintf(path, sizeof path, "%s/events/%s", directory, names[k]);
    n = read_file(path, out, room);
    td_free_names(names, count);
    return n;
}

static void expect_start(const event *e, int64_t step)
{
    cr_expect_str_eq(e[0].version, "brain.Event:2");
    cr_expect_gt(e[0].wall, 1.5e9);
    cr_expect_eq(e[1].session, 1, "SessionLog.START");
    cr_expect_eq(e[1].step, step);
}

TestSuite(tensorboard, .init = setup, .fini = teardown);

Test(tensorboard, the_checksum_is_crc32c)
{
    cr_expect_eq(crc32c((const unsigned char *)"123456789", 9), 0xE3069283u);
}

Test(tensorboard, scalars)
{
    static const int64_t steps[] = { 1, 127, 128, 16384, 3000000019 };
    td_metric            m[] = { { "train/loss", 0.1, false },
                                 { "bad", NAN, false },
                                 { "time/step", -1e30, true } };
    td_error             error = { 0 };
    void                *state = open_logger(0);
    event                e[20];

    for (int k = 0; k < 5; k++)
        cr_assert_eq(logger->write(state, steps[k], m, 3, &error), 0, "%s", error.text);
    cr_assert_eq(events_of(0, e, 20), 17, "events are in the file as soon as they are written");
    expect_start(e, 0);
    for (int k = 0; k < 15; k++) {
        const event     *x = &e[2 + k];
        const td_metric *want = &m[k % 3];
        cr_expect(x->scalar);
        cr_expect_str_eq(x->tag, want->name);
        cr_expect_eq(x->step, steps[k / 3]);
        cr_expect(x->value == (float)want->value || (isnan(x->value) && isnan(want->value)));
        cr_expect_geq(x->wall, e[0].wall);
    }
    logger->close(state);
}

Test(tensorboard, resuming_names_the_checkpoint)
{
    td_metric m = { "train/loss", 7, false };
    td_error  error = { 0 };
    void     *state = open_logger(0);
    event     e[20];

    for (int64_t step = 1; step <= 5; step++)
        cr_assert_eq(logger->write(state, step, &m, 1, &error), 0);
    logger->close(state);
    m.value = 8;
    state = open_logger(4);
    cr_assert_eq(logger->write(state, 4, &m, 1, &error), 0);
    logger->close(state);

    cr_assert_eq(events_of(0, e, 20), 7, "the earlier file stays as it was");
    cr_assert_eq(events_of(1, e, 20), 3);
    expect_start(e, 4);
    cr_expect_eq(e[2].step, 4);
    cr_expect_eq(e[2].value, 8);
}

Test(tensorboard, a_long_name_is_cut)
{
    char      name[3000];
    td_metric m = { name, 1, false };
    td_error  error = { 0 };
    void     *state = open_logger(0);
    event     e[4];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    cr_assert_eq(logger->write(state, 1, &m, 1, &error), 0);
    logger->close(state);
    cr_assert_eq(events_of(0, e, 4), 3);
    cr_expect_eq(strlen(e[2].tag), 1024);
}

Test(tensorboard, a_full_disk_is_named)
{
    td_metric m = { "train/loss", 1, false };
    td_error  error = { 0 };
    void     *state = open_logger(0);
    FILE    **file = state; /* the state begins with its FILE */
    *file = freopen("/dev/full", "w", *file);
    cr_assert(*file);
    cr_expect_neq(logger->write(state, 1, &m, 1, &error), 0);
    cr_expect(strstr(error.text, "events.out.tfevents.") && strstr(error.text, "No space left"),
              "%s", error.text);
    logger->close(state);
}
