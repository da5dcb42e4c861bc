#include "pmu/event.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

EventCounts& EventCounts::operator+=(const EventCounts& other) {
  value += other.value;
  time_enabled_ns += other.time_enabled_ns;
  time_running_ns += other.time_running_ns;
  lost += other.lost;
  return *this;
}

std::shared_ptr<Event> Event::MakeRoot(Kernel& kernel) {
  return std::make_shared<Event>(Private{}, kernel, -1, 0);
}

std::shared_ptr<Event> Event::Open(Kernel& kernel, const perf_event_attr& attr,
                                   const EventPlace& place, int* error) {
  const int fd = kernel.OpenEvent(attr, place.pid, place.cpu, place.flags);
  *error = fd < 0 ? -fd : 0;
  if (fd < 0) return nullptr;
  return std::make_shared<Event>(Private{}, kernel, fd, attr.read_format);
}

std::shared_ptr<Event> Event::Inherit(const std::shared_ptr<Event>& parent,
                                      const perf_event_attr& attr, const EventPlace& place,
                                      int* error) {
  std::shared_ptr<Event> top;
  {
    absl::MutexLock lock(&parent->mutex_);
    top = parent->parent_;
  }
  if (top == nullptr) top = parent;
  std::shared_ptr<Event> child = Open(parent->kernel_, attr, place, error);
  if (child == nullptr) return nullptr;
  {
    // Nobody else knows the child yet: its lock is free, and is let go before the next is taken.
    absl::MutexLock lock(&child->mutex_);
    child->parent_ = top;
  }
  bool born = false;
  {
    absl::MutexLock lock(&top->child_mutex_);
    // A: pairs with B. Either this sees Exit, or the release finds the child in the list.
    if (top->state() != EventState::kExit) born = top->children_.insert(child).second;
  }
  if (!born) {
    {
      absl::MutexLock lock(&child->mutex_);
      child->parent_ = nullptr;
    }
    child->Release();
    *error = ECANCELED;
    return nullptr;
  }
  // C: pairs with D. Either Enable() found the child in the list, or its Active is seen here.
  if (top->state() == EventState::kActive) {
    // In Exit already: the parent was released meanwhile, and the child with it.
    child->Enable().IgnoreError();
  }
  return child;
}

Event::~Event() {
  if (state() != EventState::kExit) CloseDescriptor();
}

absl::Status Event::Enable() {
  EventState seen = EventState::kInactive;
  if (!state_.compare_exchange_strong(seen, EventState::kActive) && seen == EventState::kExit) {
    return absl::FailedPreconditionError("the event was released; open a new one");
  }
  {
    const Use use(*this);
    if (use.fd() >= 0) {
      if (const int error = kernel_.Control(use.fd(), PERF_EVENT_IOC_ENABLE, 0); error < 0) {
        return absl::ErrnoToStatus(-error, "cannot enable an event");
      }
    } else if (hung_up()) {
      return absl::FailedPreconditionError("the event was released; open a new one");
    }
  }
  // D: pairs with C.
  for (const std::shared_ptr<Event>& child : CopyChildren()) {
    const absl::Status enabled = child->Enable();
    // A child that was released meanwhile is no failure of ours.
    if (!enabled.ok() && !child->hung_up()) return enabled;
  }
  return absl::OkStatus();
}

void Event::Disable() {
  EventState seen = EventState::kActive;
  if (!state_.compare_exchange_strong(seen, EventState::kInactive) && seen == EventState::kExit) {
    return;
  }
  {
    const Use use(*this);
    if (use.fd() >= 0) kernel_.Control(use.fd(), PERF_EVENT_IOC_DISABLE, 0);
  }
  for (const std::shared_ptr<Event>& child : CopyChildren()) child->Disable();
}

absl::Status Event::SetPeriod(uint64_t period) {
  {
    const Use use(*this);
    if (use.fd() >= 0) {
      const int error =
          kernel_.Control(use.fd(), PERF_EVENT_IOC_PERIOD,
                          static_cast<uint64_t>(reinterpret_cast<uintptr_t>(&period)));
      if (error < 0) return absl::ErrnoToStatus(-error, "cannot change an event's rate");
    }
  }
  for (const std::shared_ptr<Event>& child : CopyChildren()) {
    const absl::Status set = child->SetPeriod(period);
    // A child that was released meanwhile is no failure of ours.
    if (!set.ok() && !child->hung_up()) return set;
  }
  return absl::OkStatus();
}

