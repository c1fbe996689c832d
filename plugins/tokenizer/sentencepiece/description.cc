// description.cc - reads a model's pieces and settings from its protocol buffer
// (sentencepiece_model.proto), for which the library's headers have no class.
#include "description.h"

#include <cstring>

#include "protobuf.h"

namespace
{

// A float is stored as its bits, little-endian.
float float_of(std::string_view bytes)
{
    float x = 0;
    if (bytes.size() == sizeof x)
        std::memcpy(&x, bytes.data(), sizeof x);
    return x;
}

piece read_piece(std::string_view message)
{
    enum { text = 1, score = 2, type = 3 };
    piece out;
    protobuf::each_field(message, [&out](const protobuf::field &f) {
        if (f.name == text)
            out.text = f.bytes;
        else if (f.name == score)
            out.score = float_of(f.bytes);
        else if (f.name == type)
            out.type = f.number;
        return true;
    });
    return out;
}

void read_trainer(std::string_view message, description *out)
{
    enum { model_type = 3, treat_whitespace_as_suffix = 24, byte_fallback = 35 };
    protobuf::each_field(message, [out](const protobuf::field &f) {
        if (f.name == model_type)
            out->type = f.number;
        else if (f.name == treat_whitespace_as_suffix)
            out->space_last = f.number;
        else if (f.name == byte_fallback)
            out->byte_fallback = f.number;
        return true;
    });
}

void read_normalizer(std::string_view message, description *out)
{
    enum { charsmap = 2, dummy_prefix = 3, extra_whitespaces = 4, escape_whitespaces = 5 };
    protobuf::each_field(message, [out](const protobuf::field &f) {
        if (f.name == charsmap)
            out->table = !f.bytes.empty();
        else if (f.name == dummy_prefix)
            out->prefix = f.number;
        else if (f.name == extra_whitespaces)
            out->squeezes = f.number;
        else if (f.name == escape_whitespaces)
            out->escapes = f.number;
        return true;
    });
}

} // namespace

// Fields that come again replace what was there, as in any protocol buffer.
description describe(std::string_view model)
{
    enum { pieces = 1, trainer = 2, normalizer = 3 };
    description out;
    protobuf::each_field(model, [&out](const protobuf::field &f) {
        if (f.name == pieces)
            out.pieces.push_back(read_piece(f.bytes));
        else if (f.name == trainer)
            read_trainer(f.bytes, &out);
        else if (f.name == normalizer)
            read_normalizer(f.bytes, &out);
        return true;
    });
    return out;
}

std::vector<std::string> characters(const std::string &text)
{
    std::vector<std::string> out;
    for (size_t at = 0, n; at < text.size(); at += n) {
        for (n = 1; at + n < text.size() && (static_cast<uint8_t>(text[at + n]) & 0xC0) == 0x80;)
            n++;
        out.push_back(text.substr(at, n));
    }
    return out;
}
