// Sampler chains: made from settings, applied to the numbers of a step, asked for probabilities.

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <vector>

#include "llama.h"

#include "samplers.h"
#include "shim.h"

using shim::guarded;
using shim::say;

// Of llama.cpp's library, declared in a header that it does not install. It takes the breakers as tokens:
// finding them in the vocabulary takes a tenth of a second and was done by the preparation thread.
llama_sampler * llama_sampler_init_dry_testing(
    float multiplier, float base, int32_t allowed_length, int32_t penalty_last_n,
    const std::vector<std::vector<llama_token>> & breakers);

// A sampler chain and its list of candidates, kept between steps.
struct lollmsd_sampler {
    llama_sampler * chain = nullptr;
    std::vector<llama_token_data> candidates;
    // Added to logits before the chain; minus infinity takes a token out.
    std::vector<llama_logit_bias> biases;
    // What the chain left of the candidates of the last step.
    llama_token_data_array left = {};
    // Only the largest number counts: no list is needed.
    bool greedy = false;
    // The chain ends with the largest number.
    bool certain = false;

    lollmsd_sampler() = default;
    lollmsd_sampler(const lollmsd_sampler &) = delete;
    lollmsd_sampler & operator=(const lollmsd_sampler &) = delete;
    ~lollmsd_sampler() {
        if (chain != nullptr) {
            llama_sampler_free(chain);
        }
    }
};

// Settings of a chain; the same struct stands in ffi.rs.
struct lollmsd_sampling {
    float temperature;
    float dynatemp_range;
    float dynatemp_exponent;
    int32_t top_k;
    float top_p;
    float min_p;
    float typical_p;
    float tfs_z;
    float top_n_sigma;
    float xtc_probability;
    float xtc_threshold;
    float repeat_penalty;
    int32_t repeat_last_n;
    float presence_penalty;
    float frequency_penalty;
    bool penalize_nl;
    float dry_multiplier;
    float dry_base;
    int32_t dry_allowed_length;
    int32_t dry_penalty_last_n;
    float adaptive_target;
    float adaptive_decay;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
    int32_t min_keep;
    uint32_t seed;
    // The samplers in their order, numbers of `sampler_kind`.
    const int32_t * order;
    size_t n_order;
    const llama_logit_bias * biases;
    size_t n_biases;
    // Token sequences one after the other, and how long each is.
    const llama_token * breaker_tokens;
    const size_t * breaker_lengths;
    size_t n_breakers;
};

namespace {

// Numbers of the samplers; the same stand in sampler.rs.
enum sampler_kind : int32_t {
    PENALTIES = 0,
    DRY,
    TOP_N_SIGMA,
    TOP_K,
    TFS_Z,
    TYPICAL_P,
    TOP_P,
    MIN_P,
    XTC,
    TEMPERATURE,
    INFILL,
    ADAPTIVE_P,
};

// llama.cpp compares each candidate with each other one in `infill`, and it drops all below a fifth.
constexpr int32_t INFILL_MOST = 256;
// Tokens from which Mirostat 1 estimates the distribution, as llama.cpp's server has it.
constexpr int32_t MIROSTAT_M = 100;
// Log probability of what cannot be: finite, because JSON knows no infinity.
constexpr float LEAST = -1e30f;

class builder {
  public:
    builder(lollmsd_sampler & sampler, const llama_vocab * vocab, const lollmsd_sampling & settings)
        : sampler(sampler), vocab(vocab), s(settings), n_vocab(llama_vocab_n_tokens(vocab)) {}

    void build() {
        if (s.mirostat != 0) {
            mirostat();
        } else if (coldest() && !(has(TYPICAL_P) && s.typical_p < 1.0f) && !(has(XTC) && xtc_on()) && !has(INFILL)) {
            // The other samplers never drop the best token.
            for (const int32_t kind : order()) {
                if (kind == PENALTIES || kind == DRY) {
                    add_kind(kind);
                }
            }
            greedy();
        } else {
            for (const int32_t kind : order()) {
                add_kind(kind);
            }
            if (has(ADAPTIVE_P)) {
                add(llama_sampler_init_adaptive_p(s.adaptive_target, s.adaptive_decay, s.seed));
            } else {
                add(llama_sampler_init_dist(s.seed));
            }
        }
    }

