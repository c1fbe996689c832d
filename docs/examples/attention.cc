/* attention.cc - prints, for each attention of a run's model, the token that each token of a text
 * attends to most:
 *
 *     attention runs/embedded "The ferry from" " Oban"
 */
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <tandem/embed.h>

namespace
{

struct close_session {
    void operator()(td_session *s) const { td_session_close(s); }
};

/* A failure as an exception, with the library's message. */
class failure : public std::runtime_error
{
  public:
    explicit failure(const td_error &e) : std::runtime_error(e.text) {}
};

class model
{
  public:
    explicit model(const char *run)
    {
        td_session_options options{};
        td_error           e{};
        options.size = sizeof options;
        options.purpose = TD_PURPOSE_GENERATE;
        options.run = run;
        session_.reset(td_session_open(&options, &e));
        if (!session_ || td_session_load(session_.get(), nullptr, &e))
            throw failure(e);
    }

    const td_attended &attend(const char *given, const char *target)
    {
        td_error           e{};
        td_scored          pair{};
        td_attending       how{};
        const td_attended *out = nullptr;
        how.size = sizeof how;
        if (td_session_encode_pair(session_.get(), given, target, &pair, &e))
            throw failure(e);
        how.given = pair.given;
        how.n_given = pair.n_given;
        how.target = pair.target;
        how.n_target = pair.n_target;
        if (td_session_attend(session_.get(), &how, &out, &e))
            throw failure(e);
        return *out;
    }

    std::string text(int32_t id)
    {
        td_error    e{};
        size_t      size = 0;
        const char *bytes = td_session_decode(session_.get(), &id, 1, &size, &e);
        if (!bytes)
            throw failure(e);
        return std::string(bytes, size);
    }

  private:
    std::unique_ptr<td_session, close_session> session_;
};

/* The key that a query gives most weight to, over all heads. */
int64_t most_read(const td_attention_weights &a, int64_t query)
{
    int64_t keys = a.own + a.memory, best = 0;
    double  most = -1;
    for (int64_t k = 0; k < keys; k++) {
        double sum = 0;
        for (int64_t h = 0; h < a.heads; h++)
            sum += static_cast<double>(a.weights[(h * a.queries + query) * keys + k]);
        if (sum > most) {
            most = sum;
            best = k;
        }
    }
    return best;
}

void print(model &m, const td_attention_weights &a)
{
    std::printf("%s\n", a.name);
    for (int64_t q = 0; a.query_ids && a.key_ids && q < a.queries; q++)
        std::printf("    '%s' reads '%s'\n", m.text(a.query_ids[q]).c_str(),
                    m.text(a.key_ids[most_read(a, q)]).c_str());
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 4) {
        std::fprintf(stderr, "usage: attention RUN GIVEN TARGET\n");
        return 2;
    }
    try {
        model              m(argv[1]);
        const td_attended &all = m.attend(argv[2], argv[3]);
        for (size_t k = 0; k < all.n; k++)
            print(m, all.at[k]);
    } catch (const failure &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}
