#!/bin/sh
# The page of `make watch` in headless Chromium: dev/watch/check.sh [FOLDER]; two minutes. Its screenshots are left in FOLDER
# (build/watch_check). Installs Chromium from Debian and playwright, which drives it, from PyPI; what is tried: check.py.
set -eu
cd "$(dirname "$0")/../.."
unset MAKEFLAGS MAKELEVEL
venv=${MUON_VENV_WATCH:-build/venv_watch}
dev/setup.sh watch && dev/setup.sh browser && dev/setup.sh venv
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r dev/watch/requirements.txt
make all build/watch
"$venv/bin/python" -B dev/watch/check.py "${1:-build/watch_check}"
