# Sourced by the scripts beside it: which board, which target, and where its tools are. Not to be run.
# shellcheck shell=bash disable=SC2034

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# The binary of each board, and the tools that come from PyPI.
target_folder=${CARGO_TARGET_DIR:-target}
tools_folder=${XDG_CACHE_HOME:-$HOME/.cache}/postern/cross

# Reads the board's triple; ends the script when there is no such board. Sets and exports BOARD.
use_board() {
    export BOARD=${1:-}
    if [ ! -f "targets/boards/$BOARD.toml" ]; then
        echo "usage: $0 BOARD, one of:$(for file in targets/boards/*.toml; do printf ' %s' "$(basename "$file" .toml)"; done)" >&2
        exit 64
    fi
    triple=$(sed -n 's/^triple *= *"\([^"]*\)".*/\1/p' "targets/boards/$BOARD.toml")
    binary=$target_folder/$triple/release/postern
}

# True when the standard library for the board's target is installed (`rustup target add`).
std_is_installed() {
    local libdir
    libdir=$(rustc --print target-libdir --target "$triple" 2>/dev/null) &&
        compgen -G "$libdir/libstd-*.rlib" >/dev/null
}

# The qemu that runs the board's binary here, with the board's processor: qemu's default processor knows instructions
# that the board does not, and would hide an illegal one. Empty when this machine runs the binary itself.
emulator() {
    case $triple in
        "$(uname -m)"-*) ;;
        armv7-*hf) echo qemu-arm-static -cpu cortex-a7 ;;
        armv7-*) echo qemu-arm-static -cpu cortex-a9,vfp=off,neon=off ;;
        arm-*) echo qemu-arm-static -cpu arm1176 ;;
        armv5te-*) echo qemu-arm-static -cpu arm926 ;;
        *) echo "qemu-${triple%%-*}-static" ;;
    esac
}
