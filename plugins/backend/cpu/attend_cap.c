/* attend_cap.c - scores of attention, bounded by cap tanh(score / cap) before biases and mask (Bello
 * et al. 2016; Gemma Team 2024). */
#include "attend.h"

TD_CPU_CLONES static void cap_scores(float cap, int64_t keys, int64_t lanes, float *scores)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES) {
            float *at = scores + j * TD_BLOCK + i;
            td_vstore(at, cap * td_vtanh(td_vload(at) / cap));
        }
}

/* The same scores, bit for bit, with their slopes. */
TD_CPU_CLONES static void cap_with_slopes(float cap, int64_t keys, int64_t lanes, float *scores,
                                          float *slopes)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES) {
            int64_t at = j * TD_BLOCK + i;
            td_vf   share = td_vtanh(td_vload(scores + at) / cap);
            td_vstore(scores + at, cap * share);
            td_vstore(slopes + at, 1.0f - share * share);
        }
}

void td_attend_cap(const td_attend_shape *s, int64_t keys, int64_t lanes, float *scores,
                   float *slopes)
{
    if (s->cap <= 0)
        return;
    if (slopes)
        cap_with_slopes(s->cap, keys, lanes, scores, slopes);
    else
        cap_scores(s->cap, keys, lanes, scores);
}

TD_CPU_CLONES static void cap_grad(int64_t keys, int64_t lanes, const float *slopes, float *ds)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES) {
            int64_t at = j * TD_BLOCK + i;
            td_vf   d = td_vload(ds + at);
            td_vstore(ds + at, td_vpick(d == 0, td_vset(0), d * td_vload(slopes + at)));
        }
}

void td_attend_cap_grad(int64_t keys, int64_t lanes, const float *slopes, float *ds)
{
    cap_grad(keys, lanes, slopes, ds);
}
