// files.cc - writes a model as tokenizer.json, for the library 'tokenizers', or says why its ids
// would differ there.
//
// Its Unigram and BPE are those of SentencePiece, with these differences:
//
// * It knows no kinds of pieces: text that reads "</s>" or "<0x41>" can become that piece. The score of
//   such pieces is therefore less than that of their characters together (unigram), and no merge leads
//   to them (bpe).
// * A character that is not a piece costs a little more than the worst piece. So that the scores above
//   do not matter, all characters of pieces must be pieces: then the same characters are missing
//   however a text is cut.
// * BPE has merges of two pieces, not scores of the results.
// * Unigram adds scores in double precision, SentencePiece in single. Where two ways to cut a text are
//   as likely to the last digits, they may choose differently.
#include "files.h"

#include <algorithm>
#include <cctype>
#include <cfloat>
#include <set>
#include <unordered_map>

#include "../tokenizer_json.h"
#include "description.h"

namespace
{

const char space[] = "\xE2\x96\x81"; // stands for a space in pieces

struct work {
    description           model;
    std::set<std::string> known; // normal pieces
    struct growing        json = { nullptr, 0, 0, false };
    ~work() { free(json.data); }
};

bool is_text(const piece &p) { return p.type == piece::normal || p.type == piece::user_defined; }

// ---- whether it can be written ------------------------------------------------------------------

bool is_utf8(const std::string &text)
{
    for (const std::string &c : characters(text)) {
        auto    first = static_cast<uint8_t>(c[0]);
        size_t  n = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
        uint8_t second = n > 1 && c.size() > 1 ? static_cast<uint8_t>(c[1]) : 0;
        bool    overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
        bool    outside = (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F);
        if (c.size() != n || overlong || outside || first > 0xF4)
            return false;
    }
    return true;
}

// A setting of the model for which there is no counterpart; "" if there is none.
std::string odd_setting(const description &m)
{
    if (m.type != description::unigram && m.type != description::bpe)
        return "it is neither a unigram nor a BPE model";
    if (m.table)
        return "it normalizes text with a table of its own";
    if (m.squeezes)
        return "it removes spaces (remove_extra_whitespaces)";
    if (!m.escapes || m.space_last)
        return "its pieces do not begin with the space before a word";
    return "";
}

// The characters that are no pieces: no normal piece has them.
std::vector<std::string> foreign(const work &w, const std::string &text)
{
    std::vector<std::string> out;
    for (const std::string &c : characters(text))
        if (!w.known.count(c))
            out.push_back(c);
    return out;
}

// A symbol that no piece can overlap, so that it is chosen wherever it stands. SentencePiece's BPE
// looks for symbols first; its unigram models choose them by score, among all the pieces of a text.
bool is_apart(const work &w, const piece &p)
{
    auto all = characters(p.text);
    return p.type == piece::user_defined &&
           (w.model.type == description::bpe ||
            (!w.known.count(all.front()) && !w.known.count(all.back())));
}

std::string odd_piece(const work &w, const piece &p)
{
    if (!is_utf8(p.text) || p.text.empty())
        return "is not UTF-8";
    if (p.type == piece::unused)
        return "is marked as unused";
    if (is_text(p) && p.text.find(' ') != p.text.npos)
        return "has a space";
    if (p.type == piece::user_defined && w.model.prefix)
        return "is a symbol, and a space is added before texts";
    auto odd = is_text(p) && !is_apart(w, p) ? foreign(w, p.text) : std::vector<std::string>();
    return odd.empty() ? "" : "has the character '" + odd[0] + "', which is not a piece";
}

// The pieces of a BPE model are merged in the order of their scores.
std::string equal_scores(const description &m)
{
    std::unordered_map<float, const piece *> by_score;
    for (const piece &p : m.pieces) {
        if (p.type != piece::normal || characters(p.text).size() < 2)
            continue;
        const piece *&other = by_score[p.score];
        if (other)
            return "its pieces '" + other->text + "' and '" + p.text + "' have the same score";
        other = &p;
    }
    return "";
}

// Characters of pieces that are not text, and of no piece that is. The text is cut around them, so
// that it does not become such a piece; where it is cut does not matter, as no piece goes across
// them.
std::string cut_at(const work &w)
{
    std::set<std::string> found;
    std::string           pattern;
    for (const piece &p : w.model.pieces)
        if (!is_text(p))
            for (const std::string &c : foreign(w, p.text))
                found.insert(c);
    for (const std::string &c : found)
        pattern += (c.size() == 1 && std::ispunct(static_cast<uint8_t>(c[0])) ? "\\" : "") + c;
    return pattern;
}

std::string find_obstacle(const work &w, const std::vector<std::string> &reserved,
                          const std::vector<added_id> &added)
{
    std::string why = odd_setting(w.model);
    for (const piece &p : w.model.pieces) {
        std::string odd = why.empty() ? odd_piece(w, p) : "";
        if (!odd.empty())
            why = "its piece '" + p.text + "' " + odd;
        for (const added_id &a : added)
            if (why.empty() && a.name == p.text)
                why = "it has the piece '" + p.text + "', which an option adds again";
    }
    if (why.empty() && w.model.type == description::unigram && !w.model.byte_fallback &&
        !cut_at(w).empty())
        why = "it has neither byte_fallback nor pieces for the characters " + cut_at(w);
    if (why.empty() && !reserved.empty())
        why = "its piece '" + reserved[0] + "' stands for what no text has, but occurs in texts";
    return why.empty() && w.model.type == description::bpe ? equal_scores(w.model) : why;
}

// ---- unigram ------------------------------------------------------------------------------------

// What SentencePiece gives a symbol so that it is chosen, wherever it stands.
double symbol_score(const piece &p, float best)
{
    return static_cast<double>(p.text.size()) * static_cast<double>(best) - 0.1;
}

// Less than that of any way to write the longest of the pieces that are not text.
double lowest_score(const description &m, float worst)
{
    size_t longest = 0;
    for (const piece &p : m.pieces)
        longest = std::max(longest, is_text(p) ? 0 : characters(p.text).size());
    return static_cast<double>(longest + 1) * std::min(static_cast<double>(worst), -1.0);
}

void write_unigram(work *w, int unknown)
{
    float worst = 0, best = FLT_MIN; // as SentencePiece has it, where all scores are negative
    for (const piece &p : w->model.pieces) {
        worst = std::min(worst, p.type == piece::normal ? p.score : worst);
        best = std::max(best, p.type == piece::normal ? p.score : best);
    }
    double lowest = lowest_score(w->model, worst);
    emit_print(&w->json,
               "{\"type\": \"Unigram\", \"unk_id\": %d, \"byte_fallback\": %s, \"vocab\": [",
               unknown, w->model.byte_fallback ? "true" : "false");
    for (size_t k = 0; k < w->model.pieces.size(); k++) {
        const piece &p = w->model.pieces[k];
        double       score = p.type == piece::normal         ? static_cast<double>(p.score)
                             : p.type == piece::user_defined ? symbol_score(p, best)
                                                             : lowest;
        emit_raw(&w->json, k ? ",\n      [" : "\n      [");
        emit_string(&w->json, p.text.data(), p.text.size());
        emit_print(&w->json, ", %.17g]", score);
    }
    emit_raw(&w->json, "]}\n}\n");
}

// ---- bpe ----------------------------------------------------------------------------------------

// All pairs of pieces that make a piece, the best piece first.
void write_merges(work *w)
{
    std::vector<const piece *> merged;
    for (const piece &p : w->model.pieces)
        if (p.type == piece::normal)
            merged.push_back(&p);
    std::stable_sort(merged.begin(), merged.end(),
                     [](const piece *a, const piece *b) { return a->score > b->score; });
    bool first = true;
    // SentencePiece takes any two that make a piece; a merge names the two
    for (const piece *p : merged) {
        std::string left;
        for (const std::string &c : characters(p->text)) {
            std::string right = p->text.substr(left.size());
            if (w->known.count(left) && w->known.count(right)) {
                std::string pair = left + " " + right;
                emit_raw(&w->json, first ? "\n      " : ",\n      ");
                emit_string(&w->json, pair.data(), pair.size());
                first = false;
            }
            left += c;
        }
    }
}

void write_bpe(work *w, const std::string &unknown)
{
    emit_raw(&w->json, "{\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    emit_string(&w->json, unknown.data(), unknown.size());
    emit_print(
        &w->json,
        ",\n    \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null,\n    "
        "\"fuse_unk\": true, \"byte_fallback\": %s, \"ignore_merges\": false,\n    \"vocab\": {",
        w->model.byte_fallback ? "true" : "false");
    for (size_t k = 0; k < w->model.pieces.size(); k++) {
        emit_raw(&w->json, k ? ",\n      " : "\n      ");
        emit_string(&w->json, w->model.pieces[k].text.data(), w->model.pieces[k].text.size());
        emit_print(&w->json, ": %zu", k);
    }
    emit_raw(&w->json, "},\n    \"merges\": [");
    write_merges(w);
    emit_raw(&w->json, "]}\n}\n");
}

// ---- the files ----------------------------------------------------------------------------------

// Special ones, and symbols that are always chosen.
void write_added(work *w, const std::vector<added_id> &added)
{
    bool first = true;
    for (size_t k = 0; k < w->model.pieces.size(); k++) {
        const piece &p = w->model.pieces[k];
        bool         symbol = is_apart(*w, p);
        if (p.type != piece::control && p.type != piece::unknown && !symbol)
            continue;
        emit_added(&w->json, static_cast<int>(k), p.text.c_str(), !symbol, first);
        first = false;
    }
    for (const added_id &a : added) {
        emit_added(&w->json, a.id, a.name.c_str(), true, first);
        first = false;
    }
}

std::string quoted(const std::string &text)
{
    struct growing j = { nullptr, 0, 0, false };
    emit_string(&j, text.data(), text.size());
    std::string out(j.failed ? "" : j.data, j.failed ? 0 : j.size);
    free(j.data);
    return out;
}

std::string replace(const std::string &text, const std::string &by)
{
    return "{\"type\": \"Replace\", \"pattern\": {\"String\": " + quoted(text) +
           "}, \"content\": " + quoted(by) + "}";
}

// A model with a space before each text writes it in front, and takes it away again.
void write_steps(work *w, int begin, const char *begin_name)
{
    bool        prefix = w->model.prefix;
    std::string normalizer = replace(" ", space), splitter = "null";
    std::string decoders = replace(space, " ") +
                           ", {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}";
    std::string cut = w->model.type == description::unigram ? cut_at(*w) : "";
    if (prefix) {
        normalizer =
            "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": " +
            quoted(space) + "}, " + normalizer + "]}";
        decoders += ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}";
    }
    if (!cut.empty())
        splitter = "{\"type\": \"Split\", \"pattern\": {\"Regex\": " + quoted("[" + cut + "]") +
                   "}, \"behavior\": \"Isolated\", \"invert\": false}";
    decoders = "{\"type\": \"Sequence\", \"decoders\": [" + decoders + "]}";
    emit_steps(&w->json, normalizer.c_str(), splitter.c_str(), decoders.c_str(), begin, begin_name);
}

// The name of a special id, NULL if there is none.
const char *name_of(const work &w, const std::vector<added_id> &added, int32_t id)
{
    for (const added_id &a : added)
        if (a.id == id)
            return a.name.c_str();
    bool piece = id >= 0 && static_cast<size_t>(id) < w.model.pieces.size();
    return piece ? w.model.pieces[static_cast<size_t>(id)].text.c_str() : nullptr;
}

} // namespace

