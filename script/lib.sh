# Shared by the scripts beside it; sourced, not run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
prefix=$build/prefix
cargo_target=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TARGET_DIR=$cargo_target
jobs=$(nproc)

say() { printf '== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# have <Debian package>: whether what evl needs of it is there, wherever it came from.
have() {
  case $1 in
    ninja-build) command -v ninja ;;
    abigail-tools) command -v abidw && command -v abidiff ;;
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    python3-dev) python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' ;;
    libpython3*-testsuite) python3 -c 'import test.test_asyncio' ;;
    netcat-openbsd) command -v nc ;;
    libhiredis-dev) pkg-config --exists hiredis ;;
    libcurl4-openssl-dev) pkg-config --exists libcurl ;;
    postgresql) command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

# ensure_packages <Debian package>...: installs what is missing when it may, or says what to install.
ensure_packages() {
  local package missing=()
  for package in "$@"; do
    have "$package" || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
      say "installing ${missing[*]}"
      export DEBIAN_FRONTEND=noninteractive
      apt-get update -qq
      apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
      die "needs ${missing[*]}; as root: apt-get install ${missing[*]}"
    fi
  fi
  ensure_rust
}

# offer_packages <Debian package>...: installs what is missing when it may, starting no service; it is fine when it may not.
offer_packages() {
  local package clusters=/etc/postgresql-common/createcluster.d
  for package in "$@"; do
    if ! have "$package" && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
      say "installing $package"
      apt-get update -qq || true
      # PostgreSQL is to make no cluster either; what says so stays no longer than the installation.
      if [ "$package" = postgresql ]; then
        mkdir -p "$clusters"
        echo "create_main_cluster = off" >"$clusters/evl.conf"
      fi
      DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$package" >/dev/null || true
      rm -f "$clusters/evl.conf"
    fi
  done
}

ensure_rust() {
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || die "needs the Rust toolchain (cargo and rustc, 1.88 or newer): https://rustup.rs"
}

# build_package: the release libraries and the generated header, under build/cmake.
build_package() {
  cmake -S "$root" -B "$build/cmake" -G Ninja -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
    -DEVL_GENERATE_HEADER=ON -DEVL_CARGO_TARGET_DIR="$cargo_target" >/dev/null
  cmake --build "$build/cmake"
}

# install_package [prefix]
install_package() {
  local to=${1:-$prefix}
  rm -rf "$to"
  cmake --install "$build/cmake" --prefix "$to" >/dev/null
}

# build_python: the binding for Python as pip installs it, from a wheel that is built against the prefix, in an environment of its own.
build_python() {
  [ -x "$build/python/bin/pip" ] || python3 -m venv "$build/python"
  "$build/python/bin/python" -c 'import setuptools, wheel; assert int(setuptools.__version__.split(".")[0]) >= 77' 2>/dev/null ||
    "$build/python/bin/pip" install --quiet 'setuptools>=77' wheel
  rm -rf "$build/wheel" "$root/bindings/python/build"
  EVL_PREFIX=$prefix "$build/python/bin/pip" wheel --quiet --no-deps --no-build-isolation -w "$build/wheel" "$root/bindings/python"
  rm -rf "$root/bindings/python/build"
  "$build/python/bin/pip" install --quiet --force-reinstall --no-deps "$build/wheel"/evl-*.whl
  (cd / && "$build/python/bin/python" -c 'import evl; print(evl.__file__, evl.__version__, evl.libevl_version)')
}

# build_examples: every example, by find_package against the prefix.
build_examples() {
  cmake -S "$root/examples" -B "$build/examples" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
  cmake --build "$build/examples"
}

# header_prototypes <include directory>: every function evl.h declares, a prototype a line, as gcc understood it.
header_prototypes() {
  local to
  to=$(mktemp)
  echo '#include <evl.h>' | gcc -std=c99 -I"$1" -x c -fsyntax-only -aux-info "$to" -
  sed -n 's|^/\* [^ ]* \*/ extern \(.*[ *]evl_[a-z0-9_]* (.*);\)$|\1|p' "$to"
  rm -f "$to"
}

# header_functions <include directory>: their names, sorted.
header_functions() {
  header_prototypes "$1" | sed 's/ (.*//; s/.*[ *]//' | LC_ALL=C sort
}

# library_symbols <shared library>: what it exports, sorted.
library_symbols() {
  nm -D --defined-only "$1" | awk '{ print $NF }' | LC_ALL=C sort
}

# readme_program: the README's C program. readme_command: the line that compiles it.
readme_program() { sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '1d; /^```$/,$d'; }
readme_command() { grep -m1 '^cc hello\.c ' "$root/README.md"; }
