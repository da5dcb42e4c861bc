# CPUs going off and on while a process forks and the whole machine is sampled; judged by
# check_hotplug.py.
hotplug_cpus=$(ls -d /sys/devices/system/cpu/cpu[1-9]* | wc -l)

# Toggles all CPUs but the first, one after another, until the file is gone. Counts what it did.
toggle_cpus() {
  offs=0 ons=0
  while [ -e /tmp/toggling ]; do
    for state in 0 1; do
      for cpu in $(seq 1 "$hotplug_cpus"); do
        [ -e /tmp/toggling ] || break
        echo $state >/sys/devices/system/cpu/cpu$cpu/online 2>/dev/null || continue
        [ $state = 0 ] && offs=$((offs + 1)) || ons=$((ons + 1))
        sleep 0.3 # or two host cores do nothing else
      done
    done
  done
  for cpu in $(seq 1 "$hotplug_cpus"); do
    echo 1 >/sys/devices/system/cpu/cpu$cpu/online 2>/dev/null
  done
  echo "$offs $ons" >/tmp/hotplug-toggles.txt
}

guest_hotplug() {
  [ "$hotplug_cpus" -gt 0 ] || { say "hotplug needs more than one CPU"; return; }
  say "taking $hotplug_cpus CPUs off and on for $hotplug_seconds s"
  start_daemon hotplug.log || { put hotplug.log; return; }
  touch /tmp/toggling
  # One that reaches its rate, on the CPU that stays, and one that is born anywhere.
  fork_storm 600 0 >fork-storm.txt &
  forker=$!
  fork_storm 40 >fork-storm-anywhere.txt &
  roamer=$!
  ctl record -a -F 49 -d ${hotplug_seconds}s -o hotplug.json >hotplug.txt 2>&1 &
  record=$!
  wait_for "a running session" 120 running
  toggle_cpus &
  toggler=$!
  # The watchdog: a session that has not ended two minutes after its time hangs.
  wait_for "the end of the session" $((hotplug_seconds + 120)) sh -c "! kill -0 $record" || {
    echo "hung" >>hotplug.txt
    dmesg | tail -n 50 >>hotplug.log
    kill -9 $record
  }
  wait $record
  echo "exit code $?" >>hotplug.txt
  rm -f /tmp/toggling
  wait $toggler
  kill $forker $roamer
  wait $forker $roamer
  stop_daemon
  for file in hotplug.txt hotplug.json hotplug.log hotplug-toggles.txt fork-storm.txt fork-storm-anywhere.txt; do
    put $file
  done
}
