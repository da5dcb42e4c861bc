# Runs in the guest, sourced by its init: `put FILE` sends a file out. run-lbr fills in @NAMES@.
seconds=@SECONDS@

# The recursing program is on another CPU where there is one.
last_cpu=$(($(grep -c ^processor /proc/cpuinfo) - 1))

# The chains run a little longer than the recording, which begins before them: a thread that runs
# already when the first event opens starts with an empty LBR.
chains() {
  taskset 1 chaina 3 "$((seconds + 3))" 0 &
  taskset 1 chainb 3 "$((seconds + 3))" 0 &
  taskset "$(printf %x $((1 << last_cpu)))" chaina 3 "$((seconds + 3))" 60 &
}

# wait_for WHAT SECONDS COMMAND...
wait_for() {
  what=$1 tries=$(($2 * 5)); shift 2
  while ! "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "run-lbr: $what did not happen"; return 1; }
    sleep 0.2
  done
}

running() { lbrctl --socket /tmp/lbrd.sock list | grep -qi running; }

with_lbrd() {
  echo "run-lbr: recording with lbrd"
  lbrd --socket /tmp/lbrd.sock >lbrd.log 2>&1 &
  lbrd=$!
  if wait_for "lbrd's socket" 60 test -S /tmp/lbrd.sock; then
    lbrctl --socket /tmp/lbrd.sock record -a -c 1000003 -d "${seconds}s" \
      --format jsonl -o /tmp/out.jsonl >summary.txt 2>&1 &
    record=$!
    wait_for "a running session" 30 running
    chains
    wait $record
    echo "lbrctl record: exit $?" >>summary.txt
    lbrctl --socket /tmp/lbrd.sock list >list.txt 2>&1
    put list.txt
    put summary.txt
    [ -s out.jsonl ] && put out.jsonl
    kill $lbrd
    wait # for lbrd and the chains
  fi
  put lbrd.log
  rm -f out.jsonl
}

with_perf() {
  echo "run-lbr: recording with stock perf"
  # perf starts its command when its events are enabled.
  perf record -q -a -c 1000003 -e cycles --call-graph lbr -o perf.data -- \
    sh -c "touch /tmp/perf-records; sleep $seconds" >perf.log 2>&1 &
  record=$!
  wait_for "stock perf's recording" 60 test -e /tmp/perf-records
  chains
  wait $record
  put perf.log
  [ -s perf.data ] && put perf.data
  wait
}

uname -r >kernel.txt
dmesg | grep 'Performance Events:' | sed 's/^.*Performance Events: //' >>kernel.txt
put kernel.txt
if [ @LBRD@ = yes ]; then with_lbrd; fi
if [ @PERF@ = yes ]; then with_perf; fi
echo "run-lbr: done"
