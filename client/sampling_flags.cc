#include <pwd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/commands.h"
#include "client/enum_names.h"

namespace lbrd::client {
namespace {

absl::StatusOr<v1::StackMode> ParseStackMode(const std::string& name) {
  if (name.empty() || name == "best") return v1::STACK_MODE_UNSPECIFIED;
  if (name == "lbr") return v1::STACK_MODE_LBR;
  if (name == "kernel-deferred") return v1::STACK_MODE_KERNEL_DEFERRED;
  if (name == "dwarf") return v1::STACK_MODE_DWARF;
  if (name == "fp") return v1::STACK_MODE_FRAME_POINTER;
  return absl::InvalidArgumentError(
      absl::StrCat("--stack: '", name, "' is not one of best, lbr, kernel-deferred, dwarf, fp"));
}

absl::StatusOr<v1::BranchFilter> ParseBranchFilter(const std::string& name) {
  if (name.empty()) return v1::BRANCH_FILTER_UNSPECIFIED;
  std::vector<absl::string_view> names;
  for (int filter = v1::BRANCH_FILTER_CALL_STACK; filter <= v1::BranchFilter_MAX; ++filter) {
    const auto known = static_cast<v1::BranchFilter>(filter);
    if (name == BranchFilterName(known)) return known;
    names.push_back(BranchFilterName(known));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--branch-filter: '", name, "' is not one of ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<uint64_t> ParseBytes(absl::string_view flag, const std::string& text) {
  absl::string_view digits = text;
  uint64_t unit = 1;
  if (!digits.empty() && (digits.back() == 'K' || digits.back() == 'M')) {
    unit = digits.back() == 'K' ? 1024 : 1024 * 1024;
    digits.remove_suffix(1);
  }
  uint64_t value = 0;
  if (!absl::SimpleAtoi(digits, &value) || value == 0 || value > (uint64_t{1} << 40)) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": '", text, "' is not a size such as 512K or 8M"));
  }
  return value * unit;
}

// "cycles", "cycles/freq=99/", "page-faults/period=1/"; the rate of those without one is the whole
// command's.
absl::StatusOr<v1::EventSpec> ParseEvent(absl::string_view text, uint32_t frequency,
                                         uint64_t period) {
  v1::EventSpec event;
  const size_t slash = text.find('/');
  const size_t equals = text.find('=');
  if (slash == absl::string_view::npos || equals == absl::string_view::npos) {
    event.set_event(std::string(text));
    event.set_frequency_hz(frequency);
    event.set_period(period);
    return event;
  }
  // A breakpoint's length stands behind a slash as well: mem:0x7ffe1230/8/period=100/.
  const size_t begin = text.rfind('/', equals);
  const absl::string_view key = text.substr(begin + 1, equals - begin - 1);
  absl::string_view value = text.substr(equals + 1);
  event.set_event(std::string(text.substr(0, begin)));
  const bool closed = absl::ConsumeSuffix(&value, "/");
  uint32_t hz = 0;
  uint64_t count = 0;
  if (closed && key == "freq" && absl::SimpleAtoi(value, &hz) && hz != 0) {
    event.set_frequency_hz(hz);
  } else if (closed && key == "period" && absl::SimpleAtoi(value, &count) && count != 0) {
    event.set_period(count);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("--event: '", text, "' should end in /freq=HZ/ or /period=EVENTS/"));
  }
  return event;
}

}  // namespace

absl::StatusOr<uint32_t> ParseUser(const std::string& user) {
  uint32_t uid = 0;
  if (absl::SimpleAtoi(user, &uid)) return uid;
  if (const passwd* entry = getpwnam(user.c_str()); entry != nullptr) return entry->pw_uid;
  return absl::InvalidArgumentError(
      absl::StrCat("--uid: there is no user '", user, "'; give a name or a number"));
}

