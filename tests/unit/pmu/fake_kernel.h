// A machine in memory, behind pmu/'s one door to the kernel: which events open is scripted by
// errno, rings are plain memory that tests write byte by byte, files are text, and the clock stands
// still unless it is moved.
//
// Thread rules: Signal() from any thread; everything else from one.
#pragma once

#include <linux/perf_event.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "pmu/kernel.h"

namespace lbrd::pmu {

class FakeKernel : public Kernel {
 public:
  static constexpr uint64_t kPage = 4096;

  struct Event {
    perf_event_attr attr{};
    int32_t pid = 0;
    int32_t cpu = 0;
    unsigned long flags = 0;
    bool enabled = false;
    int output = -1;  // whose ring it writes to
    std::vector<uint64_t> counts;
  };

  // 0: the event opens; otherwise the errno of perf_event_open.
  std::function<int(const perf_event_attr&, int32_t pid, int32_t cpu)> refuse =
      [](const perf_event_attr&, int32_t, int32_t) { return 0; };
  // The same for the request of an ioctl.
  std::function<int(unsigned long request)> refuse_control = [](unsigned long) { return 0; };
  // What the counts of an event read as; the id is filled in by whoever cares.
  std::function<std::vector<uint64_t>(const Event&)> counts = [](const Event&) {
    return std::vector<uint64_t>(5, 0);
  };
  std::function<int()> refuse_map = [] { return 0; };
  std::function<void(const std::string& folder)> on_list = [](const std::string&) {};
  int signal_error = 0;
  std::map<std::string, int> folder_errors;  // 0: the folder opens
  uint64_t descriptor_limit = 1024;
  std::set<int> hung_up;  // descriptors of events that poll as such
  int pid_error = 0;
  bool process_gone = false;
  std::map<std::string, std::string> files;
  std::map<std::string, std::vector<int32_t>> folders;
  uint64_t now = 1;

  // Every attr that was asked for, in order, and what became of it.
  struct Attempt {
    perf_event_attr attr{};
    int32_t pid = 0;
    int32_t cpu = 0;
    unsigned long flags = 0;
    int error = 0;
  };
  std::vector<Attempt> attempts;

  size_t open_descriptors() const { return events_.size() + others_.size(); }
  size_t mapped_rings() const { return rings_.size(); }
  const std::map<int, Event>& events() const { return events_; }
  bool signalled() const { return signalled_; }

  // Commits a record to the ring of `cpu`. False: no room (or no ring).
  bool Write(int32_t cpu, std::span<const uint64_t> record) { return WriteTo(RingOf(cpu), record); }
  // The same for the ring that a thread's own sampling event on a CPU writes to.
  bool WriteAs(int32_t tid, int32_t cpu, std::span<const uint64_t> record) {
    for (const auto& [fd, event] : events_) {
      if (event.pid != tid || event.cpu != cpu || event.attr.config == PERF_COUNT_SW_DUMMY)
        continue;
      for (const auto& [memory, ring] : rings_) {
        if (ring->fd == (event.output >= 0 ? event.output : fd)) return WriteTo(ring.get(), record);
      }
    }
    return false;
  }
  // The same for the ring of a thread that is followed on any CPU.
  bool WriteToThread(int32_t tid, std::span<const uint64_t> record) {
    for (const auto& [memory, ring] : rings_) {
      if (ring->cpu < 0 && ring->pid == tid) return WriteTo(ring.get(), record);
    }
    return false;
  }
  // The descriptor whose ring is a thread's; -1: it has none.
  int RingDescriptor(int32_t tid) const {
    for (const auto& [memory, ring] : rings_) {
      if (ring->cpu < 0 && ring->pid == tid) return ring->fd;
    }
    return -1;
  }
  // The control page of the ring of `cpu`; nullptr: it has none.
  perf_event_mmap_page* Control(int32_t cpu) {
    RingMemory* ring = RingOf(cpu);
    return ring == nullptr ? nullptr : ring->control();
  }

  int OpenEvent(const perf_event_attr& attr, int32_t pid, int32_t cpu,
                unsigned long flags) override {
    const int error = refuse(attr, pid, cpu);
    attempts.push_back({attr, pid, cpu, flags, error});
    if (error != 0) return -error;
    Event event;
    event.flags = flags;
    event.enabled = attr.disabled == 0;
    event.attr = attr;
    event.pid = pid;
    event.cpu = cpu;
    events_.emplace(next_fd_, event);
    return next_fd_++;
  }
  int OpenPid(int32_t) override { return pid_error != 0 ? -pid_error : OpenOther(Kind::kPid); }
  int OpenFolder(const std::string& path) override {
    const auto found = folder_errors.find(path);
    return found == folder_errors.end() ? -ENOENT
           : found->second != 0         ? -found->second
                                        : OpenOther(Kind::kFolder);
  }
  uint64_t DescriptorLimit() override { return descriptor_limit; }
  int OpenSignal() override { return signal_error != 0 ? -signal_error : OpenOther(Kind::kSignal); }
  void Signal(int) override { signalled_ = true; }
  void Close(int fd) override {
    if (events_.erase(fd) + others_.erase(fd) != 1) ++bad_closes;
  }
  int bad_closes = 0;  // descriptors closed that were not open