  private:
    lollmsd_sampler & sampler;
    const llama_vocab * vocab;
    const lollmsd_sampling & s;
    const int32_t n_vocab;

    std::vector<int32_t> order() const { return {s.order, s.order + s.n_order}; }

    bool has(int32_t kind) const { return std::find(s.order, s.order + s.n_order, kind) != s.order + s.n_order; }

    bool xtc_on() const { return s.xtc_probability > 0.0f && s.xtc_threshold <= 0.5f; }

    bool coldest() const { return has(TEMPERATURE) && s.temperature <= 0.0f && s.dynatemp_range <= 0.0f; }

    void add(llama_sampler * part) {
        if (part == nullptr) {
            throw std::runtime_error("llama.cpp refused a sampler");
        }
        llama_sampler_chain_add(sampler.chain, part);
    }

    void greedy() {
        sampler.greedy = llama_sampler_chain_n(sampler.chain) == 0 && sampler.biases.empty();
        sampler.certain = true;
        add(llama_sampler_init_greedy());
    }

    void mirostat() {
        if (s.temperature <= 0.0f) {
            return greedy();
        }
        add(llama_sampler_init_temp(s.temperature));
        if (s.mirostat == 1) {
            add(llama_sampler_init_mirostat(n_vocab, s.seed, s.mirostat_tau, s.mirostat_eta, MIROSTAT_M));
        } else {
            add(llama_sampler_init_mirostat_v2(s.seed, s.mirostat_tau, s.mirostat_eta));
        }
    }

    void penalties() {
        const bool on = s.repeat_last_n != 0 &&
            (s.repeat_penalty != 1.0f || s.presence_penalty != 0.0f || s.frequency_penalty != 0.0f);
        if (!on) {
            return;
        }
        llama_sampler * part = llama_sampler_init_penalties(
            n_vocab, s.repeat_last_n, s.repeat_penalty, s.frequency_penalty, s.presence_penalty);
        const llama_token newline = llama_vocab_nl(vocab);
        add(s.penalize_nl || newline < 0 || part == nullptr ? part : shim::sparing(part, newline));
    }

    void dry() {
        if (s.dry_multiplier == 0.0f || s.dry_penalty_last_n == 0) {
            return;
        }
        std::vector<std::vector<llama_token>> breakers;
        const llama_token * next = s.breaker_tokens;
        for (size_t i = 0; i < s.n_breakers; i++) {
            breakers.emplace_back(next, next + s.breaker_lengths[i]);
            next += s.breaker_lengths[i];
        }
        add(llama_sampler_init_dry_testing(
            s.dry_multiplier, s.dry_base, s.dry_allowed_length, s.dry_penalty_last_n, breakers));
    }

    void infill() {
        if (llama_vocab_eot(vocab) < 0 && llama_vocab_eos(vocab) < 0) {
            throw std::runtime_error("`infill` needs a model with an end token");
        }
        add(llama_sampler_init_top_k(INFILL_MOST));
        add(llama_sampler_init_infill(vocab));
    }

