// PerfEvents: samples and all other records.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "tests/sim/perf_events.h"
#include "tests/sim/user_stack.h"

namespace lbrd::sim {
namespace {

// Of a deferred chain; the kernel keeps as many in one page.
constexpr size_t kMaxDeferredIps = 510;
// Of a kernel frame: its return address, or where it was interrupted, from its entry.
constexpr uint64_t kInKernelFunction = 0x40;
constexpr uint64_t kThreadStackRegion = 0x7f80'0000'0000;
constexpr uint64_t kThreadStackBytes = uint64_t{1} << 20;
constexpr uint64_t kFiberStackBytes = uint64_t{1} << 18;
constexpr uint32_t kDeviceMajor = 0xfe;
constexpr uint32_t kDeviceMinor = 1;

}  // namespace

RecordWho PerfEvents::WhoOf(int32_t cpu, const Task* task, const Event& event) const {
  return {.pid = task == nullptr ? 0 : task->tgid(),
          .tid = task == nullptr ? 0 : task->tid,
          .time = machine_->now(),
          .id = event.parent != nullptr ? event.parent->id : event.id,
          .stream_id = event.id,
          .cpu = static_cast<uint32_t>(cpu)};
}

void PerfEvents::ForListeners(int32_t cpu, Task* task, bool task_only,
                              const std::function<void(Event*)>& write) {
  if (!task_only) {
    for (Event* event : On(cpu).events) {
      if (event->on()) write(event);
    }
    // An exiting task's own events have been told, and are gone.
  }
  if (task == nullptr || task->events == nullptr) return;
  for (const int32_t where : {cpu, -1}) {
    const auto here = task->events->by_cpu.find(where);
    if (here == task->events->by_cpu.end()) continue;
    for (Event* event : here->second) {
      if (event->on()) write(event);
    }
  }
}

bool PerfEvents::Emit(Event* event, std::span<const uint64_t> record, const RecordWho& who,
                      bool sample) {
  Event* root = event->root();
  ++(sample ? counts_.samples_generated : counts_.others_generated);
  RingWriter* ring = root->ring.get();
  if (ring == nullptr) {
    if (sample) ++counts_.samples_without_ring;
    return false;
  }
  BuildTrailer(root->config->attr, who, &trailer_);
  const bool written = ring->Write(record, root->id, trailer_);
  if (!written) ++root->lost;
  ++(sample ? (written ? counts_.samples_written : counts_.samples_lost)
            : (written ? counts_.others_written : counts_.others_lost));
  const perf_event_attr& attr = root->config->attr;
  if (written && sample && !attr.watermark && attr.wakeup_events != 0) {
    ring->CountSample(attr.wakeup_events);
  }
  if (ring->readable()) ++wakeups_;
  return written;
}

void PerfEvents::FillUser(const Task& task, Truth* truth) const {
  const Execution& run = *task.execution;
  const SimAddressSpace& space = *task.process->space;
  const CallStack& stack = run.stack();
  truth->has_user = true;
  truth->user_ip = space.FunctionAddress(stack.back().function) + run.ip_offset;
  truth->call_sites.reserve(stack.size() - 1);
  for (size_t i = stack.size() - 1; i > 0; --i) {
    truth->call_sites.push_back(space.FunctionAddress(stack[i - 1].function) +
                                stack[i].call_offset);
  }
  truth->functions.reserve(stack.size());
  for (size_t i = stack.size(); i > 0; --i) truth->functions.push_back(stack[i - 1].function);
  truth->program = space.program;
  truth->stack_top = task.started_by_process
                         ? space.stack_top
                         : kThreadStackRegion + static_cast<uint64_t>(task.tid) * kThreadStackBytes;
  truth->stack_top -= run.fiber * kFiberStackBytes;
  truth->frame_pointer = FramePointerAt(truth->stack_top, stack.size());
  truth->stack_pointer = truth->frame_pointer - kLeafLocalsBytes;
}

void PerfEvents::FillBranches(const CpuPerf& c, const EventConfig& config, Truth* truth) {
  branches_.clear();
  uint32_t entries = c.lbr.size();
  if (options_.caps_branches() && config.attr.sample_max_stack != 0) {
    entries = std::min<uint32_t>(entries, config.attr.sample_max_stack);
  }
  for (uint32_t age = 0; age < entries; ++age) branches_.push_back(c.lbr.entry(age));
  truth->lbr_entries = entries;
  truth->lbr_true = truth->has_user && entries <= truth->call_sites.size();
  for (uint32_t age = 0; truth->lbr_true && age < entries; ++age) {
    truth->lbr_true = branches_[age].from == truth->call_sites[age];
  }
}

uint64_t PerfEvents::RequestDeferred(int32_t cpu, Task* task) {
  Execution& run = *task->execution;
  // One answer serves all that ask before the task is back in user mode.
  if (run.cookie == 0) {
    CpuPerf& c = On(cpu);
    // Odd, so that no cookie is zero even where the count wraps.
    c.deferred_count = (c.deferred_count + 2) | 1;
    run.cookie = uint64_t{c.deferred_count} << 32 | static_cast<uint64_t>(cpu + 1);
    ++counts_.cookies;
  }
  return run.cookie;
}

void PerfEvents::FillTruth(int32_t cpu, Event* event, Truth* truth) {
  const CpuPerf& c = On(cpu);
  const Mode mode = machine_->mode(cpu);
  truth->in_kernel = mode != Mode::kUser;
  const Task* task = c.current;
  if (mode == Mode::kIdle) {
    truth->kernel.push_back(KernelFunctionAddress(KernelFunction::kIdle) + kInKernelFunction);
    return;
  }
  const Execution& run = *task->execution;
  for (size_t i = truth->in_kernel ? run.kernel_frames : 0; i > 0; --i) {
    truth->kernel.push_back(KernelFunctionAddress(run.kernel[i - 1]) + kInKernelFunction);
  }
  if (task->kernel_thread()) return;
  FillUser(*task, truth);
  const EventConfig& config = *event->config;
  if (config.defer_callchain && (config.attr.sample_type & PERF_SAMPLE_CALLCHAIN) != 0 &&
      !config.attr.exclude_callchain_user) {
    truth->cookie = RequestDeferred(cpu, c.current);
  }
}

void PerfEvents::WriteSample(int32_t cpu, Event* event, uint64_t address) {
  const CpuPerf& c = On(cpu);
  const EventConfig& config = *event->config;
  const perf_event_attr& attr = config.attr;
  auto truth = std::make_shared<Truth>();
  const RecordWho who = WhoOf(cpu, c.current, *event);
  truth->event_id = who.id;
  truth->time = who.time;
  truth->cpu = who.cpu;
  truth->pid = who.pid;
  truth->tid = who.tid;
  FillTruth(cpu, event, truth.get());

  SampleParts parts{.who = who};
  parts.misc = truth->in_kernel ? PERF_RECORD_MISC_KERNEL : PERF_RECORD_MISC_USER;
  if (attr.precise_ip != 0 && config.kind == EventKind::kHardware) {
    parts.misc |= PERF_RECORD_MISC_EXACT_IP;
  }
  parts.ip = truth->in_kernel ? truth->kernel.front() : truth->user_ip;
  parts.address = address;
  parts.period = event->period;
  parts.cgroup = 1;
  if (attr.sample_type & PERF_SAMPLE_READ) {
    PutCounts(*event, &read_values_);
    parts.read_values = read_values_;
  }
  if (attr.sample_type & PERF_SAMPLE_CALLCHAIN) {
    BuildChain(attr, *truth,
               attr.sample_max_stack != 0 ? attr.sample_max_stack : options_.max_stack, &chain_);
    parts.chain = chain_;
  }
  if (config.lbr) {
    FillBranches(c, config, truth.get());
    parts.has_branches = true;
    parts.branches = branches_;
    parts.hw_index = options_.lbr == LbrKind::kLegacy                  ? c.lbr.top_of_stack()
                     : options_.lbr == LbrKind::kArchitecturalMinusOne ? ~uint64_t{0}
                                                                       : 0;
  }
  parts.user = truth.get();
  BuildSample(attr, parts, &record_);
  truth->written = Emit(event, record_, who, /*sample=*/true);
  if (truth_sink_) truth_sink_(std::move(truth));
}

void PerfEvents::AnswerDeferred(int32_t cpu, Task* task) {
  if (task->execution->cookie == 0) return;
  const uint64_t cookie = std::exchange(task->execution->cookie, 0);
  Truth user;
  FillUser(*task, &user);
  std::vector<uint64_t> fields = user.ReturnAddresses();
  if (fields.size() > kMaxDeferredIps) fields.resize(kMaxDeferredIps);
  fields.insert(fields.begin(), {cookie, fields.size()});
  ++counts_.answers;
  ForListeners(cpu, task, /*task_only=*/false, [&](Event* event) {
    if (!event->config->defer_output) return;
    const RecordWho who = WhoOf(cpu, task, *event);
    BuildTrailer(event->config->attr, who, &trailer_);
    BuildRecord(pmu::kRecordCallchainDeferred, PERF_RECORD_MISC_USER, fields, nullptr, trailer_,
                &record_);
    Emit(event, record_, who, /*sample=*/false);
  });
}

void PerfEvents::WriteThrottle(int32_t cpu, Event* event, bool throttled) {
  const RecordWho who = WhoOf(cpu, On(cpu).current, *event);
  const uint64_t fields[] = {who.time, who.id, who.stream_id};
  BuildTrailer(event->config->attr, who, &trailer_);
  BuildRecord(throttled ? PERF_RECORD_THROTTLE : PERF_RECORD_UNTHROTTLE, 0, fields, nullptr,
              trailer_, &record_);
  Emit(event, record_, who, /*sample=*/false);
}

void PerfEvents::Named(int32_t cpu, Task* task, bool exec) {
  const uint64_t fields[] = {
      TwoWords(static_cast<uint32_t>(task->tgid()), static_cast<uint32_t>(task->tid))};
  const std::string comm = task->comm;
  ForListeners(cpu, task, /*task_only=*/false, [&](Event* event) {
    if (!event->config->attr.comm) return;
    const RecordWho who = WhoOf(cpu, task, *event);
    BuildTrailer(event->config->attr, who, &trailer_);
    BuildRecord(PERF_RECORD_COMM,
                exec && event->config->attr.comm_exec ? PERF_RECORD_MISC_COMM_EXEC : 0, fields,
                &comm, trailer_, &record_);
    Emit(event, record_, who, /*sample=*/false);
  });
}

void PerfEvents::Mapped(int32_t cpu, Task* task, const SimMapping& mapping) {
  const Module* module = mapping.module;
  const std::string path = module != nullptr ? module->path : "//anon";
  ForListeners(cpu, task, /*task_only=*/false, [&](Event* event) {
    const perf_event_attr& attr = event->config->attr;
    if (mapping.executable ? !attr.mmap && !attr.mmap2 : !attr.mmap_data) return;
    std::vector<uint64_t> fields = {
        TwoWords(static_cast<uint32_t>(task->tgid()), static_cast<uint32_t>(task->tid)),
        mapping.start, mapping.end - mapping.start, mapping.file_offset};
    uint16_t misc = PERF_RECORD_MISC_USER;
    if (!mapping.executable) misc |= PERF_RECORD_MISC_MMAP_DATA;
    if (attr.mmap2) {
      struct {
        uint8_t size = 0;
        uint8_t reserved[3] = {};
        uint8_t bytes[20] = {};
      } build_id;
      if (attr.build_id && module != nullptr) {
        misc |= PERF_RECORD_MISC_MMAP_BUILD_ID;
        build_id.size = sizeof(build_id.bytes);
        std::copy(module->build_id.begin(), module->build_id.end(), build_id.bytes);
        uint64_t words[3];
        static_assert(sizeof(words) == sizeof(build_id));
        std::memcpy(words, &build_id, sizeof(words));
        fields.insert(fields.end(), std::begin(words), std::end(words));
      } else {
        fields.push_back(module != nullptr ? TwoWords(kDeviceMajor, kDeviceMinor) : 0);
        fields.push_back(module != nullptr ? module->inode : 0);
        fields.push_back(0);
      }
      const int protection =
          PROT_READ | (mapping.executable ? PROT_EXEC : 0) | (mapping.writable ? PROT_WRITE : 0);
      fields.push_back(TwoWords(static_cast<uint32_t>(protection), MAP_PRIVATE));
    }
    const RecordWho who = WhoOf(cpu, task, *event);
    BuildTrailer(attr, who, &trailer_);
    BuildRecord(attr.mmap2 ? PERF_RECORD_MMAP2 : PERF_RECORD_MMAP, misc, fields, &path, trailer_,
                &record_);
    Emit(event, record_, who, /*sample=*/false);
  });
}

}  // namespace lbrd::sim
