# Sessions that ask for different branch filters of the LBR: refused by name, shared, or time-shared;
# judged by check_filters.py.

# The perf descriptors that the daemon holds.
perf_descriptors() { ls -l /proc/$(engine)/fd | grep -c perf_event; }

guest_filters() {
  say "asking for two branch filters at once"
  start_daemon filters.log || { put filters.log; return; }
  # Something with branches, always on a CPU.
  for spin in 1 2; do sh -c 'while :; do :; done' & spinners="$spinners $!"; done
  ctl start night -a -F 199 >filters-start.txt 2>&1
  perf_descriptors >filters-shared.txt
  ctl record -a -F 199 --branch-filter any-call -d 2s >filters-refused.txt 2>&1
  echo "exit code $?" >>filters-refused.txt
  perf_descriptors >>filters-shared.txt
  for client in 2 3 4 5 6 7 8 9 10; do
    ctl start "night$client" -a -F 199 >>filters-start.txt 2>&1
  done
  perf_descriptors >>filters-shared.txt
  ctl status --json >filters-status.json 2>>filters.log
  say "letting them take turns for $seconds s"
  ctl record -a -F 199 --branch-filter any --allow-multiplex -d "${seconds}s" \
    -o filters.jsonl -o filters.json >filters.txt 2>&1
  echo "exit code $?" >>filters.txt
  ctl stop night -o filters-night.json >filters-night.txt 2>&1
  echo "exit code $?" >>filters-night.txt
  kill $spinners
  wait $spinners
  stop_daemon
  for file in filters-start.txt filters-shared.txt filters-refused.txt filters-status.json \
    filters.txt filters.json filters.jsonl filters-night.txt filters-night.json filters.log; do
    put $file
  done
}
