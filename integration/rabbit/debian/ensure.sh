#!/bin/sh
# ensure.sh COMMAND PACKAGE...: make sure that COMMAND exists.
#
# As root on a Debian machine it installs the Debian packages that bring it; elsewhere it prints the one
# line that does and exits 1. A service that the package brings is not left running: what needs
# it here starts a private instance of its own.
set -eu

command=$1
shift
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d

if command -v "$command" >/dev/null 2>&1; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
	echo "$command is missing. Install it, on Debian and Ubuntu: sudo apt-get install $*" >&2
	exit 1
fi

echo "installing $* (apt-get) ..." >&2
ours=
log=$(mktemp)
trap 'rm -f "$log" $ours' EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
	ours=$policy
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -q update &&
	apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	exit 1
fi
if [ "$command" = rabbitmq-server ] && command -v systemctl >/dev/null 2>&1; then
	systemctl --quiet disable rabbitmq-server >/dev/null 2>&1 || true
fi
