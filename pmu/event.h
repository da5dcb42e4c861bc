// One perf event with a life of its own.
//
//   Inactive ──Enable()──► Active
//       └──────Release()──────┴──► Exit (final)
//
// Life is a state, not a reference: a reference keeps the object's memory valid and says nothing
// about whether the event still counts, and no owner is recorded, so that whoever created an event
// may go while others use it. An event in Exit answers reads with its last counts, cannot be
// enabled, has no children and no descriptor.
//
// Events form a tree of two levels. A child counts for its parent: a parent's counts are its own,
// those of living children, and those folded into it when a child was released. A root may have no
// descriptor of its own and be nothing but its children: then it is a session's event, and its
// children are the pieces on CPUs and threads. Where the kernel inherits (perf_event_attr::inherit)
// the counts of what it made are in the descriptor's already, and nothing here changes.
//
// Release() is synchronous: when it returns, neither the event nor any child counts, and no
// descriptor of them is open. A release can miss no child that is being born, since Inherit() looks
// at the parent's state and joins its list under one lock, and Release() sets Exit before it takes
// that lock. Any number of releases of an event may run at once; all return when the work is done.
//
// Locks: child_mutex_ (the children and what was folded) and mutex_ (descriptor, users, watchers);
// neither is ever held while another lock, of this or any other event, is taken.
//
// Memory: about 250 bytes an event. Descriptors: one an event, none for a root made without one.
// Thread rules: thread-safe. A thread that holds a Use of an event must not release or read it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "pmu/kernel.h"

namespace lbrd::pmu {

struct EventCounts {
  uint64_t value = 0;            // in the event's unit
  uint64_t time_enabled_ns = 0;  // how long it was to count
  uint64_t time_running_ns = 0;  // how long it was on the hardware
  uint64_t lost = 0;             // records that found no room in the ring (Linux 6.0)

  EventCounts& operator+=(const EventCounts& other);
  friend bool operator==(const EventCounts&, const EventCounts&) = default;
};

// What perf_event_open(2) is told of where to count.
struct EventPlace {
  int32_t pid = -1;         // a thread; -1: all; with PERF_FLAG_PID_CGROUP a folder's descriptor
  int32_t cpu = -1;         // -1: any (with a thread only)
  unsigned long flags = 0;  // PERF_FLAG_…
};

enum class EventState : uint8_t { kInactive, kActive, kExit };

class Event : public std::enable_shared_from_this<Event> {
  struct Private {};

 public:
  // A root that is nothing but its children.
  static std::shared_ptr<Event> MakeRoot(Kernel& kernel);
  // Opens an event, disabled if attr.disabled says so. nullptr: *error is an errno.
  static std::shared_ptr<Event> Open(Kernel& kernel, const perf_event_attr& attr,
                                     const EventPlace& place, int* error);
  // The same as a child of `parent` (of its parent, if it is a child itself), enabled if that is.
  // nullptr with ECANCELED: the parent is in Exit; nothing stays open.
  static std::shared_ptr<Event> Inherit(const std::shared_ptr<Event>& parent,
                                        const perf_event_attr& attr, const EventPlace& place,
                                        int* error);

  Event(Private, Kernel& kernel, int fd, uint64_t read_format)
      : kernel_(kernel), read_format_(read_format), fd_(fd) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  // Closes what was never released. (A root that has children must be released: they hold it.)
  ~Event();

  // Starts counting, with all children, and with all that will be born. kFailedPrecondition: in
  // Exit.
  absl::Status Enable();
  // Stops counting, with all children, until enabled again. Nothing in Exit.
  void Disable();
  // Changes how often it samples, with all children: a period, or with attr.freq a frequency. The
  // count towards the next sample begins anew. The kernel's error, of the first that refuses;
  // children that went before have changed then.
  absl::Status SetPeriod(uint64_t period);
  // The end. A child's counts are folded into its parent: this is also what is called when the
  // thread that a child counted has exited.
  void Release();

  // This event's and its children's; in Exit, the last ones (waits for a release under way).
  EventCounts Read() const;
  EventState state() const { return state_.load(std::memory_order_acquire); }
  // What a poller asks when it is woken.
  bool hung_up() const { return state() == EventState::kExit; }
  size_t children() const;

  // A descriptor of Kernel::OpenSignal(), signalled when the event is released and when a child of
  // it is. Removed by Unwatch(), after which it will not be touched.
  void Watch(int signal_fd);
  void Unwatch(int signal_fd);

  // Keeps the descriptor open as long as it lives: Release() wakes pollers, then waits for it.
  class Use {
   public:
    explicit Use(const Event& event) : event_(event), fd_(event.BeginUse()) {}
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      if (fd_ >= 0) event_.EndUse();
    }
    int fd() const { return fd_; }  // -1: none, or in Exit

   private:
    const Event& event_;
    const int fd_;
  };

 private:
  int BeginUse() const;
  void EndUse() const;
  EventCounts ReadDescriptor(int fd) const;
  // Stops it, takes its last counts and gives it back.
  EventCounts CloseDescriptor();
  // Takes over what a child counted, which leaves.
  void Fold(const std::shared_ptr<Event>& child, const EventCounts& counts);
  void WakePollers();
  std::vector<std::shared_ptr<Event>> CopyChildren() const;

  Kernel& kernel_;
  const uint64_t read_format_;
  std::atomic<EventState> state_ = EventState::kInactive;

  mutable absl::Mutex mutex_;
  int fd_ ABSL_GUARDED_BY(mutex_);  // -1: none
  mutable int users_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<Event> parent_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> watchers_ ABSL_GUARDED_BY(mutex_);
  EventCounts last_ ABSL_GUARDED_BY(mutex_);
  bool released_ ABSL_GUARDED_BY(mutex_) = false;

  mutable absl::Mutex child_mutex_;
  // In the order of their births, so that the same calls are made in the same order in each run.
  struct ByBirth {
    bool operator()(const std::shared_ptr<Event>& a, const std::shared_ptr<Event>& b) const {
      return a->birth_ < b->birth_;
    }
  };
  static uint64_t NextBirth();
  using Children = std::set<std::shared_ptr<Event>, ByBirth>;
  const uint64_t birth_ = NextBirth();
  Children children_ ABSL_GUARDED_BY(child_mutex_);
  EventCounts folded_ ABSL_GUARDED_BY(child_mutex_);
};

}  // namespace lbrd::pmu
