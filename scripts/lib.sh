# What the scripts share: finding what is missing, and installing it once.
# To be sourced by bash with `set -euo pipefail`, from anywhere.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

# FUSE, and what it takes to build pyfuse3, which has no wheel.
packages_to_run=(fuse3 libfuse3-dev pkg-config gcc)
# The programs that the tests let loose on a mount.
packages_to_test=(
    dcmtk libgdcm-tools dcm2niix rsync attr iproute2 tar busybox-static p7zip-full libarchive-tools procps util-linux
    binutils bzip2 cpio curl file fio git libglib2.0-bin mawk openssl perl plocate shared-mime-info tree unzip xxd
    xz-utils zip
)

say() { printf '%s\n' "$@" >&2; }

give_up() {
    say "" "$@"
    exit 1
}

# Words: the packages among the arguments that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done
}

# Install the Debian packages that are missing; say which, if that is not possible.
need_packages() {
    local missing asroot=()
    if ! command -v dpkg-query >/dev/null; then
        command -v fusermount3 >/dev/null && pkg-config --exists fuse3 && command -v gcc >/dev/null && return
        give_up "This is not Debian. Please install what these Debian packages hold, then try again:" "  $*"
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            give_up "These Debian packages are missing, and installing them takes root. Please run:" \
                "  sudo apt-get install $missing" "and then try again."
        fi
        asroot=(sudo -n)
    fi
    say "Installing Debian packages: $missing"
    # shellcheck disable=SC2086 # several words on purpose
    if ! { "${asroot[@]}" apt-get update -q &&
        "${asroot[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } >&2
    then
        give_up "apt-get could not install: $missing" "Its own words are above."
    fi
}

# Prints the first Python that is new enough and can build pyfuse3: a python3 on the PATH, else a versioned one.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$name" >/dev/null || continue
        "$name" - 2>/dev/null <<'PYTHON' || continue
import ensurepip, os, sys, sysconfig, venv
assert sys.version_info >= (3, 11)
assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
print(sys.executable)
PYTHON
        return
    done
    return 1
}

# The Python to use. Debian's own comes in parts, of which only the first is always there.
need_python() {
    if ! find_python; then
        need_packages python3 python3-venv python3-dev
        find_python || give_up "Python 3.11 or newer is needed, with its venv module and its headers." \
            "Debian 12 and later: sudo apt-get install python3 python3-venv python3-dev"
    fi
}

# Everything that the project needs to run with one of its extras: demo, or dev for tests and checks.
# Does nothing, quickly, when that was done before and nothing has changed since.
install_project() {
    local extra=$1 python wanted stamp
    if [ "$extra" = dev ]; then
        need_packages "${packages_to_run[@]}" "${packages_to_test[@]}"
    else
        need_packages "${packages_to_run[@]}"
    fi
    wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" <(echo "$root") | sha256sum | cut -d ' ' -f 1)
    # What dev installs has all of demo in it.
    for stamp in "$venv/.kheopsfs-dev" "$venv/.kheopsfs-$extra"; do
        [[ $extra = bench || $extra = fuzz ]] && [ "$stamp" = "$venv/.kheopsfs-dev" ] && continue
        [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    done
    # Its programs name their interpreter by its full path, so one that was moved or copied does not work.
    if ! grep -qsF "#!$venv/bin/python" "$venv/bin/pip" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(need_python)
        say "Making a virtual environment in .venv with $("$python" --version)"
        "$python" -m venv --clear "$venv"
    fi
    say "Installing kheopsfs and what it needs into .venv (pyfuse3 is compiled; this takes a minute the first time)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        -c "$root/constraints.txt" -e "$root[$extra]" >&2 ||
        give_up "pip could not install kheopsfs. Its own words are above."
    echo "$wanted" >"$stamp"
}

# Say so now if FUSE cannot work here, in the program's own words, rather than after everything else.
need_fuse() {
    local problem
    problem=$("$venv/bin/python" -c 'from kheopsfs.mount.environment import fuse_problem; print(fuse_problem() or "")')
    [ -z "$problem" ] || give_up "FUSE is not available here, so nothing can be mounted." "$problem"
}
