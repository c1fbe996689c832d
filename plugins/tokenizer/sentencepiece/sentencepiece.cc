// sentencepiece.cc - tokenizer 'sentencepiece': unigram or BPE models. Paper: Kudo and Richardson,
// EMNLP 2018 (arXiv 1808.06226).
//
// The library throws and logs on its own terms. Here every call into it is guarded, so that no
// exception crosses into C, and its messages become ours: what was tried, on which file, and what
// to do.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#include "damage.h"
#include "files.h"
#include "sentences.h"
#include "tandem/kind/tokenizer.h"
#include "tandem/random.h"

namespace
{

struct config {
    const char *model;
    int64_t     type;
    double      character_coverage;
    int64_t     max_sentences;
    int64_t     sentinels;
    bool        modes, split_digits, byte_fallback, whitespace_pieces;
    td_strings  symbols;
};

const char *const type_names[] = { "unigram", "bpe", nullptr };

const td_option options[] = {
    TD_OPTION_FILE(config, model, "", "path of the .model file"),
    TD_OPTION_CHOICE(config, type, 0, type_names, "kind of model to train"),
    TD_OPTION_FLOAT(config, character_coverage, 0.9995, 0.5, 1,
                    "training: fraction of characters that get a piece of their own"),
    TD_OPTION_INT(config, max_sentences, 1000000, 101, 1e9,
                  "training: maximum number of lines to use, drawn at random if there are more"),
    TD_OPTION_BOOL(config, split_digits, true, "training: each digit is a piece of its own"),
    TD_OPTION_BOOL(config, byte_fallback, true,
                   "training: 256 pieces for bytes, so that rare characters are not lost"),
    TD_OPTION_BOOL(config, whitespace_pieces, false,
                   "training: also pieces of several spaces, for code"),
    TD_OPTION_STRINGS(config, symbols, "training: texts that are always one piece, such as \"<tool>\""),
    TD_OPTION_INT(config, sentinels, 0, 0, 1 << 20,
                  "sentinels that mark removed spans, after the model's pieces, in reverse order as in T5; 0: the model's own <extra_id_0>, <extra_id_1>, .. if it has them"),
    TD_OPTION_BOOL(
        config, modes, false,
        "three more ids, at the end, for the modes R, S and X of UL2; false: the model's own "
        "[R], [S] and [X] if it has them"),
    TD_OPTION_END
};

using processor = sentencepiece::SentencePieceProcessor;

// A model and its special ids, including those that the options add after its pieces.
struct opened {
    processor  model;
    td_special special = { -1, -1, -1, -1, 0, 0, 0, 0, { -1, -1, -1 } };
    // pieces of the model that mark spans and modes, and that its own matching would find in a text
    std::vector<std::string> reserved;
    std::string              first; // the characters that they begin with
};

opened *whole(void *state) { return static_cast<opened *>(state); }

processor *get(void *state) { return &whole(state)->model; }

// Run `body`. An exception, which must not cross into C, becomes an error: "cannot `what` `name`".
template <class Body>
auto guarded(td_error *error, const char *what, const char *name, Body body) -> decltype(body())
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return td_fail(error, TD_ENOMEM, "SentencePiece cannot %s %s: no memory", what, name);
    } catch (const std::exception &e) {
        return td_fail(error, TD_EFORMAT, "SentencePiece cannot %s %s: %s", what, name, e.what());
    } catch (...) {
        return td_fail(error, TD_EFORMAT, "SentencePiece cannot %s %s", what, name);
    }
}

// SentencePiece's message without the "file.cc(line) [condition] " that it begins with.
std::string words(const sentencepiece::util::Status &status)
{
    std::string text = status.error_message();
    size_t      at = text.find(".cc(") == text.npos ? text.npos : text.rfind("] ");
    return at == text.npos ? text : text.substr(at + 2);
}

// SentencePiece would block on a pipe, and fails on a directory without saying why. errno stays 0
// if only the kind of file is wrong.
int check_file(const char *path, td_error *error)
{
    struct stat st;
    errno = 0;
    if (!stat(path, &st) && S_ISREG(st.st_mode) && !access(path, R_OK))
        return 0;
    return td_fail(error, TD_EIO,
                   "cannot read the SentencePiece model '%s': %s; set tokenizer.model to another, "
                   "or train one with `tandem data train-tokenizer`",
                   path, errno ? std::strerror(errno) : "not a regular file");
}