void Event::Release() {
  if (state_.exchange(EventState::kExit) == EventState::kExit) {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&released_));
    return;
  }
  WakePollers();
  Children children;
  {
    // B: pairs with A.
    absl::MutexLock lock(&child_mutex_);
    children.swap(children_);
  }
  for (const std::shared_ptr<Event>& child : children) child->Release();
  const EventCounts last = CloseDescriptor();
  std::shared_ptr<Event> parent;
  {
    absl::MutexLock lock(&mutex_);
    last_ = last;
    parent.swap(parent_);
  }
  if (parent != nullptr) parent->Fold(shared_from_this(), last);
  absl::MutexLock lock(&mutex_);
  released_ = true;
}

void Event::Fold(const std::shared_ptr<Event>& child, const EventCounts& counts) {
  {
    // Leaving and being folded is one step for readers.
    absl::MutexLock lock(&child_mutex_);
    children_.erase(child);
    folded_ += counts;
  }
  WakePollers();
}

EventCounts Event::CloseDescriptor() {
  int fd;
  {
    absl::MutexLock lock(&mutex_);
    const auto unused = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return users_ == 0; };
    mutex_.Await(absl::Condition(&unused));
    fd = std::exchange(fd_, -1);
  }
  if (fd < 0) return {};
  // Disabling returns when the event has stopped on its CPU, so what is read then is final.
  kernel_.Control(fd, PERF_EVENT_IOC_DISABLE, 0);
  const EventCounts last = ReadDescriptor(fd);
  kernel_.Close(fd);
  return last;
}

EventCounts Event::ReadDescriptor(int fd) const {
  uint64_t words[5] = {};
  if (kernel_.ReadCounts(fd, words) < 0) return {};
  // The kernel leaves out what was not asked for, and moves the rest up.
  EventCounts counts;
  size_t at = 0;
  counts.value = words[at++];
  if ((read_format_ & PERF_FORMAT_TOTAL_TIME_ENABLED) != 0) counts.time_enabled_ns = words[at++];
  if ((read_format_ & PERF_FORMAT_TOTAL_TIME_RUNNING) != 0) counts.time_running_ns = words[at++];
  if ((read_format_ & PERF_FORMAT_ID) != 0) ++at;
  if ((read_format_ & PERF_FORMAT_LOST) != 0) counts.lost = words[at++];
  return counts;
}

EventCounts Event::Read() const {
  EventCounts sum;
  std::vector<std::shared_ptr<Event>> children;
  bool exit = false;
  {
    absl::MutexLock lock(&child_mutex_);
    // Not Exit under this lock: a release has not taken the children yet.
    exit = hung_up();
    if (!exit) {
      sum = folded_;
      children.assign(children_.begin(), children_.end());
    }
  }
  if (!exit) {
    // A child that leaves meanwhile answers with its last counts, which `sum` does not hold.
    for (const std::shared_ptr<Event>& child : children) sum += child->Read();
    const Use use(*this);
    if (use.fd() >= 0) {
      sum += ReadDescriptor(use.fd());
      return sum;
    }
    if (!hung_up()) return sum;
  }
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&released_));
    sum = last_;
  }
  absl::MutexLock lock(&child_mutex_);
  sum += folded_;
  return sum;
}

size_t Event::children() const {
  absl::MutexLock lock(&child_mutex_);
  return children_.size();
}

uint64_t Event::NextBirth() {
  static std::atomic<uint64_t> births = 0;
  return births.fetch_add(1, std::memory_order_relaxed);
}

std::vector<std::shared_ptr<Event>> Event::CopyChildren() const {
  absl::MutexLock lock(&child_mutex_);
  return {children_.begin(), children_.end()};
}

void Event::Watch(int signal_fd) {
  absl::MutexLock lock(&mutex_);
  watchers_.push_back(signal_fd);
}

void Event::Unwatch(int signal_fd) {
  absl::MutexLock lock(&mutex_);
  watchers_.erase(std::remove(watchers_.begin(), watchers_.end(), signal_fd), watchers_.end());
}

void Event::WakePollers() {
  // Under the lock, so that a descriptor given to Unwatch() is not touched after it.
  absl::MutexLock lock(&mutex_);
  for (const int signal_fd : watchers_) kernel_.Signal(signal_fd);
}

int Event::BeginUse() const {
  absl::MutexLock lock(&mutex_);
  if (hung_up() || fd_ < 0) return -1;
  ++users_;
  return fd_;
}

void Event::EndUse() const {
  absl::MutexLock lock(&mutex_);
  --users_;
}

}  // namespace lbrd::pmu
