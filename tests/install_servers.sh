#!/usr/bin/env bash
# Installs what the tests start for themselves, where it is missing: RabbitMQ, Mosquitto with its clients, nginx, Debian's
# PostgreSQL beside the embedded one, Node with npm for stock clients, and Chromium. Packages are kept from starting services.
# Without the right to install, the tests that need them are skipped locally; in CI (variable CI) that is a failure.
set -euo pipefail

missing=()
command -v rabbitmq-server >/dev/null || [ -x /usr/sbin/rabbitmq-server ] || missing+=(rabbitmq-server)
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
command -v mosquitto_sub >/dev/null || missing+=(mosquitto-clients)
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v chromium >/dev/null || missing+=(chromium)
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

give_up() {
	echo "tests: $1: ${missing[*]}" >&2
	if [ -n "${CI:-}" ]; then
		exit 1
	fi
	echo "tests: those that need them are skipped; install them and run again to include them" >&2
	exit 0
}

command -v apt-get >/dev/null || give_up "there is no apt-get; install these yourself"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || give_up "no right to install (neither root nor password-less sudo)"
	as_root=(sudo -n)
fi

echo "tests: installing ${missing[*]}"
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
	"${as_root[@]}" chmod +x "$policy"
	made_policy=1
fi
remove_policy() {
	if [ -n "$made_policy" ]; then
		"${as_root[@]}" rm -f "$policy"
	fi
}
trap remove_policy EXIT

"${as_root[@]}" apt-get update -qq || give_up "apt-get update failed; not installed"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	"${missing[@]}" >/dev/null || give_up "apt-get install failed; not installed"