int refuse(const char *path, const std::string &why, td_error *error)
{
    return td_fail(
        error, TD_EFORMAT,
        "'%s' is not a SentencePiece model, or it is damaged%s%s; set tokenizer.model to "
        "another, or train one with `tandem data train-tokenizer`",
        path, why.empty() ? "" : ": ", why.c_str());
}

// Whole, so that what was checked is what is loaded.
int read_file(const char *path, std::string *out, td_error *error)
{
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    auto          size = in.tellg();
    if (size > 0) {
        out->resize(static_cast<size_t>(size));
        in.seekg(0).read(out->data(), size);
    }
    return in ? 0 : td_fail(error, TD_EIO, "cannot read the SentencePiece model '%s'", path);
}

const char *const mode_names[] = { "[R]", "[S]", "[X]" };

// The id of `piece`, -1 if the model has none: PieceToId returns unk for a piece that it does not
// know.
int32_t piece_id(const processor &p, const std::string &piece)
{
    int id = p.PieceToId(piece);
    return id >= 0 && p.IdToPiece(id) == piece ? id : -1;
}

// The model's own sentinels, as many as have evenly spaced ids: td_special describes no others.
// T5's count downwards, so the step may be -1.
void find_sentinels(const processor &p, td_special *out)
{
    auto own = [&p](int32_t k) { return piece_id(p, "<extra_id_" + std::to_string(k) + ">"); };
    if (own(0) < 0)
        return;
    out->sentinel = own(0);
    out->sentinels = 1;
    out->sentinel_step = own(1) >= 0 ? own(1) - own(0) : 1;
    while (own(out->sentinels) == own(0) + out->sentinels * out->sentinel_step)
        out->sentinels++;
}

// Control pieces are never found in a text; user-defined ones are, wherever they stand.
std::vector<std::string> find_typed(const processor &p, const td_special &special)
{
    std::vector<std::string> out;
    auto                     add = [&](int32_t id) {
        if (id >= 0 && id < p.GetPieceSize() && !p.IsControl(id) && p.IdToPiece(id).size() > 1)
            out.push_back(p.IdToPiece(id));
    };
    for (int32_t k = 0; k < special.sentinels; k++)
        add(special.sentinel + k * special.sentinel_step);
    for (int32_t id : special.mode)
        add(id);
    return out;
}

// Ids added by the options follow the pieces: sentinels, then modes.
void set_special(const config *c, const processor &p, td_special *out)
{
    int32_t pieces = p.GetPieceSize(), sentinels = static_cast<int32_t>(c->sentinels);
    out->pad = p.pad_id();
    out->bos = p.bos_id();
    out->eos = p.eos_id();
    out->unk = p.unk_id();
    out->vocab_size = pieces + sentinels + 3 * c->modes;
    if (sentinels) {
        // as in T5, the first sentinel has the largest id
        out->sentinels = sentinels;
        out->sentinel = pieces + sentinels - 1;
        out->sentinel_step = -1;
    } else
        find_sentinels(p, out);
    for (int k = 0; k < 3; k++)
        out->mode[k] = c->modes ? pieces + sentinels + k : piece_id(p, mode_names[k]);
}

int open(const void *options, const td_services *, void **state, td_error *error)
{
    auto c = static_cast<const config *>(options);
    if (!*c->model)
        return td_fail(error, TD_ECONFIG,
                       "tokenizer 'sentencepiece' needs 'model', the path of a .model file; train "
                       "one with `tandem data train-tokenizer`");
    return guarded(error, "load the model", c->model, [&] {
        if (check_file(c->model, error))
            return error->code;
        // owned here until nothing can fail any more
        auto        p = std::make_unique<opened>();
        std::string model, damage;
        if (read_file(c->model, &model, error))
            return error->code;
        damage = find_damage(model);
        if (!damage.empty())
            return refuse(c->model, damage, error);
        auto status = p->model.LoadFromSerializedProto(model);
        if (!status.ok())
            return refuse(c->model, words(status), error);
        set_special(c, p->model, &p->special);
        p->reserved = find_typed(p->model, p->special);
        for (const std::string &piece : p->reserved)
            p->first += piece[0];
        *state = p.release();
        return 0;
    });
}

void close(void *state) { delete whole(state); }

void special(void *state, td_special *out) { *out = whole(state)->special; }

