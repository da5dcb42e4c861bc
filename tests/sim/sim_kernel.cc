#include "tests/sim/sim_kernel.h"

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/sim/proc_files.h"

namespace lbrd::sim {
namespace {

// Happenings between two looks at whether another thread wants in.
constexpr int kHappeningsPerTurn = 256;
// A Poll() without a time-out looks around this often.
constexpr uint64_t kLookAroundNs = 1'000'000;

}  // namespace

SimKernel::Lock::Lock(SimKernel* kernel) : kernel_(kernel) {
  ++kernel_->waiting_;
  kernel_->mutex_.Lock();
  --kernel_->waiting_;
}

SimKernel::Lock::~Lock() { kernel_->mutex_.Unlock(); }

SimKernel::SimKernel(const SimOptions& options)
    : options_(options),
      machine_(options.machine),
      perf_(&machine_, options.perf),
      faults_(options.machine.seed ^ 0xfa017),
      truths_(options.truth_bytes) {
  machine_.set_observer(&perf_);
  // Set only where somebody listens: a truth costs as much as its sample.
  if (options_.truth_bytes == 0) return;
  perf_.set_truth_sink([this](std::shared_ptr<const Truth> truth) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (truth_observer_) truth_observer_(*truth);
    truths_.Add(std::move(truth));
  });
}

SimKernel::~SimKernel() {
  Lock lock(this);
  // The events go before the tasks that they count.
  for (auto& [fd, descriptor] : descriptors_) {
    if (descriptor.event != nullptr) perf_.DropReference(descriptor.event);
  }
}

void SimKernel::With(absl::FunctionRef<void(Machine&)> action) {
  Lock lock(this);
  action(machine_);
}

void SimKernel::WithFaults(absl::FunctionRef<void(Faults&)> action) {
  Lock lock(this);
  action(faults_);
}

void SimKernel::Run(uint64_t ns) {
  Lock lock(this);
  machine_.Advance(ns);
}

bool SimKernel::Step(uint64_t ns) {
  Lock lock(this);
  return machine_.RunNext(machine_.now() + ns);
}

std::shared_ptr<const Truth> SimKernel::TruthOf(const pmu::SampleId& who) {
  Lock lock(this);
  return truths_.Find(who);
}

void SimKernel::set_truth_observer(std::function<void(const Truth&)> observer) {
  Lock lock(this);
  truth_observer_ = std::move(observer);
}

PerfCounts SimKernel::perf_counts() {
  Lock lock(this);
  return perf_.counts();
}

MachineCounts SimKernel::machine_counts() {
  Lock lock(this);
  return machine_.counts();
}

size_t SimKernel::open_descriptors() {
  Lock lock(this);
  return descriptors_.size();
}

size_t SimKernel::open_events() {
  Lock lock(this);
  return perf_.open_events();
}

size_t SimKernel::mapped_rings() {
  Lock lock(this);
  return perf_.mapped_rings();
}

bool SimKernel::breakpoint_slots_free() {
  Lock lock(this);
  return perf_.breakpoints().empty();
}

uint64_t SimKernel::bad_closes() {
  Lock lock(this);
  return bad_closes_;
}

int SimKernel::Begin(Call call) {
  machine_.Advance(options_.call_ns);
  return faults_.Next(call);
}

SimKernel::Descriptor* SimKernel::Find(int fd) {
  const auto found = descriptors_.find(fd);
  return found == descriptors_.end() ? nullptr : &found->second;
}

int SimKernel::Install(const Descriptor& descriptor) {
  if (descriptors_.size() >= options_.perf.max_descriptors) return -EMFILE;
  int fd = next_fd_;
  if (free_fds_.empty()) {
    ++next_fd_;
  } else {
    std::pop_heap(free_fds_.begin(), free_fds_.end(), std::greater<>());
    fd = free_fds_.back();
    free_fds_.pop_back();
  }
  descriptors_.emplace(fd, descriptor);
  return fd;
}

int SimKernel::OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                         unsigned long flags) {
  Lock lock(this);
  if (const int error = Begin(Call::kOpenEvent); error != 0) return -error;
  if ((flags & PERF_FLAG_PID_CGROUP) != 0) return -EBADF;  // no folder can have been opened
  if ((flags & ~uint64_t{PERF_FLAG_FD_CLOEXEC}) != 0) return -EINVAL;
  if (descriptors_.size() >= options_.perf.max_descriptors) return -EMFILE;
  Descriptor descriptor;
  if (const int error = perf_.Open(attr, pid, cpu, &descriptor.event); error != 0) return -error;
  return Install(descriptor);
}

int SimKernel::OpenPid(int32_t pid) {
  Lock lock(this);
  if (const int error = Begin(Call::kOpenPid); error != 0) return -error;
  const Task* task = machine_.tasks().Find(pid);
  if (task == nullptr) return -ESRCH;
  if (!task->leader()) return -EINVAL;
  return Install({.pid = pid, .pid_serial = task->process->serial});
}

int SimKernel::OpenSignal() {
  Lock lock(this);
  if (const int error = Begin(Call::kOpenSignal); error != 0) return -error;
  return Install({.signal = true});
}

void SimKernel::Signal(int fd) {
  Lock lock(this);
  Descriptor* descriptor = Find(fd);
  if (descriptor == nullptr || !descriptor->signal) return;
  ++descriptor->signalled;
  ++signals_;
}

