// PerfEvents: what is done with an open event: ioctl, read, mmap, poll.
#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "tests/sim/perf_events.h"

namespace lbrd::sim {
namespace {

// The arguments of some requests are pointers, which the caller's own memory is behind.
uint64_t* Pointer(uint64_t argument) { return reinterpret_cast<uint64_t*>(argument); }

}  // namespace

int PerfEvents::Control(Event* event, unsigned long request, uint64_t argument, Event* output) {
  const auto for_all = [&](const auto& action) {
    action(event);
    for (const std::unique_ptr<Event>& child : event->children) action(child.get());
  };
  const EventConfig& config = *event->config;
  switch (request) {
    case PERF_EVENT_IOC_ENABLE:
      for_all([this](Event* e) {
        if (!e->on() && e->state != EventState::kExit) TurnOn(e);
      });
      return 0;
    case PERF_EVENT_IOC_DISABLE:
      for_all([this](Event* e) {
        if (e->on()) TurnOff(e, EventState::kOff);
      });
      return 0;
    case PERF_EVENT_IOC_RESET:
      for_all([this](Event* e) {
        SyncEvent(e);
        e->count = 0;
      });
      return 0;
    case PERF_EVENT_IOC_REFRESH:
      if (config.attr.inherit || event->period == 0) return EINVAL;
      event->limit += static_cast<int64_t>(argument);
      if (!event->on() && event->state != EventState::kExit) TurnOn(event);
      return 0;
    case PERF_EVENT_IOC_PERIOD: {
      uint64_t value;
      std::memcpy(&value, Pointer(argument), sizeof(value));
      if (event->period == 0 || value == 0) return EINVAL;
      if (config.attr.freq) {
        if (value > options_.max_sample_rate) return EINVAL;
        value = std::max<uint64_t>(std::max<uint64_t>(config.rate, 1) * 1'000'000'000 / value, 1);
      } else if (value >> 63 != 0) {
        return EINVAL;
      }
      for_all([this, value](Event* e) {
        SyncEvent(e);
        e->period = value;
        e->left = static_cast<int64_t>(value);
        if (e->on()) RescheduleFor(e);
      });
      return 0;
    }
    case PERF_EVENT_IOC_ID:
      std::memcpy(Pointer(argument), &event->id, sizeof(event->id));
      return 0;
    case PERF_EVENT_IOC_PAUSE_OUTPUT:
      if (event->ring == nullptr) return EINVAL;
      event->ring->set_paused(argument != 0);
      return 0;
    case PERF_EVENT_IOC_SET_OUTPUT:
      if (event->maps != 0) return EINVAL;
      if (output == nullptr) {
        event->ring = nullptr;
        return 0;
      }
      // A ring is of one CPU, or of one task.
      if (output == event || output->cpu != event->cpu) return EINVAL;
      if (event->cpu == -1 && output->task != event->task) return EINVAL;
      if (output->ring == nullptr) return EINVAL;
      event->ring = output->ring;
      return 0;
    default:
      return ENOTTY;
  }
}

int64_t PerfEvents::Read(Event* event, std::span<uint64_t> out) {
  if (event->state == EventState::kError) return 0;
  SyncEvent(event);
  for (const std::unique_ptr<Event>& child : event->children) SyncEvent(child.get());
  PutCounts(*event, &read_values_);
  if (out.size() < read_values_.size()) return -ENOSPC;
  std::copy(read_values_.begin(), read_values_.end(), out.begin());
  return static_cast<int64_t>(read_values_.size() * sizeof(uint64_t));
}

void* PerfEvents::Map(Event* event, uint64_t data_bytes, int* error) {
  *error = 0;
  const uint64_t pages = data_bytes / kSimPageBytes;
  if (data_bytes % kSimPageBytes != 0 || (pages != 0 && !std::has_single_bit(pages)) ||
      (event->cpu == -1 && event->config->attr.inherit)) {
    *error = EINVAL;
    return nullptr;
  }
  if (event->ring != nullptr) {
    // Mapped again: the same ring, of the same size.
    void* memory = event->ring->memory();
    const auto found = maps_.find(memory);
    if (event->ring->data_bytes() != data_bytes || found == maps_.end()) {
      *error = EINVAL;
      return nullptr;
    }
    ++found->second.count;
    ++found->second.event->references;
    return memory;
  }
  if (locked_bytes_ + kSimPageBytes + data_bytes > options_.max_locked_bytes) {
    *error = EPERM;
    return nullptr;
  }
  const perf_event_attr& attr = event->config->attr;
  event->ring = RingWriter::Make(data_bytes, attr.watermark ? attr.wakeup_watermark : 0);
  if (event->ring == nullptr) {
    *error = ENOMEM;
    return nullptr;
  }
  locked_bytes_ += kSimPageBytes + data_bytes;
  ++event->references;
  ++event->maps;
  maps_[event->ring->memory()] = {event->ring, event, 1};
  return event->ring->memory();
}

bool PerfEvents::Unmap(void* memory, uint64_t data_bytes) {
  const auto found = maps_.find(memory);
  if (found == maps_.end() || found->second.ring->data_bytes() != data_bytes) return false;
  Event* event = found->second.event;
  if (--found->second.count == 0) {
    // Events that were redirected here lose it too.
    const std::shared_ptr<RingWriter> ring = found->second.ring;
    maps_.erase(found);
    locked_bytes_ -= kSimPageBytes + data_bytes;
    event->maps = 0;
    for (auto& [other, owned] : roots_) {
      if (other->ring == ring) other->ring = nullptr;
    }
  }
  DropReference(event);
  return true;
}

int16_t PerfEvents::Poll(Event* event) {
  if (event->state == EventState::kExit && event->children.empty()) return POLLHUP;
  if (event->state == EventState::kError && event->config->attr.pinned) return POLLERR;
  if (event->ring == nullptr) return POLLHUP;
  return event->ring->TakeReadable() ? POLLIN : 0;
}

}  // namespace lbrd::sim