// Where the next piece of `reserved` begins in the text, from `at` on; npos: nowhere. One pass, as
// a text may consist of nothing else.
size_t find_reserved(const std::vector<std::string> &reserved, const std::string &first,
                     absl::string_view text, size_t at)
{
    for (; (at = text.find_first_of(first, at)) != text.npos; at++)
        for (const std::string &piece : reserved)
            if (text.substr(at, piece.size()) == piece)
                return at;
    return text.npos;
}

// Text that looks like a sentinel is text: a model in which sentinels are pieces of the text would
// read "<extra_id_0>" as one. It is cut after its first character, so that no part of it is one.
sentencepiece::util::Status encode_text(const opened *o, absl::string_view text,
                                        std::vector<int> *out)
{
    std::vector<int> part;
    size_t           begin = 0, end = 0;
    do {
        size_t found = find_reserved(o->reserved, o->first, text, begin);
        end = found == text.npos ? text.size() : found + 1;
        auto status = o->model.Encode(text.substr(begin, end - begin), &part);
        if (!status.ok())
            return status;
        out->insert(out->end(), part.begin(), part.end());
        begin = end;
    } while (end < text.size());
    return {};
}

int64_t encode(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
               td_error *error)
{
    return guarded(error, "encode", "a text", [&]() -> int64_t {
        std::vector<int> found;
        auto status = encode_text(whole(state), absl::string_view(text, size), &found);
        if (!status.ok())
            return td_fail(error, TD_EFORMAT, "cannot encode %zu bytes: %s", size,
                           words(status).c_str());
        for (size_t i = 0; i < found.size() && static_cast<int64_t>(i) < room; i++)
            ids[i] = found[i];
        return static_cast<int64_t>(found.size());
    });
}

// Decoding a span drops the space before its first word, as SentencePiece does for a whole text.
// Ids after the pieces stand for no text, and SentencePiece would refuse them.
int64_t decode(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
               td_error *error)
{
    return guarded(error, "decode", "ids", [&]() -> int64_t {
        processor       *p = get(state);
        int32_t          vocab_size = whole(state)->special.vocab_size;
        std::vector<int> pieces;
        for (int64_t i = 0; i < count; i++) {
            if (ids[i] < 0 || ids[i] >= vocab_size)
                return td_fail(error, TD_EFORMAT,
                               "cannot decode token %lld: id %d is not in 0 .. %d",
                               static_cast<long long>(i), static_cast<int>(ids[i]), vocab_size - 1);
            if (ids[i] < p->GetPieceSize())
                pieces.push_back(ids[i]);
        }
        std::string out;
        auto        status = p->Decode(pieces, &out);
        if (!status.ok())
            return td_fail(error, TD_EFORMAT, "cannot decode %lld ids: %s",
                           static_cast<long long>(count), words(status).c_str());
        // the caller may only ask for the size
        if (room > 0)
            std::memcpy(text, out.data(), std::min(out.size(), static_cast<size_t>(room)));
        return static_cast<int64_t>(out.size());
    });
}

const char *piece(void *state, int32_t id)
{
    processor *p = get(state);
    return id < 0 || id >= p->GetPieceSize() ? "" : p->IdToPiece(id).c_str();
}

// A hash of the whole model: models with the same pieces may still differ in scores and
// normalization, and so in how they split a text.
int fingerprint(void *state, uint64_t *out, td_error *error)
{
    return guarded(error, "hash", "the model", [&] {
        std::string model = get(state)->serialized_model_proto();
        *out = td_hash(td_random_stream(""), model.data(), model.size());
        return 0;
    });
}

// Write to a temporary file and rename it: under `path` there is always a whole model, the old or
// the new one. fsync comes before, or a crash could leave the new name on an empty file.
int save(const char *path, const std::string &model, td_error *error)
{
    std::string temporary = std::string(path) + ".XXXXXX";
    int         fd = mkostemp(temporary.data(), O_CLOEXEC);
    FILE       *f = fd < 0 ? nullptr : fdopen(fd, "wb");
    if (f)
        fchmod(fd, 0644); // mkostemp lets only the owner read
    bool        fine = f && std::fwrite(model.data(), 1, model.size(), f) == model.size() &&
                !std::fflush(f) && !fsync(fileno(f));
    int why = errno; // of the first failure: fclose and remove overwrite it
    if (f && std::fclose(f) && fine) {
        fine = false;
        why = errno;
    }
    if (fine && !std::rename(temporary.c_str(), path))
        return 0;
    why = fine ? errno : why;
    std::remove(temporary.c_str());
    return td_fail(error, TD_EIO, "cannot write the model '%s': %s", path, std::strerror(why));
}

