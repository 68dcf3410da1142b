# shellcheck shell=bash
# What run, test and check share: packages, Rust, the build, the models. Sourced, not run.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$ROOT/target}")
BIN_DIR=$CARGO_TARGET_DIR/release
# Debian keeps some tools where only root looks.
PATH=$PATH:/usr/sbin:/sbin
export HOME PATH CARGO_TARGET_DIR

# What is needed to build and to fetch models, as Debian's packages.
BUILD_PACKAGES=(
    ca-certificates # https
    g++ make cmake pkg-config # the native engines
    clang libclang-dev # their bindings
    libsonic-dev # espeak-ng
    libssl-dev # a build script that downloads, though ours has nothing to download
    python3-pip # `offhook models fetch` gets packages with it
)

say() {
    printf '==> %s\n' "$*" >&2
}

fail() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# step WORDS COMMAND...: says what begins, and how long it took where that was long.
step() {
    local words=$1 start=$SECONDS took
    shift
    say "$words"
    "$@" || return
    took=$((SECONDS - start))
    if ((took >= 5)); then
        say "  done in $((took / 60)) min $((took % 60)) s"
    fi
}

# at_least A B: version A is B or newer.
at_least() {
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# have PACKAGE: what we want of that package is here, wherever it came from.
have() {
    case $1 in
        ca-certificates) [ -r "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] ;;
        g++) command -v c++ && command -v cc ;;
        libclang-dev) [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' ;;
        libsonic-dev) [ -f /usr/include/sonic.h ] ;;
        libssl-dev) pkg-config --exists openssl ;;
        python3-pip) command -v pip || command -v pip3 ;;
        python3-venv) python3 -c 'import ensurepip' ;;
        libspandsp2) compgen -G '/usr/lib/*/libspandsp.so.2' ;;
        python3-dev) compgen -G '/usr/include/python3*/Python.h' ;;
        procps) type -P kill ;;
        systemd) command -v systemd-analyze ;;
        postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' ;;
        nodejs) command -v node ;;
        sip-tester) command -v sipp ;;
        sipvicious) command -v svmap ;;
        baresip-core) command -v baresip ;;
        rustfmt-web) cargo fmt --version ;;
        rust-web-clippy) cargo clippy --version ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

# as_root COMMAND...
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# apt_install PACKAGE...
apt_install() {
    local log
    command -v apt-get >/dev/null ||
        fail "missing here: $*. These are Debian's names; there is no apt-get, so install them first."
    can_be_root ||
        fail "packages are missing, and installing them needs root or sudo. As root:" \
            "apt-get install --no-install-recommends $*"
    log=$(mktemp)
    # Nothing of the system's own is ever removed to make room for what we want.
    if ! {
        as_root apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
                --no-remove -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
    } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $*; its last words are above. Without a network this cannot go on."
    fi
    rm -f "$log"
}