    void add_kind(int32_t kind) {
        const size_t min_keep = static_cast<size_t>(std::max(s.min_keep, 1));
        switch (kind) {
            case PENALTIES: penalties(); break;
            case DRY: dry(); break;
            case TOP_N_SIGMA: if (s.top_n_sigma > 0.0f) { add(llama_sampler_init_top_n_sigma(s.top_n_sigma)); } break;
            case TOP_K: if (s.top_k > 0) { add(llama_sampler_init_top_k(s.top_k)); } break;
            case TFS_Z: if (s.tfs_z < 1.0f) { add(shim::tail_free(s.tfs_z, min_keep)); } break;
            case TYPICAL_P: if (s.typical_p < 1.0f) { add(llama_sampler_init_typical(s.typical_p, min_keep)); } break;
            case TOP_P: if (s.top_p < 1.0f) { add(llama_sampler_init_top_p(s.top_p, min_keep)); } break;
            case MIN_P: if (s.min_p > 0.0f) { add(llama_sampler_init_min_p(s.min_p, min_keep)); } break;
            case XTC:
                if (xtc_on()) {
                    add(llama_sampler_init_xtc(s.xtc_probability, s.xtc_threshold, min_keep, s.seed));
                }
                break;
            case TEMPERATURE:
                if (s.dynatemp_range > 0.0f) {
                    add(llama_sampler_init_temp_ext(s.temperature, s.dynatemp_range, s.dynatemp_exponent));
                } else {
                    add(llama_sampler_init_temp(s.temperature));
                }
                break;
            case INFILL: infill(); break;
            // Chooses, so it stands last.
            case ADAPTIVE_P: break;
            default: throw std::runtime_error("a sampler that does not exist");
        }
    }
};

// The numbers of a step, or null with a reason in `err`.
const float * numbers(llama_context * ctx, int32_t at, char * err, size_t size) {
    const float * logits = llama_get_logits_ith(ctx, at);
    if (logits == nullptr) {
        say(err, size, "the step made no numbers for this token");
    }
    return logits;
}

int32_t vocabulary_size(const llama_context * ctx) {
    return llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
}

// Sorting what is no number would be undefined behaviour, and an infinite one leaves no probabilities.
bool unusable(float logit) {
    return !(logit <= FLT_MAX);
}

int32_t most_likely(const float * logits, int32_t n, char * err, size_t size) {
    int32_t best = 0;
    bool broken = false;
    for (int32_t i = 0; i < n; i++) {
        broken |= unusable(logits[i]);
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    if (broken) {
        say(err, size, "the model made numbers that are not finite");
        return -1;
    }
    return best;
}

// Fills the list with the candidates that biases and the mask leave; false when the numbers are broken.
bool fill(lollmsd_sampler & sampler, const float * logits, int32_t n, const uint64_t * mask) {
    auto & list = sampler.candidates;
    list.resize(n);
    bool broken = false;
    for (int32_t i = 0; i < n; i++) {
        broken |= unusable(logits[i]);
        list[i] = llama_token_data{i, logits[i], 0.0f};
    }
    bool banned = false;
    for (const auto & bias : sampler.biases) {
        list[bias.token].logit += bias.bias;
        banned |= bias.bias == -INFINITY;
    }
    if (banned || mask != nullptr) {
        const auto out = [&](const llama_token_data & x) {
            return (mask != nullptr && ((mask[x.id / 64] >> (x.id % 64)) & 1) == 0) || x.logit == -INFINITY;
        };
        list.erase(std::remove_if(list.begin(), list.end(), out), list.end());
    }
    return !broken;
}

}  // namespace

extern "C" {

lollmsd_sampler * lollmsd_sampler_new(
        const llama_vocab * vocab, const lollmsd_sampling * settings, char * err, size_t size) noexcept {
    return guarded<lollmsd_sampler *>(err, size, nullptr, [&] {
        auto sampler = std::make_unique<lollmsd_sampler>();
        llama_sampler_chain_params params = llama_sampler_chain_default_params();
        params.no_perf = true;
        sampler->chain = llama_sampler_chain_init(params);
        const int32_t n_vocab = llama_vocab_n_tokens(vocab);
        for (size_t i = 0; i < settings->n_biases; i++) {
            if (settings->biases[i].token < 0 || settings->biases[i].token >= n_vocab) {
                throw std::runtime_error("a bias for a token that does not exist");
            }
            sampler->biases.push_back(settings->biases[i]);
        }
        int32_t n_suppress = 0;
        const llama_token * suppress = llama_vocab_get_suppress_tokens(vocab, &n_suppress);
        for (int32_t i = 0; i < n_suppress; i++) {
            if (suppress[i] >= 0 && suppress[i] < n_vocab) {
                sampler->biases.push_back({suppress[i], -INFINITY});
            }
        }
        builder(*sampler, vocab, *settings).build();
        return sampler.release();
    });
}

void lollmsd_sampler_free(lollmsd_sampler * sampler) noexcept {
    delete sampler;
}

// Tells the chain which token came next.
void lollmsd_sampler_accept(lollmsd_sampler * sampler, llama_token token) noexcept {
    try {
        llama_sampler_accept(sampler->chain, token);
    } catch (...) {
        // Only grammars throw here, and there are none in a chain.
    }
}

// Chooses among the tokens that `mask` allows, all without one; -1 with a reason in `err`.
int32_t lollmsd_sample(
        lollmsd_sampler * sampler, llama_context * ctx, int32_t at, const uint64_t * mask, char * err,
        size_t size) noexcept {
    return guarded<int32_t>(err, size, -1, [&]() -> int32_t {
        const float * logits = numbers(ctx, at, err, size);
        if (logits == nullptr) {
            return -1;
        }
        const int32_t n = vocabulary_size(ctx);
        if (sampler->greedy && mask == nullptr) {
            sampler->left = {};
            return most_likely(logits, n, err, size);
        }
        if (!fill(*sampler, logits, n, mask)) {
            say(err, size, "the model made numbers that are not finite");
            return -1;
        }
        auto & list = sampler->candidates;
        llama_token_data_array array = {list.data(), list.size(), -1, false};
        // Many samplers give up on an empty list.
        if (array.size > 0) {
            llama_sampler_apply(sampler->chain, &array);
        }
        const bool chosen = array.selected >= 0 && array.selected < static_cast<int64_t>(array.size);
        if (!chosen || array.data[array.selected].logit == -INFINITY) {
            say(err, size, "no token is left to choose from");
            return -1;
        }
        sampler->left = sampler->certain ? llama_token_data_array{} : array;
        return array.data[array.selected].id;
    });
}

// For tests: applies the chain to `n` candidates with these logits and the numbers 0 to n - 1. What is left
// replaces `logits` and goes to `ids`; returns how many are left, or -1 with a reason in `err`.
int32_t lollmsd_sampler_try(
        lollmsd_sampler * sampler, float * logits, llama_token * ids, int32_t n, char * err, size_t size) noexcept {
    return guarded<int32_t>(err, size, -1, [&]() -> int32_t {
        if (!fill(*sampler, logits, n, nullptr)) {
            say(err, size, "the model made numbers that are not finite");
            return -1;
        }
        auto & list = sampler->candidates;
        llama_token_data_array array = {list.data(), list.size(), -1, false};
        llama_sampler_apply(sampler->chain, &array);
        for (size_t i = 0; i < array.size; i++) {
            ids[i] = array.data[i].id;
            logits[i] = array.data[i].logit;
        }
        return static_cast<int32_t>(array.size);
    });
}

// Log probabilities of `token`, into `own`, and of the likeliest tokens, into `ids` and `logs`, which have
// room for `top`. Returns how many of these there are, or -1 with a reason in `err`. `after` looks at what
// the chain left in the last step, otherwise at what the model made.
int32_t lollmsd_probabilities(
        const lollmsd_sampler * sampler, llama_context * ctx, int32_t at, bool after, llama_token token,
        int32_t top, llama_token * ids, float * logs, float * own, char * err, size_t size) noexcept {
    return guarded<int32_t>(err, size, -1, [&]() -> int32_t {
        std::vector<llama_token_data> list;
        if (after && sampler->left.size == 0) {
            // Nothing else was possible.
            list.push_back({token, 0.0f, 1.0f});
        } else if (after) {
            const auto left = [](const auto & x) { return x.logit > -INFINITY; };
            const auto & all = sampler->left;
            std::copy_if(all.data, all.data + all.size, std::back_inserter(list), left);
        } else {
            const float * logits = numbers(ctx, at, err, size);
            if (logits == nullptr) {
                return -1;
            }
            const int32_t n = vocabulary_size(ctx);
            list.resize(n);
            for (int32_t i = 0; i < n; i++) {
                list[i] = llama_token_data{i, logits[i], 0.0f};
            }
        }
        const auto likelier = [](const auto & a, const auto & b) { return a.logit > b.logit; };
        const float most = std::min_element(list.begin(), list.end(), likelier)->logit;
        double sum = 0.0;
        for (const auto & x : list) {
            sum += std::exp(x.logit - most);
        }
        const float all = most + static_cast<float>(std::log(sum));
        const auto log_of = [&](float logit) {
            const float log = logit - all;
            // Also when it is no number.
            return log > LEAST ? std::min(log, 0.0f) : LEAST;
        };
        *own = LEAST;
        for (const auto & x : list) {
            if (x.id == token) {
                *own = log_of(x.logit);
            }
        }
        const size_t count = std::min(static_cast<size_t>(std::max(top, 0)), list.size());
        std::partial_sort(list.begin(), list.begin() + count, list.end(), likelier);
        for (size_t i = 0; i < count; i++) {
            ids[i] = list[i].id;
            logs[i] = log_of(list[i].logit);
        }
        return static_cast<int32_t>(count);
    });
}

}  // extern "C"
