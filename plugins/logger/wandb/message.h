/* message.h - protocol buffers: writing fields to a buffer that grows, and walking through them.
 *
 * A field is a varint, tag << 3 | wire type, then its value: 0 a varint, 1 eight bytes, 2 a length
 * and as many bytes, 5 four bytes.
 */
#ifndef TD_LOGGER_WANDB_MESSAGE_H
#define TD_LOGGER_WANDB_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialize it; free(data). Out of memory sets `failed`, and the rest is dropped. */
typedef struct message {
    unsigned char *data;
    size_t         size, room;
    bool           failed;
} message;

void message_append(message *, const void *data, size_t size);
void message_number(message *, unsigned tag, uint64_t value);
void message_bytes(message *, unsigned tag, const void *data, size_t size);
void message_text(message *, unsigned tag, const char *text);
/* A message as a field of another; `inner` is freed. */
void message_message(message *, unsigned tag, message *inner);

typedef struct field {
    unsigned             tag;
    uint64_t             number; /* of a varint */
    const unsigned char *data;   /* of bytes, [size]; else NULL */
    size_t               size;
} field;

/* Read the field at *at, and move *at past it. False at `end`, and where the bytes are not a
 * message. */
bool message_next(const unsigned char **at, const unsigned char *end, field *out);

#endif