# need_packages PACKAGE...: installs those that are missing.
need_packages() {
    local package missing=()
    for package in "$@"; do
        have "$package" || missing+=("$package")
    done
    if ((${#missing[@]})); then
        step "Installing ${missing[*]} (apt; up to a few minutes)" apt_install "${missing[@]}"
        for package in "${missing[@]}"; do
            have "$package" || fail "$package is installed, but what it should bring was not found"
        done
    fi
}

rust_wanted() {
    sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml"
}

# The oldest of cargo and rustc; nothing where one is missing.
rust_here() {
    local cargo rustc
    cargo=$(cd "$ROOT" && cargo --version 2>/dev/null | cut -d' ' -f2) &&
        rustc=$(cd "$ROOT" && rustc --version 2>/dev/null | cut -d' ' -f2) &&
        printf '%s\n' "$cargo" "$rustc" | sort -V | head -n 1
}

rust_is_right() {
    local here
    here=$(rust_here) && [ -n "$here" ] && at_least "$here" "$(rust_wanted)"
}

# rust_is_right_in FOLDER: likewise, after putting that folder first, which stays if it is right.
rust_is_right_in() {
    local before=$PATH
    PATH=$1:$PATH
    hash -r
    if rust_is_right; then
        return
    fi
    PATH=$before
    return 1
}

# Rust from its own project, as far as that can be reached; into the user's home.
rustup_install() {
    local installer
    if command -v rustup >/dev/null; then
        curl -fsS --max-time 15 -o /dev/null https://static.rust-lang.org/rustup/release-stable.toml 2>/dev/null ||
            return 1
        rustup toolchain install stable --profile minimal --no-self-update >&2 || return 1
        export RUSTUP_TOOLCHAIN=stable
        return 0
    fi
    installer=$(mktemp)
    if ! curl --proto '=https' --tlsv1.2 -fsS --connect-timeout 8 --max-time 30 \
        https://sh.rustup.rs -o "$installer" 2>/dev/null; then
        rm -f "$installer"
        return 1
    fi
    sh "$installer" -y -q --profile minimal --no-modify-path --default-toolchain stable >&2 || {
        rm -f "$installer"
        return 1
    }
    rm -f "$installer"
}

debian_rust_install() {
    local version
    command -v apt-cache >/dev/null || return 1
    version=$(apt-cache policy rustc-web | sed -n 's/^  Candidate: \([0-9.]*\).*/\1/p')
    if [ -z "$version" ] || ! at_least "$version" "$(rust_wanted)"; then
        return 1
    fi
    apt_install rustc-web cargo-web
}

need_rust() {
    local own=${CARGO_HOME:-$HOME/.cargo}/bin
    if rust_is_right || rust_is_right_in "$own"; then
        return
    fi
    need_packages curl
    say "Rust $(rust_wanted) or newer is missing: trying rustup (about a minute)"
    if rustup_install && rust_is_right_in "$own"; then
        return
    fi
    say "  not to be had: trying Debian's rustc-web (about two minutes)"
    if debian_rust_install && rust_is_right_in /usr/bin; then
        return
    fi
    fail "Rust $(rust_wanted) or newer could be had neither from rustup nor from Debian (rustc-web)." \
        "Install it as https://rustup.rs says, and start this again."
}

# need_room FOLDER MEGABYTES WHAT
need_room() {
    local free folder=$1
    until [ -e "$folder" ]; do
        folder=$(dirname "$folder")
    done
    free=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
    ((free >= $2)) ||
        fail "$3 needs about $(($2 / 1000)) GB on the disk of $1, which has $((free / 1000)) GB left." \
            "Make room, or point CARGO_TARGET_DIR (build) or --data (models, calls) at another disk."
}

# cargo, in the checkout's root: its settings lie there.
in_root() {
    (cd "$ROOT" && "$@")
}

# Everything that a build needs.
prepare() {
    local sonic=present
    have libsonic-dev || sonic=missing
    need_packages "${BUILD_PACKAGES[@]}"
    if [ "$sonic" = missing ]; then
        # A build that failed for the want of it is remembered, and would fail again.
        rm -rf "$BIN_DIR"/build/espeak-rs-sys-*
    fi
    need_rust
    [ -x "$BIN_DIR/offhook" ] || need_room "$CARGO_TARGET_DIR" 5000 "The build"
}

build() {
    local words="Building"
    [ -x "$BIN_DIR/offhook" ] || words="Building for the first time (10 to 25 minutes on two cores)"
    step "$words" in_root cargo build --release --locked --bins ||
        fail "The build failed; the messages above say where. A failed download means that crates.io" \
            "cannot be reached: start this again when it can, and it goes on where it stopped."
    settle_espeak
    "$ROOT/scripts/espeak-data" "$BIN_DIR"
}

# The build script of espeak-rs-sys watches headers that it copies itself. They are younger than
# its stamp, so that cargo would build all of it a second time, for two minutes and a half.
settle_espeak() {
    local stamp
    for stamp in "$BIN_DIR"/build/espeak-rs-sys-*/invoked.timestamp; do
        find "${stamp%/*}/out/espeak-ng/src/include" -newer "$stamp" -exec touch -r "$stamp" {} +
    done
}

# fetch_models [ARGUMENT...]: what `offhook models fetch` takes; without names, what the server needs.
# shellcheck disable=SC2120
fetch_models() {
    step "Models (0.75 GB the first time)" "$BIN_DIR/offhook" models fetch "$@" >&2 ||
        fail "Not all models could be had; the messages above say why. Start this again and it goes on" \
            "where it stopped."
}
