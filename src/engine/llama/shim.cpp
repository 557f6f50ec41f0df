// Between the engine (Rust) and llama.cpp (C++).
//
// Models, contexts, tokens, templates, and the end of the process; see shim.h for what holds everywhere.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>

#include "chat.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "json-schema-to-grammar.h"
#include "llama.h"

#include "shim.h"

using shim::copied;
using shim::guarded;
using shim::say;
using shim::THROWN;

extern "C" {

void lollmsd_text_free(char * text) noexcept {
    std::free(text);
}

llama_model * lollmsd_model_load(
        const char * path, int32_t gpu_layers, bool check_tensors,
        llama_progress_callback progress, void * user_data, char * err, size_t size) noexcept {
    return guarded<llama_model *>(err, size, nullptr, [&] {
        llama_model_params params = llama_model_default_params();
        params.n_gpu_layers = gpu_layers;
        params.check_tensors = check_tensors;
        params.progress_callback = progress;
        params.progress_callback_user_data = user_data;
        return llama_model_load_from_file(path, params);
    });
}

// Settings of a context; the same struct stands in context.rs.
struct lollmsd_context_settings {
    uint32_t n_ctx;
    uint32_t n_batch;
    uint32_t n_seq_max;
    uint32_t n_outputs;
    int32_t threads;
    int32_t kv_type;
    bool embeddings;
    int32_t pooling;
};

// On a CPU, llama.cpp's flash attention rounds differently for each width of a step, so a text would
// depend on its neighbours; it is slower there too. What it saves is memory for the attention's scores.
static enum llama_flash_attn_type flash_attention(
        const llama_model * model, const lollmsd_context_settings * settings, uint32_t n_ubatch) {
    const uint64_t n_head = static_cast<uint64_t>(std::max(llama_model_n_head(model), 1));
    const uint64_t scores = n_head * settings->n_ctx * n_ubatch * sizeof(float);
    const bool quantized = ggml_is_quantized(static_cast<ggml_type>(settings->kv_type));
    constexpr uint64_t most = 1ull << 30;
    if (quantized || llama_supports_gpu_offload() || scores >= most) {
        return LLAMA_FLASH_ATTN_TYPE_AUTO;
    }
    return LLAMA_FLASH_ATTN_TYPE_DISABLED;
}

llama_context * lollmsd_context_new(
        llama_model * model, const lollmsd_context_settings * settings, ggml_threadpool * pool,
        char * err, size_t size) noexcept {
    return guarded<llama_context *>(err, size, nullptr, [&] {
        llama_context_params params = llama_context_default_params();
        params.n_ctx = settings->n_ctx;
        params.n_batch = settings->n_batch;
        // An embedding needs its whole text in one go when the model looks both ways.
        params.n_ubatch = settings->embeddings ? settings->n_batch : std::min(settings->n_batch, 512u);
        params.n_seq_max = settings->n_seq_max;
        if (!settings->embeddings) {
            // So many tokens are chosen in a step at most; no more numbers are ever kept.
            params.n_outputs_max = settings->n_outputs;
        }
        params.n_threads = settings->threads;
        params.n_threads_batch = settings->threads;
        params.type_k = static_cast<ggml_type>(settings->kv_type);
        params.type_v = static_cast<ggml_type>(settings->kv_type);
        params.kv_unified = true;
        // A cut-back sequence must still have all its cells in models with a sliding window.
        params.swa_full = true;
        params.embeddings = settings->embeddings;
        params.pooling_type = static_cast<enum llama_pooling_type>(settings->pooling);
        params.no_perf = true;
        params.flash_attn_type = flash_attention(model, settings, params.n_ubatch);
        llama_context * ctx = llama_init_from_model(model, params);
        if (ctx != nullptr) {
            llama_attach_threadpool(ctx, pool, pool);
        }
        return ctx;
    });
}

llama_adapter_lora * lollmsd_adapter_load(
        llama_model * model, const char * path, char * err, size_t size) noexcept {
    return guarded<llama_adapter_lora *>(err, size, nullptr, [&]() -> llama_adapter_lora * {
        llama_adapter_lora * adapter = llama_adapter_lora_init(model, path);
        if (adapter != nullptr && llama_adapter_get_alora_n_invocation_tokens(adapter) > 0) {
            llama_adapter_lora_free(adapter);
            throw std::runtime_error("it begins to work at a token of its own, which is not supported");
        }
        return adapter;
    });
}

void lollmsd_adapters_set(
        llama_context * ctx, llama_adapter_lora ** adapters, size_t count, float * scales) noexcept {
    try {
        llama_set_adapters_lora(ctx, adapters, count, scales);
    } catch (...) {
        // Only for want of memory, which the next step meets too.
    }
}

ggml_threadpool * lollmsd_threads_new(int32_t threads, uint32_t poll) noexcept {
    try {
        ggml_threadpool_params params = ggml_threadpool_params_default(threads);
        params.poll = poll;
        return ggml_threadpool_new(&params);
    } catch (...) {
        return nullptr;
    }
}

int32_t lollmsd_decode(llama_context * ctx, const llama_batch * batch, char * err, size_t size) noexcept {
    return guarded<int32_t>(err, size, THROWN, [&] { return llama_decode(ctx, *batch); });
}

bool lollmsd_seq_rm(llama_context * ctx, int32_t seq, int32_t from) noexcept {
    try {
        return llama_memory_seq_rm(llama_get_memory(ctx), seq, from, -1);
    } catch (...) {
        return false;
    }
}

// Lets `to` hold the cells of `from` at the positions [start, end) too.
void lollmsd_seq_share(llama_context * ctx, int32_t from, int32_t to, int32_t start, int32_t end) noexcept {
    try {
        llama_memory_seq_cp(llama_get_memory(ctx), from, to, start, end);
    } catch (...) {
        // Nothing in it throws but for want of memory, which the next step meets too.
    }
}

// Takes the positions [start, end) out and moves what follows there. The caller knows that it can be done.
void lollmsd_seq_shift(llama_context * ctx, int32_t seq, int32_t start, int32_t end) noexcept {
    try {
        llama_memory_t memory = llama_get_memory(ctx);
        llama_memory_seq_rm(memory, seq, start, end);
        llama_memory_seq_add(memory, seq, end, -1, start - end);
    } catch (...) {
        // As above.
    }
}

bool lollmsd_can_shift(const llama_context * ctx) noexcept {
    try {
        return llama_memory_can_shift(llama_get_memory(ctx));
    } catch (...) {
        return false;
    }
}

size_t lollmsd_seq_state_size(llama_context * ctx, int32_t seq) noexcept {
    try {
        return llama_state_seq_get_size(ctx, seq);
    } catch (...) {
        return 0;
    }
}

size_t lollmsd_seq_state_get(llama_context * ctx, int32_t seq, uint8_t * to, size_t size) noexcept {
    try {
        return llama_state_seq_get_data(ctx, to, size, seq);
    } catch (...) {
        return 0;
    }
}

size_t lollmsd_seq_state_set(llama_context * ctx, int32_t seq, const uint8_t * from, size_t size) noexcept {
    try {
        return llama_state_seq_set_data(ctx, from, size, seq);
    } catch (...) {
        return 0;
    }
}

int32_t lollmsd_tokenize(
        const llama_vocab * vocab, const char * text, int32_t length, llama_token * tokens,
        int32_t capacity, bool add_special, bool parse_special, char * err, size_t size) noexcept {
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) {
        say(err, size, "the model has no vocabulary");
        return THROWN;
    }
    int32_t n = guarded<int32_t>(err, size, INT32_MIN, [&] {
        return llama_tokenize(vocab, text, length, tokens, capacity, add_special, parse_special);
    });
    return n;
}

