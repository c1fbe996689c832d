// damage.cc - looks for damage in a model that the library does not detect, and that would make it
// read outside the model.
//
// A model is a protocol buffer. It may have two tables that replace characters, for normalizing a text
// and for the way back. The library takes each as it is, and follows whatever offsets it has.
//
// A table is the size of a trie (4 bytes, little-endian), the trie, and texts that each end in 0. The
// trie is a double array of Darts-clone (https://github.com/s-yata/darts-clone), one word a node:
//
//     bits 0-7  label; bit 8  a value follows; bits 9, 10-30  offset to the children; bit 31  a value
//
// The children of node `n` are at n ^ offset ^ label; its value, an offset into the texts, is at
// n ^ offset.
#include "damage.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "protobuf.h"

namespace
{

// ---- a trie --------------------------------------------------------------------------------------

class trie
{
  public:
    trie(std::string_view words, size_t texts)
        : words_(words), count_(words.size() / 4), texts_(texts)
    {
    }

    // Whether every search ends inside, with no more values than the library has room for.
    bool whole()
    {
        if (!count_ || words_.size() % 4)
            return false;
        values_.assign(count_, unknown);
        return visit(children(0), 0) >= 0;
    }

  private:
    enum : int8_t { unknown = -1, open = -2 };
    static constexpr int most_values = 31; // the library's array has 32
    static constexpr int deepest = 1000;   // bytes of a text that is replaced

    uint32_t word(size_t at) const
    {
        uint32_t w;
        std::memcpy(&w, words_.data() + 4 * at, sizeof w);
        return w;
    }

    size_t children(size_t at) const
    {
        uint32_t w = word(at);
        return at ^ (w >> 10 << ((w & 1u << 9) >> 6));
    }

    // The most values on a way down from the children at `base`, -1 if one leads astray. Ways may meet,
    // as equal ends are stored once, but must not go round.
    int visit(size_t base, int depth)
    {
        // a search looks at a child before it knows whether there is one: all 256 places have to exist
        if ((base | 255) >= count_ || depth > deepest || values_[base] == open)
            return -1;
        if (values_[base] != unknown)
            return values_[base];
        values_[base] = open;
        int most = 0;
        for (size_t label = 0; label < 256 && most >= 0; label++)
            most = add(most, base ^ label, label, depth);
        return most < 0 ? -1 : (values_[base] = static_cast<int8_t>(most));
    }

    // The larger of `most` and what the child at `at` has, if it is one.
    int add(int most, size_t at, size_t label, int depth)
    {
        uint32_t w = word(at);
        size_t   next = children(at);
        if ((w & (1u << 31 | 255)) != label)
            return most;
        int below = visit(next, depth + 1), own = w >> 8 & 1;
        if (below < 0 || below + own > most_values || (own && (word(next) & ~(1u << 31)) >= texts_))
            return -1;
        return below + own > most ? below + own : most;
    }

    std::string_view    words_;
    size_t              count_, texts_;
    std::vector<int8_t> values_; // for each base of children: what visit returned
};

bool table_is_whole(std::string_view table)
{
    uint32_t size;
    if (table.empty())
        return true;
    if (table.size() <= sizeof size)
        return false;
    std::memcpy(&size, table.data(), sizeof size);
    table.remove_prefix(sizeof size);
    // the last text's 0 ends whatever begins before it
    return size < table.size() && !table.back() &&
           trie(table.substr(0, size), table.size() - size).whole();
}

} // namespace

std::string find_damage(std::string_view model)
{
    enum { normalizer = 3, denormalizer = 5, table = 2 };
    std::string damage;
    auto        see = [&](const protobuf::field &part) {
        if (part.name != normalizer && part.name != denormalizer)
            return true;
        return protobuf::each_field(part.bytes, [&](const protobuf::field &inner) {
            if (inner.name == table && !table_is_whole(inner.bytes))
                damage = part.name == normalizer
                             ? "its table of normalization has references outside the table"
                             : "its table of denormalization has references outside the table";
            return damage.empty();
        });
    };
    if (!protobuf::each_field(model, see) && damage.empty())
        damage = "its fields do not match the size of the file";
    return damage;
}
