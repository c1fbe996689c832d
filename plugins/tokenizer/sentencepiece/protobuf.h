// protobuf.h - reads the fields of a protocol buffer, without its description
// (https://protobuf.dev/programming-guides/encoding).
#ifndef TD_TOKENIZER_SENTENCEPIECE_PROTOBUF_H
#define TD_TOKENIZER_SENTENCEPIECE_PROTOBUF_H

#include <cstdint>
#include <string_view>

namespace protobuf
{

struct field {
    uint64_t         name;   // its number
    uint64_t         number; // of a varint
    std::string_view bytes;  // of all others
};

// Take a number of 7 bits a byte off the front; false if it does not end.
inline bool take_number(std::string_view *in, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64 && !in->empty(); shift += 7) {
        unsigned char c = static_cast<unsigned char>(in->front());
        in->remove_prefix(1);
        *out |= static_cast<uint64_t>(c & 127) << shift;
        if (c < 128)
            return true;
    }
    return false;
}

// Call `see` with each field. False if it returned that, or if a field goes past the end.
template <class See> bool each_field(std::string_view message, See see)
{
    enum { varint = 0, eight = 1, bytes = 2, four = 5 };
    while (!message.empty()) {
        uint64_t tag, number = 0, size = 0;
        if (!take_number(&message, &tag))
            return false;
        uint64_t type = tag & 7;
        if ((type == varint || type == bytes) && !take_number(&message, &number))
            return false;
        size = type == bytes ? number : type == eight ? 8 : type == four ? 4 : 0;
        if ((type != varint && type != eight && type != bytes && type != four) ||
            size > message.size() || !see(field{ tag >> 3, number, message.substr(0, size) }))
            return false;
        message.remove_prefix(size);
    }
    return true;
}

} // namespace protobuf

#endif
