#!/bin/sh
# ensure.sh COMMAND PACKAGE...: ensure that COMMAND is available.
#
# As root on Debian or Ubuntu, it installs the packages. Otherwise it prints the command that installs them and
# exits with status 1. Services of the packages are not started: the tests start private instances.
set -eu

command=$1
shift
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d

if command -v "$command" >/dev/null 2>&1; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
	echo "$command is missing. To install it on Debian or Ubuntu: sudo apt-get install $*" >&2
	exit 1
fi

echo "installing $* (apt-get) ..." >&2
created= # the policy-rc.d below, if this script creates it
log=$(mktemp)
trap 'rm -f "$log" $created' EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
	created=$policy
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
