#include "tests/sim/proc_files.h"

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace lbrd::sim {
namespace {

absl::Status NoEntry(const std::string& path) {
  return absl::ErrnoToStatus(ENOENT, absl::StrCat("cannot open ", path));
}

std::string CpuList(const Machine& machine, bool online) {
  std::string text;
  for (int32_t cpu = 0; cpu < machine.cpus(); ++cpu) {
    if (machine.online(cpu) != online) continue;
    int32_t last = cpu;
    while (last + 1 < machine.cpus() && machine.online(last + 1) == online) ++last;
    absl::StrAppend(&text, text.empty() ? "" : ",", cpu);
    if (last > cpu) absl::StrAppend(&text, "-", last);
    cpu = last;
  }
  return text + "\n";
}

std::string Release(const PerfOptions& options) {
  return absl::StrCat(options.major, ".", options.minor, ".0-simulated");
}

char StateLetter(const Task& task) {
  switch (task.state) {
    case TaskState::kSleeping:
      return 'S';
    case TaskState::kQueued:
    case TaskState::kRunning:
      return 'R';
    case TaskState::kZombie:
      return 'Z';
  }
  return '?';
}

std::string StatText(Machine& machine, const Task& task) {
  // The 22nd field is the start time, in ticks of 10 ms since boot; the 39th the last CPU.
  std::string text = absl::StrFormat("%d (%s) %c %d", task.tid, task.comm, StateLetter(task),
                                     ParentOf(machine.tasks(), task));
  for (int field = 5; field <= 52; ++field) {
    const uint64_t value = field == 20   ? static_cast<uint64_t>(task.process->threads)
                           : field == 22 ? task.born / 10'000'000
                           : field == 39 ? static_cast<uint64_t>(task.cpu)
                                         : 0;
    absl::StrAppend(&text, " ", value);
  }
  return text + "\n";
}

std::string StatusText(Machine& machine, const Task& task) {
  return absl::StrFormat(
      "Name:\t%s\nState:\t%c\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"
      "Threads:\t%d\n",
      task.comm, StateLetter(task), task.tgid(), task.tid, ParentOf(machine.tasks(), task),
      task.process->threads);
}

absl::StatusOr<std::string> TaskFile(Machine& machine, const Task& task, absl::string_view name,
                                     const std::string& path) {
  if (name == "comm") return absl::StrCat(task.comm, "\n");
  if (name == "stat") return StatText(machine, task);
  if (name == "status") return StatusText(machine, task);
  if (name == "cgroup") return std::string("0::/\n");
  if (name == "children") {
    // Of a process, not of a thread: all of them are the leader's here.
    std::string text;
    if (!task.leader()) return text;
    for (const int32_t pid : machine.tasks().Leaders()) {
      const Task* child = machine.tasks().Find(pid);
      if (pid != task.tid && ParentOf(machine.tasks(), *child) == task.tid) {
        absl::StrAppend(&text, pid, " ");
      }
    }
    return text;
  }
  if (name == "cmdline") return task.kernel_thread() ? std::string() : std::string(task.comm);
  if (name == "maps") {
    // A process without memory, or that has exited, has an empty file.
    if (task.kernel_thread() || task.state == TaskState::kZombie) return std::string();
    return MapsText(*task.process->space);
  }
  return NoEntry(path);
}

absl::StatusOr<std::string> SystemFile(const PerfOptions& options, const std::string& path) {
  constexpr absl::string_view kSettings = "/proc/sys/kernel/";
  constexpr absl::string_view kPmu = "/sys/bus/event_source/devices/cpu/";
  absl::string_view name = path;
  if (absl::ConsumePrefix(&name, kSettings)) {
    if (name == "perf_event_paranoid") return absl::StrCat(options.paranoid, "\n");
    if (name == "perf_event_max_sample_rate") return absl::StrCat(options.max_sample_rate, "\n");
    if (name == "perf_event_max_stack") return absl::StrCat(options.max_stack, "\n");
    if (name == "perf_event_mlock_kb") return std::string("516\n");
    if (name == "kptr_restrict") return std::string("0\n");
    if (name == "pid_max") return absl::StrCat(4 << 20, "\n");
    if (name == "osrelease") return Release(options) + "\n";
  } else if (absl::ConsumePrefix(&name, kPmu)) {
    if (!options.has_pmu) return NoEntry(path);
    if (name == "type") return std::string("4\n");
    if (name == "caps/pmu_name") return std::string("simulated\n");
    if (name == "caps/branches" && options.lbr != LbrKind::kNone) {
      return absl::StrCat(options.lbr_depth, "\n");
    }
  } else if (path == "/proc/kallsyms") {
    return KernelSymbolsText();
  } else if (path == "/proc/version") {
    return absl::StrCat("Linux version ", Release(options), " (a simulation)\n");
  }
  return NoEntry(path);
}

}  // namespace

absl::StatusOr<std::string> ReadProcFile(Machine& machine, const PerfOptions& options,
                                         const std::string& path) {
  absl::string_view rest = path;
  if (absl::ConsumePrefix(&rest, "/sys/devices/system/cpu/")) {
    if (rest == "online") return CpuList(machine, true);
    if (rest == "offline") return CpuList(machine, false);
    if (rest == "possible" || rest == "present") {
      return machine.cpus() == 1 ? std::string("0\n")
                                 : absl::StrCat("0-", machine.cpus() - 1, "\n");
    }
    return NoEntry(path);
  }
  rest = path;
  if (absl::ConsumePrefix(&rest, "/proc/")) {
    const std::vector<absl::string_view> parts = absl::StrSplit(rest, '/');
    int32_t pid = 0;
    if (parts.size() >= 2 && absl::SimpleAtoi(parts[0], &pid)) {
      // A thread's folder is there too, though it is not listed.
      const Task* task = machine.tasks().Find(pid);
      if (task == nullptr) return NoEntry(path);
      if (parts.size() == 2) return TaskFile(machine, *task, parts[1], path);
      int32_t tid = 0;
      if (parts.size() != 4 || parts[1] != "task" || !absl::SimpleAtoi(parts[2], &tid)) {
        return NoEntry(path);
      }
      const Task* thread = machine.tasks().Find(tid);
      if (thread == nullptr || thread->process != task->process) return NoEntry(path);
      return TaskFile(machine, *thread, parts[3], path);
    }
  }
  return SystemFile(options, path);
}

absl::StatusOr<std::vector<int32_t>> ListProcNumbers(Machine& machine, const std::string& folder) {
  if (folder == "/proc" || folder == "/proc/") return machine.tasks().Leaders();
  absl::string_view rest = folder;
  int32_t pid = 0;
  if (absl::ConsumePrefix(&rest, "/proc/") && absl::ConsumeSuffix(&rest, "/task") &&
      absl::SimpleAtoi(rest, &pid)) {
    const Task* task = machine.tasks().Find(pid);
    if (task != nullptr) return TaskTable::Threads(*task->process);
  }
  return absl::ErrnoToStatus(ENOENT, absl::StrCat("cannot list ", folder));
}

}  // namespace lbrd::sim
