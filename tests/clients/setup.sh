# Gets what the tests need and the machine lacks: Debian packages, a Python venv, redis-py's source, npm packages, the daemon.
# Sourced by tests/run and tests/long from the repository's root, under `set -e`; each function does nothing where all is
# there. Call them as statements of their own: in a condition or an && list a failure inside would go unnoticed.

PATH=$PATH:/usr/sbin:/sbin
venv=target/test-venv
redis_py_version=8.1.0
redis_py_sha256=6e1a19beef9225c83efd689c7e6b7da2d5215b1f42cd13b7fc3714d0a09c7b25
redis_py_dir=$PWD/target/test-clients/redis-$redis_py_version

# Debian packages by the commands that they bring.
debian_packages() {
    local missing=() pair
    for pair in cc:gcc make:make redis-server:redis-server redis-cli:redis-tools redis-benchmark:redis-tools \
        redis-sentinel:redis-sentinel haproxy:haproxy nutcracker:nutcracker wrk:wrk \
        openssl:openssl python3:python3; do
        if ! command -v "${pair%%:*}" >/dev/null; then missing+=("${pair##*:}"); fi
    done
    if ! { command -v node && command -v npm; } >/dev/null; then missing+=(nodejs npm); fi
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
    if ((${#missing[@]} == 0)); then return; fi
    install_debian_packages "${missing[@]}"
}

# What stands behind HAProxy beside Redis. A part of its own, since no other test needs a PostgreSQL.
failover_packages() {
    local missing=() pair
    for pair in patroni:patroni etcd:etcd-server setpriv:util-linux; do
        if ! command -v "${pair%%:*}" >/dev/null; then missing+=("${pair##*:}"); fi
    done
    if [[ ! -x $(compgen -G '/usr/lib/postgresql/*/bin/postgres' | head -n 1) ]]; then missing+=(postgresql); fi
    if [[ ! -d /usr/lib/python3/dist-packages/etcd ]]; then missing+=(python3-etcd); fi
    if ((${#missing[@]} == 0)); then return; fi
    install_debian_packages "${missing[@]}"
}

install_debian_packages() {
    local as_root=()
    if ! command -v apt-get >/dev/null; then
        echo "setup: missing, and there is no apt-get to install them: $*" >&2
        return 1
    fi
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "setup: run as root, or install by hand: apt-get install $*" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "installing Debian packages: $*"
    "${as_root[@]}" apt-get update -qq
    # Debian starts a server when its package is installed; the tests start their own, and 6379 must stay free.
    local policy=/usr/sbin/policy-rc.d ours=no status=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        ours=yes
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        >/dev/null || status=$?
    if [[ $ours == yes ]]; then "${as_root[@]}" rm -f "$policy"; fi
    if ((status != 0)); then echo "setup: apt-get install $* failed" >&2; fi
    return "$status"
}

# Debian's own Python refuses packages from outside (PEP 668), so they go to a venv.
python_venv() {
    local wanted=tests/clients/requirements.txt
    if cmp -s "$wanted" "$venv/requirements.txt"; then return; fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/requirements.txt"
}

# redis-py as its makers publish it: the source distribution holds their tests, and our session runs on it too.
redis_py_source() {
    if [[ -f $redis_py_dir/.complete ]]; then return; fi
    local place archive
    place=$(dirname "$redis_py_dir")
    archive=$place/redis-$redis_py_version.tar.gz
    mkdir -p "$place"
    if [[ ! -f $archive ]]; then
        "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary redis --dest "$place" \
            "redis==$redis_py_version"
    fi
    if ! echo "$redis_py_sha256  $archive" | sha256sum --check --quiet; then
        rm -f "$archive"
        return 1
    fi
    rm -rf "$redis_py_dir"
    tar -xzf "$archive" -C "$place"
    touch "$redis_py_dir/.complete"
}

# The source of Debian's own redis-server, for the test suite in it; and the Tcl that it needs.
redis_suite_dir=$PWD/target/test-clients/redis-suite/source
redis_suite_source() {
    if ! command -v tclsh >/dev/null; then install_debian_packages tcl; fi
    if [[ -f $redis_suite_dir/.complete ]]; then return; fi
    local place option=()
    place=$(dirname "$redis_suite_dir")
    mkdir -p "$place/apt/lists/partial" "$place/apt/cache/archives/partial" "$redis_suite_dir"
    printf 'deb-src http://deb.debian.org/debian%s main\n' ' bookworm' '-security bookworm-security' >"$place/apt/sources"
    # The machine's own lists stay as they are.
    option=(-o "Dir::Etc::sourcelist=$place/apt/sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$place/apt/lists"
        -o "Dir::Cache=$place/apt/cache" -o APT::Sandbox::User= -o Debug::NoLocking=true -qq)
    apt-get "${option[@]}" update
    (cd "$place" && apt-get "${option[@]}" source --download-only redis >/dev/null)
    tar -xzf "$place"/redis_*.orig.tar.gz --strip-components=1 -C "$redis_suite_dir"
    touch "$redis_suite_dir/.complete"
}

node_packages() {
    local place=tests/clients/node
    if cmp -s "$place/package-lock.json" "$place/node_modules/.installed-from"; then return; fi
    (cd "$place" && npm ci --loglevel=error)
    cp "$place/package-lock.json" "$place/node_modules/.installed-from"
}

# The daemon under test, as MADCACHE_BIN.
daemon_binary() {
    if [[ -z ${MADCACHE_BIN-} ]]; then
        cargo build --locked --bin madcache
        MADCACHE_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug/madcache
    fi
    export MADCACHE_BIN
}

# The example gateway, as GATEWAY_BIN.
gateway_binary() {
    if [[ -z ${GATEWAY_BIN-} ]]; then
        cargo build --locked --example gateway
        GATEWAY_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug/examples/gateway
    fi
    export GATEWAY_BIN
}
