#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "samplers.h"

namespace shim {

namespace {

struct tail_free_state {
    float z;
    size_t min_keep;
    std::vector<float> p;
};

void tail_free_apply(llama_sampler * sampler, llama_token_data_array * list) {
    auto & state = *static_cast<tail_free_state *>(sampler->ctx);
    // Two differences need three tokens.
    if (state.z >= 1.0f || list->size <= 2) {
        return;
    }
    if (!list->sorted) {
        std::sort(list->data, list->data + list->size, [](const auto & a, const auto & b) {
            return a.logit > b.logit;
        });
        list->sorted = true;
    }
    const size_t n = list->size;
    auto & p = state.p;
    p.resize(n);
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) {
        p[i] = std::exp(list->data[i].logit - list->data[0].logit);
        sum += p[i];
    }
    for (float & x : p) {
        x /= sum;
    }
    const auto curvature = [&](size_t i) { return std::fabs((p[i] - p[i + 1]) - (p[i + 1] - p[i + 2])); };
    float all = 0.0f;
    for (size_t i = 0; i + 2 < n; i++) {
        all += curvature(i);
    }
    // A straight line has no tail; all parts of it weigh the same then.
    const bool straight = all <= 1e-6f;
    float reached = 0.0f;
    for (size_t i = 0; i + 2 < n; i++) {
        reached += straight ? 1.0f / static_cast<float>(n - 2) : curvature(i) / all;
        if (reached > state.z && i >= state.min_keep) {
            list->size = i;
            break;
        }
    }
}

struct sparing_state {
    llama_sampler * inner;
    llama_token spared;
};

void sparing_apply(llama_sampler * sampler, llama_token_data_array * list) {
    auto & state = *static_cast<sparing_state *>(sampler->ctx);
    const auto end = list->data + list->size;
    const auto find = [&] {
        return std::find_if(list->data, end, [&](const auto & x) { return x.id == state.spared; });
    };
    const auto before = find();
    const float logit = before == end ? 0.0f : before->logit;
    llama_sampler_apply(state.inner, list);
    const auto after = find();
    if (before != end && after != end) {
        after->logit = logit;
    }
}

}  // namespace

llama_sampler * tail_free(float z, size_t min_keep) {
    static llama_sampler_i table = [] {
        llama_sampler_i table = {};
        table.name = [](const llama_sampler *) { return "tail-free"; };
        table.apply = tail_free_apply;
        table.free = [](llama_sampler * sampler) { delete static_cast<tail_free_state *>(sampler->ctx); };
        return table;
    }();
    // At least the likeliest token stays.
    auto state = std::make_unique<tail_free_state>();
    state->z = z;
    state->min_keep = std::max<size_t>(min_keep, 1);
    return llama_sampler_init(&table, state.release());
}

llama_sampler * sparing(llama_sampler * inner, llama_token spared) {
    static llama_sampler_i table = [] {
        llama_sampler_i table = {};
        table.name = [](const llama_sampler *) { return "sparing"; };
        table.accept = [](llama_sampler * sampler, llama_token token) {
            llama_sampler_accept(static_cast<sparing_state *>(sampler->ctx)->inner, token);
        };
        table.apply = sparing_apply;
        table.free = [](llama_sampler * sampler) {
            auto * state = static_cast<sparing_state *>(sampler->ctx);
            llama_sampler_free(state->inner);
            delete state;
        };
        return table;
    }();
    return llama_sampler_init(&table, new sparing_state{inner, spared});
}

}  // namespace shim
