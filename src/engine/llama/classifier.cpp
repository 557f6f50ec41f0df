// Whether a model can rank: llama.cpp makes a context for ranking from any model, and without a head it
// hands out numbers that mean nothing.

#include <string>
#include <utility>
#include <vector>

#include "ggml.h"
#include "llama.h"

// In llama-model.h, which needs half of llama.cpp's source; the version is pinned.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

extern "C" bool lollmsd_has_classifier(const llama_model * model) noexcept {
    try {
        for (const auto & entry : llama_internal_get_tensor_map(model)) {
            if (entry.first == "cls.weight" || entry.first == "cls.output.weight") {
                return true;
            }
        }
    } catch (...) {
        return false;
    }
    return false;
}
