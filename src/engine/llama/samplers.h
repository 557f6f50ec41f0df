// Samplers that llama.cpp dropped, and which clients may still ask for.

#pragma once

#include <cstddef>

#include "llama.h"

namespace shim {

// Tail free sampling: keeps tokens until the curvature of the sorted probabilities has reached `z`.
llama_sampler * tail_free(float z, size_t min_keep);

// Runs `inner` and leaves the logit of one token as it was before. Takes over `inner`.
llama_sampler * sparing(llama_sampler * inner, llama_token spared);

}  // namespace shim
