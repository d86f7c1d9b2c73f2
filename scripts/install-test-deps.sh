#!/bin/sh
# Installs what `make test` talks to, by apt, and schemathesis, by pip into target/: only what is missing, nothing when
# all is there.
set -eu

# A virtual environment below target/, where the tests look for it.
here=$(cd "$(dirname "$0")/.." && pwd)
tools="$here/target/test-tools"
wanted="$here/scripts/schemathesis.txt"
schemathesis() {
    if cmp -s "$wanted" "$tools/installed.txt"; then
        return
    fi
    echo "test dependencies: installing schemathesis below target/" >&2
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$wanted"
    cp "$wanted" "$tools/installed.txt"
}

missing=
want() { # want PROGRAM PACKAGE
    # nginx lives in /usr/sbin, which the PATH of users need not have.
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
want nginx nginx-light
want redis-server redis-server
want chromium chromium
want curl curl
want openssl openssl
want python3 python3
want testssl testssl.sh
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"

if [ -z "$missing" ]; then
    schemathesis
    echo "test dependencies: all there" >&2
    exit 0
fi
echo "test dependencies: missing$missing" >&2

if ! command -v apt-get >/dev/null 2>&1; then
    echo "this is no Debian: install them with this system's own tools, then run the tests again" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "not root: run this as root, then run the tests again:" >&2
    echo "    apt-get update && apt-get install --yes --no-install-recommends$missing" >&2
    exit 1
fi

# Packages start their servers when they are installed; the tests start their own, on ports of their own.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
fi
trap '[ -z "$made" ] || $sudo rm -f "$policy"' EXIT

$sudo apt-get update -qq
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive $sudo apt-get install --yes -qq --no-install-recommends $missing
schemathesis