  int Control(int fd, unsigned long request, uint64_t argument) override {
    if (const int error = refuse_control(request); error != 0) return -error;
    const auto found = events_.find(fd);
    if (found == events_.end()) return -EBADF;
    if (request == PERF_EVENT_IOC_ENABLE) found->second.enabled = true;
    if (request == PERF_EVENT_IOC_DISABLE) found->second.enabled = false;
    if (request == PERF_EVENT_IOC_SET_OUTPUT) found->second.output = static_cast<int>(argument);
    return 0;
  }
  int64_t ReadCounts(int fd, std::span<uint64_t> out) override {
    if (others_.count(fd) != 0) {
      signalled_ = false;
      return 8;
    }
    const auto found = events_.find(fd);
    if (found == events_.end()) return -EBADF;
    const std::vector<uint64_t> values = counts(found->second);
    const size_t taken = std::min(values.size(), out.size());
    std::copy_n(values.begin(), taken, out.begin());
    return static_cast<int64_t>(taken * sizeof(uint64_t));
  }

  void* MapRing(int fd, uint64_t data_bytes, int* error) override {
    *error = refuse_map();
    if (*error != 0) return nullptr;
    auto ring = std::make_unique<RingMemory>();
    ring->fd = fd;
    ring->cpu = events_.at(fd).cpu;
    ring->pid = events_.at(fd).pid;
    ring->data_bytes = data_bytes;
    ring->words = std::make_unique<uint64_t[]>((kPage + data_bytes) / 8);
    void* memory = ring->words.get();
    rings_.emplace(memory, std::move(ring));
    return memory;
  }
  void UnmapRing(void* ring, uint64_t data_bytes) override {
    const auto found = rings_.find(ring);
    if (found == rings_.end() || found->second->data_bytes != data_bytes) {
      ++bad_closes;
      return;
    }
    rings_.erase(found);
  }

  // Never blocks: reports what is ready now.
  int Poll(std::span<pollfd> fds, int) override {
    int ready = 0;
    for (pollfd& entry : fds) {
      entry.revents = 0;
      if (hung_up.count(entry.fd) != 0) {
        entry.revents = POLLHUP;
        ++ready;
        continue;
      }
      const auto other = others_.find(entry.fd);
      if (other == others_.end()) continue;
      const bool readable = other->second == Kind::kPid ? process_gone : signalled_.load();
      if (!readable) continue;
      entry.revents = POLLIN;
      ++ready;
    }
    return ready;
  }

  uint64_t Now() override { return now; }
  uint64_t PageBytes() override { return kPage; }

  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) override {
    const auto found = files.find(path);
    if (found == files.end()) return absl::NotFoundError(path);
    if (found->second.size() > limit) return absl::ResourceExhaustedError(path);
    return found->second;
  }
  absl::StatusOr<std::string> ReadLink(const std::string& path) override {
    return absl::NotFoundError(path);
  }
  absl::StatusOr<std::vector<int32_t>> ListNumbers(const std::string& folder) override {
    on_list(folder);
    const auto found = folders.find(folder);
    if (found == folders.end()) return absl::NotFoundError(folder);
    return found->second;
  }

 private:
  enum class Kind { kPid, kSignal, kFolder };
  struct RingMemory {
    int fd = -1;
    int32_t cpu = -1;
    int32_t pid = -1;
    uint64_t data_bytes = 0;
    std::unique_ptr<uint64_t[]> words;
    perf_event_mmap_page* control() { return reinterpret_cast<perf_event_mmap_page*>(words.get()); }
    std::byte* data() { return reinterpret_cast<std::byte*>(words.get()) + kPage; }
  };

  int OpenOther(Kind kind) {
    others_.emplace(next_fd_, kind);
    return next_fd_++;
  }
  static bool WriteTo(RingMemory* ring, std::span<const uint64_t> record) {
    if (ring == nullptr) return false;
    perf_event_mmap_page* control = ring->control();
    const size_t bytes = record.size_bytes();
    if (ring->data_bytes - (control->data_head - control->data_tail) < bytes) return false;
    const auto* from = reinterpret_cast<const std::byte*>(record.data());
    for (size_t i = 0; i < bytes; ++i) {
      ring->data()[(control->data_head + i) & (ring->data_bytes - 1)] = from[i];
    }
    std::atomic_ref<__u64>(control->data_head).fetch_add(bytes, std::memory_order_release);
    return true;
  }
  RingMemory* RingOf(int32_t cpu) {
    for (const auto& [memory, ring] : rings_) {
      if (ring->cpu == cpu) return ring.get();
    }
    return nullptr;
  }

  std::map<int, Event> events_;
  std::map<int, Kind> others_;
  std::map<void*, std::unique_ptr<RingMemory>> rings_;
  std::atomic<bool> signalled_ = false;
  int next_fd_ = 100;
};

}  // namespace lbrd::pmu
