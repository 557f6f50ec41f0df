// What the files of the shim between the engine (Rust) and llama.cpp (C++) share.
//
// Every function for Rust is noexcept and catches everything: a C++ exception that reached Rust would end
// the process. Failures come back as a code and a text in `err`, which is always ended with a zero byte.
// What llama.cpp would answer with an assertion (which ends the process too) is checked in the shim or by
// the caller in Rust, see mod.rs.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>

namespace shim {

// Answer of a call that threw.
constexpr int32_t THROWN = -1000;

inline void say(char * err, size_t size, const char * text) noexcept {
    if (size > 0) {
        std::snprintf(err, size, "%s", text);
    }
}

// Runs `call`; an exception becomes its text in `err` and `failed` as the result.
template <typename Result, typename Call>
Result guarded(char * err, size_t size, Result failed, Call call) noexcept {
    say(err, size, "");
    try {
        return call();
    } catch (const std::exception & e) {
        say(err, size, e.what());
    } catch (...) {
        say(err, size, "an unknown C++ exception");
    }
    return failed;
}

// Copies text for Rust, which gives it back to lollmsd_text_free.
inline char * copied(const std::string & text, size_t * length) {
    char * copy = static_cast<char *>(std::malloc(text.size() + 1));
    if (copy == nullptr) {
        throw std::bad_alloc();
    }
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = 0;
    *length = text.size();
    return copy;
}

}  // namespace shim