// A small text yields fewer pieces than were asked for: model.vocab_size must follow.
int report_pieces(const td_train_in *in, const std::string &model, const td_services *services,
                  td_error *error)
{
    processor p;
    auto      status = p.LoadFromSerializedProto(model);
    if (!status.ok())
        return refuse(in->output, words(status), error);
    // a model with more would not fit the table of embeddings that it was made for
    if (p.GetPieceSize() > in->vocab_size)
        return td_fail(error, TD_ECONFIG,
                       "cannot train '%s' with %lld pieces: it needs %d, for its special pieces, bytes, symbols and characters; raise --vocab-size",
                       in->output, static_cast<long long>(in->vocab_size), p.GetPieceSize());
    bool fewer = p.GetPieceSize() < in->vocab_size;
    services->log(services, fewer ? TD_LOG_WARN : TD_LOG_INFO, "'%s' has %d pieces%s", in->output,
                  p.GetPieceSize(), fewer ? ": the text yields no more" : "");
    return 0;
}

// A list of SentencePiece's is one text with commas; quotes keep those within a symbol.
std::string joined(const td_strings &list)
{
    std::string out;
    for (size_t k = 0; k < list.count; k++) {
        out += k ? ",\"" : "\"";
        for (const char *p = list.at[k]; *p; p++)
            out += *p == '"' ? std::string("\"\"") : std::string(1, *p);
        out += '"';
    }
    return out;
}

// Its advice names options of its own command: say it in ours. Messages that it does not know pass
// as they are.
std::string advice(const config *c, const td_train_in *in, const std::string &text)
{
    long long needed = 0, given = 0, most = 0;
    size_t    at = text.find("smaller than required_chars"), high = text.find("too high");
    size_t    number = text.find_first_of("0123456789", at == text.npos ? 0 : at);
    size_t    limit = text.find("<= ", high == text.npos ? 0 : high);
    if (at != text.npos && number != text.npos &&
        std::sscanf(text.c_str() + number, "%lld vs %lld", &given, &needed) == 2)
        return "the text needs at least " + std::to_string(needed) +
               " pieces, for its characters and the special and byte pieces: raise --vocab-size, or "
               "lower tokenizer.character_coverage, which is " + std::to_string(c->character_coverage);
    if (high != text.npos && limit != text.npos &&
        std::sscanf(text.c_str() + limit, "<= %lld", &most) == 1)
        return "the text yields no more than " + std::to_string(most) + " pieces: set --vocab-size " +
               std::to_string(most);
    // a hint to an option of its command means nothing here
    size_t flag = text.find("--");
    if (flag == text.npos)
        return text.empty() ? "SentencePiece gives no reason; is there enough text for " +
                                  std::to_string(in->vocab_size) + " pieces?"
                            : text;
    size_t stop = text.rfind(". ", flag);
    return stop == text.npos ? "SentencePiece cannot use it" : text.substr(0, stop);
}

// One thread, and a fixed seed in train(): the same text always makes the same model. Byte pieces
// for rare characters, and no normalization or added spaces, make it lossless. Ids are T5's: 0 pad,
// also used as <s>, 1 eos, 2 unk.
std::unordered_map<std::string, std::string> settings(const config *c, const td_train_in *in)
{
    return {
        { "vocab_size", std::to_string(in->vocab_size) },
        { "model_type", type_names[c->type] },
        { "character_coverage", std::to_string(c->character_coverage) },
        { "input_sentence_size", std::to_string(c->max_sentences) },
        { "shuffle_input_sentence", "true" },
        { "max_sentence_length", std::to_string(sentences::longest) },
        { "pad_id", "0" },
        { "pad_piece", "<s>" },
        { "bos_id", "-1" },
        { "eos_id", "1" },
        { "unk_id", "2" },
        { "byte_fallback", c->byte_fallback ? "true" : "false" },
        { "allow_whitespace_only_pieces", c->whitespace_pieces ? "true" : "false" },
        { "user_defined_symbols", joined(c->symbols) },
        { "num_threads", "1" },
        { "normalization_rule_name", "identity" },
        { "remove_extra_whitespaces", "false" },
        { "add_dummy_prefix", "false" },
        { "split_digits", c->split_digits ? "true" : "false" },
        { "hard_vocab_limit", "false" },
        { "minloglevel", "1" },
    };
}

