// How a simulated task spends its time: mean durations, and chances per million steps.
//
// A step is one call, return, jump or pause of the program. Its mean length decides what a virtual
// second costs: about 0.2 us of real time a step.
#pragma once

#include <cstdint>

namespace lbrd::sim {

struct Behaviour {
  uint64_t mean_step_ns = 20'000;
  uint64_t mean_kernel_ns = 3'000;     // of one stay in the kernel
  uint64_t mean_sleep_ns = 1'000'000;  // 0: sleeps until somebody wakes it
  uint32_t target_depth = 12;          // frames the stack hovers about
  uint32_t max_depth = 200;

  // Chances of a step being this, per million.
  uint32_t sleep = 20'000;
  uint32_t system_call = 20'000;
  uint32_t page_fault = 5'000;
  uint32_t fork = 0;
  uint32_t thread = 0;
  uint32_t exec = 0;
  uint32_t exit = 0;         // of the process
  uint32_t exit_thread = 0;  // a leader may go before its threads
  uint32_t map = 0;          // maps or unmaps memory with code in it
  uint32_t rename = 0;
  uint32_t long_jump = 0;  // leaves frames behind in the LBR
  uint32_t fiber = 0;      // switches to another stack, which the LBR knows nothing of
};

}  // namespace lbrd::sim
