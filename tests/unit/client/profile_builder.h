// Builds profiles for tests: definitions get ids in the order they are made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lbrd/v1/sample.pb.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::client {

struct ProfileBuilder {
  v1::Profile profile;
  v1::Session session;

  // A session of one event, cpu-clock in ns at 1000 Hz.
  ProfileBuilder() {
    session.set_name("test-1");
    AddEvent("cpu-clock", "ns", 1'000'000);
  }

  void AddEvent(const std::string& name, const std::string& unit, uint64_t period) {
    v1::SessionEvent* event = session.add_events();
    event->set_name(name);
    event->set_unit(unit);
    event->set_period(period);
    event->set_stack_mode(v1::STACK_MODE_DWARF);
  }

  uint32_t Binary(const std::string& path, const std::string& build_id = "") {
    v1::Binary* binary = profile.mutable_definitions()->add_binaries();
    binary->set_id(static_cast<uint32_t>(profile.definitions().binaries_size()));
    binary->set_path(path);
    binary->set_build_id(build_id);
    return binary->id();
  }

  uint32_t Frame(const std::string& symbol, uint32_t binary_id = 0,
                 v1::FrameSource source = v1::FRAME_SOURCE_DWARF) {
    v1::Frame* frame = profile.mutable_definitions()->add_frames();
    frame->set_id(static_cast<uint32_t>(profile.definitions().frames_size()));
    frame->set_symbol(symbol);
    frame->set_binary_id(binary_id);
    frame->set_source(source);
    frame->set_offset(4 * frame->id());
    frame->set_ip((source == v1::FRAME_SOURCE_KERNEL ? 0xffffffff81000000u : 0x55550000u) +
                  16 * frame->id());
    return frame->id();
  }

  // Frames are given leaf first. With a reason the stack is truncated.
  uint64_t Stack(const std::vector<uint32_t>& frame_ids, const std::string& reason = "") {
    v1::Stack* stack = profile.mutable_definitions()->add_stacks();
    stack->set_id(static_cast<uint64_t>(profile.definitions().stacks_size()));
    stack->mutable_frame_ids()->Add(frame_ids.begin(), frame_ids.end());
    stack->mutable_verdict()->set_state(reason.empty() ? v1::STACK_STATE_COMPLETE
                                                       : v1::STACK_STATE_TRUNCATED);
    stack->mutable_verdict()->set_reason(reason);
    return stack->id();
  }

  uint32_t Thread(int32_t pid, int32_t tid, const std::string& comm,
                  const std::string& process_comm) {
    v1::Thread* thread = profile.mutable_definitions()->add_threads();
    thread->set_id(static_cast<uint32_t>(profile.definitions().threads_size()));
    thread->set_pid(pid);
    thread->set_tid(tid);
    thread->set_comm(comm);
    thread->set_process_comm(process_comm);
    return thread->id();
  }

  // Each sample weighs 1 ms, or one unit of another event.
  void Entry(uint64_t stack_id, uint32_t thread_id, uint64_t samples, uint32_t event = 0) {
    v1::ProfileEntry* entry = profile.add_entries();
    entry->set_stack_id(stack_id);
    entry->set_thread_id(thread_id);
    entry->set_samples(samples);
    entry->set_weight(event == 0 ? samples * 1'000'000 : samples);
    entry->set_event(event);
  }
};

}  // namespace lbrd::client
