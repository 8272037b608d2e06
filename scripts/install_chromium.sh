#!/usr/bin/env bash
# Installs Debian's Chromium, which the tests of the page drive. Safe to run again.
set -euo pipefail
if [ -n "${MULAP_CHROMIUM:-}" ] || command -v chromium >/dev/null; then exit 0; fi
command -v apt-get >/dev/null || {
  echo "install_chromium: there is no apt-get. Install Chromium and give its path as MULAP_CHROMIUM." >&2
  exit 1
}
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get -q update
$as_root apt-get -q install -y --no-install-recommends chromium
command -v chromium >/dev/null