void SamplingFlags::AddTo(CLI::App& command) {
  command.add_flag("-a,--all-cpus", all_cpus, "the whole machine");
  command.add_option("-p,--pid", pid, "a process, its threads, and what they fork");
  command.add_option("-t,--tid", tid, "a single thread, and nothing that it starts");
  command.add_option("-C,--cpus", cpus, "these CPUs, e.g. 0-3,7");
  command.add_option("--cgroup", cgroup,
                     "a cgroup: its folder, or its path below /sys/fs/cgroup (v2)\n"
                     "or /sys/fs/cgroup/perf_event (v1)");
  command.add_option("--uid", user,
                     "a user's processes, by name or number (the machine is sampled,\n"
                     "and the daemon leaves out and counts what others do)");
  command
      .add_option("-e,--event", events,
                  "what to sample on, by libpfm4's name: cycles, cpu-clock, page-faults, …\n"
                  "or who touches an address: mem:0x7ffe1230/8:rw; several, at most 8:\n"
                  "cycles,page-faults or cycles/freq=99/,page-faults/period=1/\n"
                  "(default: cycles, or cpu-clock where there is no PMU)")
      ->delimiter(',')
      ->expected(1)  // `-e EVENT -- PROGRAM` ends the options
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("EVENT");
  command.add_option("-F,--frequency", frequency,
                     "samples per second (default: 999); of cpu-clock at\nmost 20000");
  command.add_option("-c,--count", count, "or: one sample every COUNT events");
  command.add_option("--stack", stack,
                     "user stacks from: lbr, kernel-deferred, dwarf, fp\n"
                     "(default: best, the first of these that this machine gives)");
  command.add_option("--stack-bytes", stack_bytes,
                     "of each user stack, copied in dwarf mode (default: 16384)");
  command
      .add_option("--branch-filter", branch_filter,
                  "branches that the LBR records: call-stack (default: for stacks), or a\n"
                  "history of any, any-call, any-ret, ind-call, ind-jmp, cond or call, as in\n"
                  "perf record -j: samples carry them to -o x.jsonl and lbrctl stream, and\n"
                  "stacks come from the next best source")
      ->type_name("FILTER");
  command.add_option("--ring", ring, "ring buffer of each CPU, e.g. 512K (default: 8M)");
  command.add_option("--profile-bytes", profile_bytes,
                     "what its profile may take in the daemon, with the stacks in it; samples\n"
                     "of stacks that come later are dropped and counted (default: 256M)");
  command.add_flag("-u,--user-only", user_only, "leave out what happens in the kernel");
  command.add_flag("--allow-multiplex", allow_multiplex,
                   "where LBR or counters do not suffice for all sessions, take turns with\n"
                   "the others instead of being refused");
  command.add_option("--comm", comm, "of all that, only threads of this name");
  command.add_option("--only-cpus", only_cpus, "of all that, only what runs on these CPUs");
  command.add_flag("--retain", retain, "keep what is found in the history, for lbrctl query");
  command.add_option("-d,--duration", duration,
                     "how long: 10s, 500ms, 2m (default: until stopped)");
}

absl::StatusOr<v1::SessionSpec> SamplingFlags::ToSpec() const {
  v1::SessionSpec spec;
  if (all_cpus + (pid != 0) + (tid != 0) + !cpus.empty() + !cgroup.empty() + !user.empty() > 1) {
    return absl::InvalidArgumentError("-a, -p, -t, -C, --cgroup and --uid exclude each other");
  }
  if (all_cpus) spec.mutable_target()->mutable_all_cpus();
  if (pid != 0) spec.mutable_target()->mutable_process()->set_pid(pid);
  if (tid != 0) spec.mutable_target()->mutable_thread()->set_tid(tid);
  if (!cpus.empty()) spec.mutable_target()->mutable_cpu_list()->set_cpus(cpus);
  if (!cgroup.empty()) spec.mutable_target()->mutable_cgroup()->set_path(cgroup);
  if (!user.empty()) {
    const absl::StatusOr<uint32_t> uid = ParseUser(user);
    if (!uid.ok()) return uid.status();
    spec.mutable_target()->mutable_user()->set_uid(*uid);
  }
  for (size_t i = 0; i < std::max<size_t>(1, events.size()); ++i) {
    const absl::StatusOr<v1::EventSpec> event =
        ParseEvent(events.empty() ? "" : events[i], frequency, count);
    if (!event.ok()) return event.status();
    if (i != 0) {
      *spec.add_more_events() = *event;
      continue;
    }
    spec.set_event(event->event());
    spec.set_frequency_hz(event->frequency_hz());
    spec.set_period(event->period());
  }
  if (frequency != 0 && count != 0) {
    return absl::InvalidArgumentError("-F and -c exclude each other");
  }
  const absl::StatusOr<v1::StackMode> mode = ParseStackMode(stack);
  if (!mode.ok()) return mode.status();
  spec.set_stack_mode(*mode);
  const absl::StatusOr<v1::BranchFilter> branches = ParseBranchFilter(branch_filter);
  if (!branches.ok()) return branches.status();
  spec.set_branch_filter(*branches);
  spec.set_stack_copy_bytes(stack_bytes);
  spec.set_user_only(user_only);
  spec.set_allow_multiplex(allow_multiplex);
  if (!comm.empty()) spec.mutable_filter()->set_comm(comm);
  if (!only_cpus.empty()) spec.mutable_filter()->set_cpus(only_cpus);
  spec.set_retain(retain);
  if (!ring.empty()) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes("--ring", ring);
    if (!bytes.ok()) return bytes.status();
    spec.set_ring_bytes(*bytes);
  }
  if (!profile_bytes.empty()) {
    const absl::StatusOr<uint64_t> bytes = ParseBytes("--profile-bytes", profile_bytes);
    if (!bytes.ok()) return bytes.status();
    spec.set_profile_bytes(*bytes);
  }
  if (!duration.empty()) {
    absl::Duration parsed;
    // A bare number is seconds, as people expect.
    double seconds = 0;
    if (absl::SimpleAtod(duration, &seconds)) {
      parsed = absl::Seconds(seconds);
    } else if (!absl::ParseDuration(duration, &parsed)) {
      parsed = absl::ZeroDuration();
    }
    if (parsed <= absl::ZeroDuration() || parsed > absl::Hours(24 * 365)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--duration: '", duration, "' is not a time such as 10s, 500ms or 2m"));
    }
    spec.mutable_duration()->set_seconds(absl::IDivDuration(parsed, absl::Seconds(1), &parsed));
    spec.mutable_duration()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(parsed)));
  }
  return spec;
}

}  // namespace lbrd::client
