#!/bin/sh
# ensure.sh COMMAND PACKAGE...: ensure that COMMAND is available. COMMAND may be a pattern of paths.
#
# As root on Debian or Ubuntu, it installs the packages. Otherwise it prints the command that installs them and
# exits with status 1. Services of the packages are neither started nor configured: the tests start private instances.
set -eu

command=$1
shift
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d/amqpkit.conf

for candidate in $command; do # not quoted: the shell expands a pattern
	if command -v "$candidate" >/dev/null 2>&1; then
		exit 0
	fi
done
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
	echo "$command is missing. To install it on Debian or Ubuntu: sudo apt-get install $*" >&2
	exit 1
fi

echo "installing $* (apt-get) ..." >&2
created= # the files below that this script creates
log=$(mktemp)
trap 'rm -f "$log" $created' EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
	created=$policy
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
case " $* " in
*' postgresql '*)
	# Without this file the package creates a database cluster, which starts at the next boot.
	created="$created $clusters"
	mkdir -p "${clusters%/*}"
	echo 'create_main_cluster = false' >"$clusters"
	;;
esac
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -q update &&
	apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	exit 1
fi
case $command in
rabbitmq-server | pgbouncer)
	# The service must not start at the next boot either.
	if command -v systemctl >/dev/null 2>&1; then
		systemctl --quiet disable "$command" >/dev/null 2>&1 || true
	fi
	;;
esac
