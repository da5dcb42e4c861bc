# LBR call stacks of programs whose call chains are known; judged by check_lbr_chains.py.

# The recursing program is on another CPU where there is one.
last_cpu=$(($(grep -c ^processor /proc/cpuinfo) - 1))

# The chains run a little longer than the recording, which begins before them: a thread that runs
# already when the first event opens starts with an empty LBR.
chains() {
  taskset 1 chaina 3 "$((seconds + 3))" 0 &
  taskset 1 chainb 3 "$((seconds + 3))" 0 &
  taskset "$(printf %x $((1 << last_cpu)))" chaina 3 "$((seconds + 3))" 60 &
}

chains_by_lbrd() {
  say "recording with lbrd"
  if start_daemon lbrd.log; then
    ctl record -a -c 1000003 -d "${seconds}s" \
      --format jsonl -o /tmp/out.jsonl >summary.txt 2>&1 &
    record=$!
    wait_for "a running session" 30 running
    chains
    wait $record
    echo "lbrctl record: exit $?" >>summary.txt
    ctl list >list.txt 2>&1
    put list.txt
    put summary.txt
    put out.jsonl
    stop_daemon
    wait # for the chains
  fi
  put lbrd.log
  rm -f out.jsonl
}

chains_by_perf() {
  say "recording with stock perf"
  # perf starts its command when its events are enabled.
  perf record -q -a -c 1000003 -e cycles --call-graph lbr -o perf.data -- \
    sh -c "touch /tmp/perf-records; sleep $seconds" >perf.log 2>&1 &
  record=$!
  wait_for "stock perf's recording" 60 test -e /tmp/perf-records
  chains
  wait $record
  put perf.log
  put perf.data
  wait
}

guest_chains() {
  [ $with_lbrd = no ] || chains_by_lbrd
  [ $with_perf = no ] || chains_by_perf
}
