# What the guest's tests share. Sourced before them; `run` sets $seconds,
# $hotplug_seconds, $with_lbrd and $with_perf.
socket=/tmp/lbrd.sock

say() { echo "vm: $*"; }

# wait_for WHAT SECONDS COMMAND...
wait_for() {
  what=$1 tries=$(($2 * 5)); shift 2
  while ! "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { say "$what did not happen"; return 1; }
    sleep 0.2
  done
}

# start_daemon LOG: lbrd, serving $socket; its process is $daemon.
start_daemon() {
  lbrd --socket $socket --no-history >"$1" 2>&1 &
  daemon=$!
  wait_for "lbrd's socket" 60 test -S $socket
}

# What opens events and starts experiments.
engine() { grep -l "^PPid:[[:space:]]*$daemon\$" /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3; }

stop_daemon() {
  kill $daemon
  wait $daemon
}

ctl() { lbrctl --socket $socket "$@"; }
running() { ctl list | grep -qi running; }