int32_t lollmsd_token_bytes(
        const llama_vocab * vocab, llama_token token, char * buffer, int32_t capacity, bool special) noexcept {
    try {
        return llama_token_to_piece(vocab, token, buffer, capacity, 0, special);
    } catch (...) {
        return 0;
    }
}

// Null and an empty `err` mean that the model has no template.
common_chat_templates * lollmsd_templates_new(const llama_model * model, char * err, size_t size) noexcept {
    return guarded<common_chat_templates *>(err, size, nullptr, [&]() -> common_chat_templates * {
        if (llama_model_chat_template(model, nullptr) == nullptr) {
            return nullptr;
        }
        return common_chat_templates_init(model, "").release();
    });
}

void lollmsd_templates_free(common_chat_templates * templates) noexcept {
    common_chat_templates_free(templates);
}

char * lollmsd_templates_apply(
        const common_chat_templates * templates, const char * const * roles, const char * const * contents,
        const size_t * content_lengths, size_t count, size_t * length, char * err, size_t size) noexcept {
    return guarded<char *>(err, size, nullptr, [&] {
        common_chat_templates_inputs inputs;
        inputs.add_generation_prompt = true;
        inputs.use_jinja = true;
        inputs.messages.resize(count);
        for (size_t i = 0; i < count; i++) {
            inputs.messages[i].role = roles[i];
            inputs.messages[i].content = std::string(contents[i], content_lengths[i]);
        }
        return copied(common_chat_templates_apply(templates, inputs).prompt, length);
    });
}

