# Common parts of tools/serve and tools/test: finds what is missing, installs it where it may, and
# sets up the caches. Sourced, never run.
#
# Nothing is written into the clone: builds, virtual environments and node packages lie beneath
# $lollmsd_cache, and everything works when that folder is empty or gone.

set -euo pipefail

# The clone.
lollmsd_home="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

say() { printf 'lollmsd: %s\n' "$*" >&2; }

stop() {
    say "$*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Sets the caches, so that llama.cpp is compiled once and survives a fresh clone.
setup_caches() {
    local base="${XDG_CACHE_HOME:-}"
    if [ -z "$base" ] && [ -n "${HOME:-}" ]; then base="$HOME/.cache"; fi
    if [ -z "$base" ]; then base="${TMPDIR:-/tmp}/cache-$(id -u)"; fi
    lollmsd_cache="$base/lollmsd"
    mkdir -p "$lollmsd_cache" || stop "cannot write to $lollmsd_cache; set XDG_CACHE_HOME"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$lollmsd_cache/target}"
    # As .cargo/config.toml has it, which cargo reads only when it is called from inside the clone: with
    # another value here llama.cpp would be compiled again.
    export LLAMA_LIB_PROFILE="${LLAMA_LIB_PROFILE:-Release}"
    if have ccache; then
        export CCACHE_DIR="${CCACHE_DIR:-$lollmsd_cache/ccache}"
        export CMAKE_C_COMPILER_LAUNCHER="${CMAKE_C_COMPILER_LAUNCHER:-ccache}"
        export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}"
    fi
}

# Installs the Debian packages named, or prints the line that does and stops.
install_packages() {
    [ "$#" -gt 0 ] || return 0
    local line="apt-get install -y --no-install-recommends $*"
    have apt-get || stop "missing: $*. Install them with your system's package manager."
    local prefix=()
    if [ "$(id -u)" -ne 0 ]; then
        if have sudo && sudo -n true 2>/dev/null; then
            prefix=(sudo -n)
        else
            say "missing: $*. Run this line, then try again:"
            printf 'sudo %s\n' "$line"
            exit 1
        fi
    fi
    say "installing: $*"
    local apt=("${prefix[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update -qq </dev/null >&2 || say "apt-get update failed; trying with what is known"
    "${apt[@]}" install -y -qq --no-install-recommends "$@" </dev/null >&2 \
        || stop "could not install: $*. The line was: $line"
}

has_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local found
    for found in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* \
        /usr/local/lib/libclang*.so*; do
        [ ! -e "$found" ] || return 0
    done
    return 1
}

# Rust itself is the one thing that is asked for and not installed.
check_rust() {
    local wanted
    wanted="$(sed -n 's/^channel = "\(.*\)"/\1/p' "$lollmsd_home/rust-toolchain.toml")"
    # rustup changes the PATH of the next login only.
    if ! have cargo && [ -x "${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo" ]; then
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    have cargo || stop "Rust is missing. Install it from https://rustup.rs, then try again."
    # With rustup this fetches the pinned toolchain; without it, it is whatever is installed.
    local version
    version="$(cd "$lollmsd_home" && rustc --version </dev/null | cut -d' ' -f2)" \
        || stop "rustc does not run; Rust $wanted is needed (rustup toolchain install $wanted)"
    if [ "$(printf '%s\n%s\n' "$wanted" "$version" | sort -V | head -n 1)" != "$wanted" ]; then
        stop "Rust $version is too old; $wanted or newer is needed (rustup toolchain install $wanted)"
    fi
}

# What llama.cpp is compiled with.
setup_build() {
    check_rust
    local missing=()
    have cmake || missing+=(cmake)
    have make || missing+=(make)
    have g++ || have clang++ || have c++ || missing+=(g++)
    # bindgen reads llama.cpp's headers with libclang; its own headers come with the same package.
    has_libclang || missing+=(libclang-dev)
    # ccache only saves time, so it is installed along with others or where that needs no question.
    if ! have ccache && have apt-get; then
        if [ "${#missing[@]}" -gt 0 ] || [ "$(id -u)" -eq 0 ]; then missing+=(ccache); fi
    fi
    install_packages "${missing[@]}"
    setup_caches
    check_cpu
}

# llama.cpp is built for these instructions (its own default on x86-64); without them the first
# computation would end in an illegal instruction.
check_cpu() {
    [ "$(uname -m)" = x86_64 ] || return 0
    [ -r /proc/cpuinfo ] || return 0
    local flag missing=()
    for flag in sse4_2 avx avx2 bmi2 fma f16c; do
        grep -qwm1 "$flag" /proc/cpuinfo || missing+=("$flag")
    done
    [ "${#missing[@]}" -eq 0 ] || say "this CPU lacks ${missing[*]}; the build is made without them"
    for flag in "${missing[@]}"; do
        case "$flag" in
        sse4_2) export GGML_SSE42=OFF ;;
        *) export "GGML_$(printf '%s' "$flag" | tr '[:lower:]' '[:upper:]')=OFF" ;;
        esac
    done
}

# A folder of the cache named by the content of the files given, so that a change makes a new one.
cache_folder() {
    local name="$1"
    shift
    printf '%s/%s-%s' "$lollmsd_cache" "$name" "$(cat "$@" | sha256sum | cut -c1-16)"
}

# A virtual environment with what the Python clients need; sets $lollmsd_python.
setup_python() {
    local wanted="$lollmsd_home/tests/clients/python/requirements.txt"
    local missing=()
    have python3 || missing+=(python3)
    { have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; } || missing+=(python3-venv)
    install_packages "${missing[@]}"
    local folder
    folder="$(cache_folder venv "$wanted")"
    lollmsd_python="$folder/bin/python"
    if [ ! -e "$folder/complete" ] || ! "$lollmsd_python" -c '' 2>/dev/null; then
        rm -rf "$folder"
        say "making a Python environment in $folder"
        python3 -m venv "$folder"
        "$lollmsd_python" -m pip install --quiet --requirement "$wanted" </dev/null >&2
        touch "$folder/complete"
    fi
}

# The packages that the JavaScript clients need; sets $lollmsd_node_path.
setup_node() {
    local source="$lollmsd_home/tests/clients/js"
    local missing=()
    have node || missing+=(nodejs)
    have npm || missing+=(npm)
    install_packages "${missing[@]}"
    local folder
    folder="$(cache_folder node "$source/package.json" "$source/package-lock.json")"
    lollmsd_node_path="$folder/node_modules"
    if [ ! -e "$folder/complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        say "installing node packages in $folder"
        cp "$source/package.json" "$source/package-lock.json" "$folder/"
        (cd "$folder" && npm ci --no-audit --no-fund --ignore-scripts </dev/null >&2)
        touch "$folder/complete"
    fi
}