int put_files(const std::string &model, const td_special &special,
              const std::vector<std::string> &reserved, const std::vector<added_id> &added,
              const td_tokenizer_out *out, td_error *error)
{
    work w;
    int  code = out->put(out, "tokenizer.model", model.data(), model.size(), error);
    if (code)
        return code;
    w.model = describe(model);
    for (const piece &p : w.model.pieces)
        if (p.type == piece::normal)
            w.known.insert(p.text);
    // tokenizer.model says all of it; only tokenizer.json may have to be left out
    std::string why = find_obstacle(w, reserved, added);
    if (!why.empty())
        return td_fail(error, TD_EUNSUPPORTED,
                       "a tokenizer.json would not give the ids of this SentencePiece model: %s",
                       why.c_str());
    const char *begin = name_of(w, added, out->begin), *unknown = name_of(w, added, special.unk);
    emit_begin(&w.json);
    write_added(&w, added);
    write_steps(&w, out->begin, begin);
    if (w.model.type == description::unigram)
        write_unigram(&w, special.unk);
    else
        write_bpe(&w, unknown ? unknown : "");
    code = put_json(out, "tokenizer.json", &w.json, error);
    return code ? code
                : put_token_config(out, true, begin ? begin : name_of(w, added, special.bos),
                                   name_of(w, added, special.eos), name_of(w, added, special.pad),
                                   unknown, error);
}