void SimKernel::Close(int fd) {
  Lock lock(this);
  const auto found = descriptors_.find(fd);
  if (found == descriptors_.end()) {
    ++bad_closes_;
    return;
  }
  machine_.Advance(options_.call_ns);
  Event* event = found->second.event;
  descriptors_.erase(found);
  free_fds_.push_back(fd);
  std::push_heap(free_fds_.begin(), free_fds_.end(), std::greater<>());
  if (event != nullptr) perf_.DropReference(event);
}

int SimKernel::Control(int fd, unsigned long request, uint64_t argument) {
  Lock lock(this);
  if (const int error = Begin(Call::kControl); error != 0) return -error;
  const Descriptor* descriptor = Find(fd);
  if (descriptor == nullptr) return -EBADF;
  if (descriptor->event == nullptr) return -ENOTTY;
  Event* output = nullptr;
  if (request == PERF_EVENT_IOC_SET_OUTPUT && static_cast<int64_t>(argument) != -1) {
    const Descriptor* other = Find(static_cast<int>(argument));
    if (other == nullptr || other->event == nullptr) return -EBADF;
    output = other->event;
  }
  return -perf_.Control(descriptor->event, request, argument, output);
}

int64_t SimKernel::ReadCounts(int fd, std::span<uint64_t> out) {
  Lock lock(this);
  if (const int error = Begin(Call::kReadCounts); error != 0) return -error;
  Descriptor* descriptor = Find(fd);
  if (descriptor == nullptr) return -EBADF;
  if (descriptor->event != nullptr) return perf_.Read(descriptor->event, out);
  if (!descriptor->signal || out.empty()) return -EINVAL;
  if (descriptor->signalled == 0) return -EAGAIN;
  out[0] = std::exchange(descriptor->signalled, 0);
  return sizeof(uint64_t);
}

void* SimKernel::MapRing(int fd, uint64_t data_bytes, int* error) {
  Lock lock(this);
  *error = Begin(Call::kMapRing);
  if (*error != 0) return nullptr;
  const Descriptor* descriptor = Find(fd);
  if (descriptor == nullptr || descriptor->event == nullptr) {
    *error = descriptor == nullptr ? EBADF : ENODEV;
    return nullptr;
  }
  return perf_.Map(descriptor->event, data_bytes, error);
}

void SimKernel::UnmapRing(void* ring, uint64_t data_bytes) {
  Lock lock(this);
  machine_.Advance(options_.call_ns);
  if (!perf_.Unmap(ring, data_bytes)) ++bad_closes_;
}

bool SimKernel::ProcessGone(const Descriptor& descriptor) {
  const Task* task = machine_.tasks().Find(descriptor.pid);
  return task == nullptr || task->process->serial != descriptor.pid_serial;
}

int SimKernel::Ready(std::span<pollfd> fds) {
  int ready = 0;
  for (pollfd& entry : fds) {
    entry.revents = 0;
    if (entry.fd < 0) continue;
    const Descriptor* descriptor = Find(entry.fd);
    if (descriptor == nullptr) {
      entry.revents = POLLNVAL;
    } else if (descriptor->event != nullptr) {
      entry.revents =
          static_cast<int16_t>(perf_.Poll(descriptor->event) & (entry.events | POLLHUP | POLLERR));
    } else if (descriptor->signal ? descriptor->signalled != 0 : ProcessGone(*descriptor)) {
      entry.revents = static_cast<int16_t>(POLLIN & entry.events);
    }
    if (entry.revents != 0) ++ready;
  }
  return ready;
}

int SimKernel::Poll(std::span<pollfd> fds, int timeout_ms) {
  Lock lock(this);
  if (const int error = faults_.Next(Call::kPoll); error != 0) return -error;
  const uint64_t deadline =
      timeout_ms < 0 ? kNever : machine_.now() + static_cast<uint64_t>(timeout_ms) * 1'000'000;
  while (true) {
    if (const int ready = Ready(fds); ready != 0) return ready;
    if (machine_.now() >= deadline) return 0;
    const uint64_t perf_seen = perf_.wakeups();
    const uint64_t signals_seen = signals_;
    bool more = true;
    while (more && perf_.wakeups() == perf_seen && signals_ == signals_seen) {
      const uint64_t until = std::min(deadline, machine_.now() + kLookAroundNs);
      for (int i = 0; i < kHappeningsPerTurn && perf_.wakeups() == perf_seen; ++i) {
        if (!machine_.RunNext(until)) break;
      }
      more = machine_.now() < deadline;
      if (waiting_ == 0) continue;
      mutex_.Unlock();
      std::this_thread::yield();
      mutex_.Lock();
    }
  }
}

uint64_t SimKernel::Now() {
  Lock lock(this);
  return machine_.now();
}

absl::StatusOr<std::string> SimKernel::ReadFile(const std::string& path, uint64_t limit) {
  Lock lock(this);
  if (const int error = Begin(Call::kReadFile); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot read ", path));
  }
  absl::StatusOr<std::string> text = ReadProcFile(machine_, options_.perf, path);
  if (text.ok() && text->size() > limit) {
    return absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", limit, " bytes"));
  }
  return text;
}

absl::StatusOr<std::string> SimKernel::ReadLink(const std::string& path) {
  return absl::NotFoundError(absl::StrCat(path, " is of no file"));
}

absl::StatusOr<std::vector<int32_t>> SimKernel::ListNumbers(const std::string& folder) {
  Lock lock(this);
  if (const int error = Begin(Call::kListNumbers); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot list ", folder));
  }
  return ListProcNumbers(machine_, folder);
}

}  // namespace lbrd::sim