// SentencePiece's own tools, and tokenizer.model, expect that suffix.
int check_output(const char *name, td_error *error)
{
    std::string output = name, suffix = ".model";
    return output.size() > suffix.size() && output.substr(output.size() - suffix.size()) == suffix
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "cannot write a model to '%s': the name must end in .model", name);
}

// Nothing of the text is dropped in silence.
void report_left_out(const config *c, const sentences &read, const td_services *services)
{
    if (read.left_out())
        services->log(services, TD_LOG_WARN,
                      "left out U+2585 in %lld place%s: SentencePiece reserves that character",
                      static_cast<long long>(read.left_out()), read.left_out() > 1 ? "s" : "");
    if (read.count() > c->max_sentences)
        services->log(services, TD_LOG_INFO,
                      "trained on %lld lines drawn at random from %lld (tokenizer.max_sentences)",
                      static_cast<long long>(c->max_sentences),
                      static_cast<long long>(read.count()));
}

int train(const void *options, const td_train_in *in, const td_services *services, td_error *error)
{
    auto c = static_cast<const config *>(options);
    return guarded(error, "train the model", in->output, [&] {
        if (check_output(in->output, error))
            return error->code;
        std::string model;
        sentences   read(in, error);
        if (error->code)
            return error->code;
        if (read.done())
            return td_fail(error, TD_ECONFIG, "cannot train '%s': the files contain no text",
                           in->output);
        services->log(services, TD_LOG_INFO,
                      "training a SentencePiece %s model of %lld pieces", type_names[c->type],
                      static_cast<long long>(in->vocab_size));
        sentencepiece::SetRandomGeneratorSeed(1);
        auto status = sentencepiece::SentencePieceTrainer::Train(settings(c, in), &read, &model);
        if (!status.ok()) {
            // td_fail keeps the first error: a file that could not be read, if that was the cause
            td_fail(error, TD_ECONFIG, "cannot train '%s' with %lld pieces: %s", in->output,
                    static_cast<long long>(in->vocab_size),
                    advice(c, in, words(status)).c_str());
            return error->code;
        }
        report_left_out(c, read, services);
        int code = report_pieces(in, model, services, error);
        return code ? code : save(in->output, model, error);
    });
}

// The ids that options have added, in order: the last sentinel comes first.
std::vector<added_id> find_added(const opened *o)
{
    std::vector<added_id> out;
    const td_special     &s = o->special;
    int32_t               pieces = o->model.GetPieceSize();
    for (int32_t id = pieces; id <= s.sentinel; id++)
        out.push_back({ id, "<extra_id_" + std::to_string(s.sentinel - id) + ">" });
    for (int k = 0; k < 3; k++)
        if (s.mode[k] >= pieces)
            out.push_back({ s.mode[k], mode_names[k] });
    return out;
}

int write_files(void *state, const td_tokenizer_out *out, td_error *error)
{
    return guarded(error, "write", "the model", [&] {
        const opened *o = whole(state);
        return put_files(o->model.serialized_model_proto(), o->special, o->reserved, find_added(o),
                         out, error);
    });
}

const char *const folder_files[] = { "model=tokenizer.model", "model=spiece.model", nullptr };

// constexpr: the host reads a module's data before any of its code, constructors included, may run.
constexpr td_tokenizer make()
{
    td_tokenizer t = {};
    t.plugin.size = sizeof t;
    t.plugin.kind = TD_TOKENIZER_KIND;
    t.plugin.name = "sentencepiece";
    t.plugin.options = options;
    t.plugin.option_size = sizeof(td_option);
    t.plugin.config_size = sizeof(config);
    t.plugin.brief = "SentencePiece models: unigram or BPE";
    t.plugin.paper = "Kudo and Richardson, EMNLP 2018, arXiv 1808.06226";
    t.flags = TD_TOKENIZER_LOSSLESS_UTF8;
    t.open = open;
    t.close = close;
    t.special = special;
    t.encode = encode;
    t.decode = decode;
    t.piece = piece;
    t.train = train;
    t.fingerprint = fingerprint;
    t.write_files = write_files;
    t.folder_files = folder_files;
    return t;
}

constinit const td_tokenizer tokenizer = make();

} // namespace

TD_MODULE("sentencepiece", "1.0", "tandem", "MIT", &tokenizer.plugin)