// The grammar of a JSON schema.
char * lollmsd_schema_grammar(
        const char * schema, size_t length, size_t * grammar_length, char * err, size_t size) noexcept {
    return guarded<char *>(err, size, nullptr, [&] {
        const common_json parsed = common_json::parse(std::string(schema, length));
        return copied(json_schema_to_grammar(parsed, true), grammar_length);
    });
}

// ---- the end of the process -------------------------------------------------------------------------

// Ends the process at once, without destructors: other threads may be in the middle of a step.
void lollmsd_exit(int32_t code) noexcept {
    _exit(code);
}

static std::atomic<int> crash_fd{-1};
static std::atomic<bool> crash_in_line{false};
static char crash_reason[1024];
static std::atomic<bool> crash_has_reason{false};

// Tells whether the last write to the protocol's descriptor ended in the middle of a line.
void lollmsd_crash_in_line(bool in_line) noexcept {
    crash_in_line.store(in_line, std::memory_order_relaxed);
}

// Only calls that are allowed in a signal handler.
static void crash_write(const char * text, size_t length) noexcept {
    const int fd = crash_fd.load();
    while (length > 0) {
        const ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        text += n;
        length -= static_cast<size_t>(n);
    }
}

static void crash_handler(int number) noexcept {
    const char * reason = "a fatal signal";
    switch (number) {
        case SIGSEGV: reason = "a memory fault or a stack overflow (SIGSEGV)"; break;
        case SIGABRT: reason = "it gave up (SIGABRT)"; break;
        case SIGILL: reason = "an instruction that this CPU does not have (SIGILL)"; break;
        case SIGBUS: reason = "a memory fault, or the model's file became shorter (SIGBUS)"; break;
        case SIGFPE: reason = "an arithmetic fault (SIGFPE)"; break;
        default: break;
    }
    if (number == SIGABRT && crash_has_reason.load()) {
        reason = crash_reason;
    }
    if (crash_in_line.load(std::memory_order_relaxed)) {
        crash_write("\n", 1);
    }
    static const char before[] = "{\"fatal\":{\"reason\":\"";
    static const char after[] = "\"}}\n";
    crash_write(before, sizeof(before) - 1);
    crash_write(reason, strlen(reason));
    crash_write(after, sizeof(after) - 1);
    // The handler was installed with SA_RESETHAND: this ends the process with the true signal.
    raise(number);
}

// ggml calls this before it aborts. Keeps the text as it may stand in a JSON string.
static void crash_note(const char * message) {
    size_t n = 0;
    std::fprintf(stderr, "%s\n", message);
    // The message begins with the path of llama.cpp's source on the machine that built it.
    const char * place = strchr(message, ':');
    while (place != nullptr && place > message && place[-1] != '/') {
        place--;
    }
    for (const char * c = place == nullptr ? message : place; *c != 0 && n + 1 < sizeof(crash_reason); c++) {
        const bool plain = *c >= 0x20 && *c < 0x7f && *c != '"' && *c != '\\';
        crash_reason[n++] = plain ? *c : ' ';
    }
    crash_reason[n] = 0;
    crash_has_reason.store(true);
}

// From now on a crash writes one `fatal` line to `fd` before the process ends.
void lollmsd_crash_install(int32_t fd) noexcept {
    crash_fd.store(fd);
    ggml_set_abort_callback(crash_note);
    // Threads that Rust starts have an alternate stack of their own, the main thread too.
    struct sigaction action = {};
    action.sa_handler = crash_handler;
    action.sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    for (const int number : {SIGSEGV, SIGABRT, SIGILL, SIGBUS, SIGFPE}) {
        sigaction(number, &action, nullptr);
    }
}

}  // extern "C"
