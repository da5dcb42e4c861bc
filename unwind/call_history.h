// The calls that are active on a task's stack, as its LBR told them: what one window is made of,
// and what is remembered of a task from one sample to the next.
//
// Thread rules: plain data; one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace lbrd::unwind {

struct Call {
  uint64_t from = 0;  // the call instruction
  uint64_t to = 0;    // what it called
  bool operator==(const Call&) const = default;
};

// A task's last logical stack: its last window, and below it what earlier windows told.
struct CallHistory {
  std::vector<Call> calls;     // leaf first
  bool reaches_start = false;  // the oldest call is the thread's start's
  // The hardware's index of the youngest call, where it has one.
  std::optional<uint32_t> top_of_stack;
  uint64_t time_ns = 0;  // of the sample

  // Unknown, with the room that its calls had.
  void Clear() {
    calls.clear();
    reaches_start = false;
    top_of_stack.reset();
    time_ns = 0;
  }
};

// Where a task's history is kept. Not knowing the task is a history that is empty, and stays so.
class TaskHistory {
 public:
  TaskHistory() = default;
  TaskHistory(const TaskHistory&) = delete;
  TaskHistory& operator=(const TaskHistory&) = delete;
  virtual ~TaskHistory() = default;
  // False: there is none; *history is empty then.
  virtual bool Load(CallHistory* history) = 0;
  virtual void Store(const CallHistory& history) = 0;
};

}  // namespace lbrd::unwind
